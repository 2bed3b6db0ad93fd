"""The example of the newcomer's page does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to-add.md"


def test_the_example_of_the_page_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {"__name__": "how_to_add"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # the page is ours
    assert names["disks"].full == {}  # type: ignore[attr-defined]
