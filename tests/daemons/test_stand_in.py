"""What serves a host's clients on standby is replaced only when they must go to another head."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from heorot.daemons.stand_in import StandIn
from heorot.linux.process import fork_daemon


class Rig:
    """A stand-in whose process does nothing."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self.said: list[str] = []
        self.stand_in = StandIn(self._start, lambda level, text: self.said.append(text))

    def _start(self, leader: str) -> int:
        pid = fork_daemon("nothing", set(), signal.pause)
        self.started.append((leader, pid))
        return pid


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.stand_in.end(signal.SIGKILL)


def leaders(rig: Rig) -> list[str]:
    """Return for whom a process was started."""
    return [leader for leader, _ in rig.started]


def test_clients_come_again_when_another_head_leads_and_only_then(rig: Rig) -> None:
    for leader in ("", "h1", "", "h1"):
        rig.stand_in.keep(leader)
    assert leaders(rig) == [""]
    rig.stand_in.keep("h2")
    assert leaders(rig) == ["", "h2"]
    assert rig.said == []


def test_one_that_was_killed_is_started_again_for_the_head_that_leads(rig: Rig) -> None:
    rig.stand_in.keep("h1")
    os.kill(rig.started[0][1], signal.SIGKILL)
    os.waitid(os.P_PID, rig.started[0][1], os.WEXITED | os.WNOWAIT)
    while len(rig.started) == 1:
        rig.stand_in.keep("h1")
    assert leaders(rig) == ["h1", "h1"]
    assert "starting it again" in rig.said[0]
