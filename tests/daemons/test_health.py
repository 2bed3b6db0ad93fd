"""The checks of nodes at intervals, where the head's host lacks what they need."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from heorot.daemons.health import HealthChecks, HealthSettings
from heorot.runtime.loop import EpollLoop
from tests.support.waiting import await_that


def test_without_descriptors_no_node_is_checked_and_the_head_goes_on(tmp_path: Path) -> None:
    loop = EpollLoop()
    said: list[str] = []
    settings = HealthSettings(("/bin/true",), tmp_path / "no-cluster", every_ms=1)
    checks = HealthChecks(loop, settings, lambda found: None, lambda level, text: said.append(f"{level}: {text}"))
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    os.close(spare)

    def says(part: str) -> bool:
        loop.run_once(0.01)
        return any(part in text for text in said)

    try:
        # One is left at most: a pipe has two.
        for left in (0, 1):
            said.clear()
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare + left, most))
            await_that(lambda: says("warning: nodes are not checked: Too many open files"), "what is lacking")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
    await_that(lambda: says("no-cluster"), "the check itself, again")
    checks.close()
    loop.close()
