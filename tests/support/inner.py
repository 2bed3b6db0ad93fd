"""A pytest inside a test, to see what the plugins of the tests do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ("tests.surroundings", "tests.time_limit", "tests.leaks")


def start_inner(
    directory: Path, source: str, *options: str, wrapper: Sequence[str] = (), environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start the tests of `source` in a pytest of their own; `wrapper` is a program that runs it."""
    (directory / "test_inner.py").write_text(textwrap.dedent(source))
    (directory / "pytest.ini").write_text("[pytest]\n")
    made = {**os.environ, "PYTHONPATH": str(ROOT), "HEOROT_TEST_GRACE_S": "0.2", **(environment or {})}
    plugins = [word for name in PLUGINS for word in ("-p", name)]
    command = [*wrapper, sys.executable, "-m", "pytest", *plugins, "-p", "no:cacheprovider", "-vv", "--color=no", "."]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    return subprocess.Popen([*command, *options], cwd=directory, env=made, text=True, **pipes)


def run_inner(directory: Path, source: str, *options: str, status: int = 1, **how: Any) -> str:
    """Run the tests of `source`, which end with this status; return what is printed."""
    with start_inner(directory, source, *options, **how) as inner:
        try:
            output, _ = inner.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            inner.kill()
            raise
    assert inner.returncode == status, output
    return output
