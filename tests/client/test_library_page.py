"""Every example of docs/library.md runs, and prints what the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.support.local_cluster import ROOT, LocalCluster

PAGE = (ROOT / "docs" / "library.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```output\n(.*?)```\n", PAGE, re.DOTALL)


@pytest.mark.parametrize(("program", "output"), EXAMPLES)
def test_an_example_prints_what_the_page_says(cluster: LocalCluster, tmp_path: Path, program: str, output: str) -> None:
    path = tmp_path / "example.py"
    path.write_text(program)
    result = cluster.run(sys.executable, "-W", "error", str(path))
    assert (result.stdout.decode(), result.stderr.decode()) == (output, "")


def test_every_example_was_found() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") >= 7
