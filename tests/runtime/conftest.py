"""A loop, identities, and a way to wait for a condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heorot.runtime import loop as loops
from heorot.runtime.loop import EpollLoop
from heorot.security.authority import Authority
from tests.support.waiting import DEADLINE_S


@pytest.fixture
def loop() -> Iterator[EpollLoop]:
    """A loop of our own."""
    made = EpollLoop()
    yield made
    made.close()


@pytest.fixture
def until(loop: EpollLoop) -> Callable[[Callable[[], object]], None]:
    """Run the loop until a condition holds; fail after the deadline."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = loop.time() + DEADLINE_S
        while not condition():
            assert loop.time() < deadline, "the condition did not come true in time"
            loop.run_once(0.05)

    return wait


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the authority of the cluster ``test``, head h0 and nodes n0 and n1, and of another cluster."""
    directory = tmp_path_factory.mktemp("cluster")
    authority = Authority.create(directory / "ca", "test")
    authority.issue_head("h0").write(directory / "h0")
    for number in range(2):
        authority.issue_node(number).write(directory / f"n{number}")
    Authority.create(directory / "ca2", "other").issue_node(5).write(directory / "stranger")
    return directory


class Clock:
    """The loop's clock, which a test can put forward."""

    def __init__(self) -> None:
        self._real = loops.boot_time
        self._skipped_s = 0.0

    def time(self) -> float:
        """Return the time, seconds."""
        return self._real() + self._skipped_s

    def pass_over(self, time_s: float) -> None:
        """Put the clock forward: so long has something taken."""
        self._skipped_s += time_s

    def skip(self, time_s: float, loop: EpollLoop) -> None:
        """Put the clock forward, and let the loop do what is due now."""
        self._skipped_s += time_s
        for _ in range(3):
            loop.run_once(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for all loops of the test."""
    made = Clock()
    monkeypatch.setattr(loops, "boot_time", made.time)
    monkeypatch.setattr(EpollLoop, "time", staticmethod(made.time))
    return made
