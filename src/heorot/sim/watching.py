"""A virtual user who watches nodes, jobs and processes, mostly in a hurry and sometimes not, from head to head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from heorot.core.client.watching import begin_watch
from heorot.core.wire import clients as c
from heorot.sim.client import VirtualUser

if TYPE_CHECKING:
    from heorot.core.client.watching import WatchRequest
    from heorot.core.head.machine import HeadMachine
    from heorot.sim.run import Run

TOPICS = ("nodes", "jobs", "processes")


class VirtualWatcher(VirtualUser):
    """See the module. It is never finished."""

    def __init__(self, cluster: Run, number: int) -> None:
        super().__init__(cluster, number, None)
        self.name = f"watcher{number}"
        self.watch: WatchRequest | None = None
        self.hurried = False
        """It takes each update at once from now on."""
        self._takes = False
        """It is about to take an update."""

    def begin(self) -> None:
        """Connect and watch; later if there is no head."""
        if not self.connect():
            self.world.after(300_000, self.begin)
            return
        self._ask()
        if self.world.chance(0.3):
            self.world.after(self.world.between(0, 10_000_000), self._change)

    def _ask(self) -> None:
        everything = self.hurried or self.world.chance(0.5)
        topics = [topic for topic in TOPICS if everything or self.world.chance(0.6)] or ["nodes"]
        self.watch = begin_watch(self.session, topics, self.world.between(0, 2_000))
        self.flush()

    def _change(self) -> None:
        """Watch something else."""
        if self.watch is not None and not self.hurried:
            self.watch.end()
            self._ask()

    def hurry(self) -> None:
        """Watch everything, and take each update at once."""
        self.hurried = True
        if self.watch is None or len(self.watch.message[2]) < len(TOPICS):
            if self.watch is not None:
                self.watch.end()
            self._ask()

    def come_back(self) -> None:
        """Go on under the next head."""
        if self.end is None and not self.connect():
            self.world.after(300_000, self.come_back)

    def _told(self, message: Any) -> None:
        watch = self.watch
        if isinstance(message, c.Changed) and watch is not None and message.request == watch.number and watch.has_news:
            self.world.violated("Bounded", f"{self.name} is sent an update before it has taken the last one")

    def _look(self) -> None:
        watch = self.watch
        if watch is None:
            return
        if watch.error is not None:
            self.watch = None
            self.world.tell(self.name, "is refused: %s", watch.error)
            self.world.after(500_000, self._ask)
        elif watch.has_news and not self._takes:
            self._takes = True
            is_slow = not self.hurried and self.world.chance(0.2)
            self.world.after(self.world.between(0, 6_000_000 if is_slow else 200_000), self._take)

    def _take(self) -> None:
        self._takes = False
        if self.watch is not None and self.watch.has_news:
            self.watch.take()
            self.watch.go_on()
            self.flush()

    def differs(self, machine: HeadMachine) -> str:
        """Say what it sees that a question now would not be answered; empty: nothing."""
        watch, overview = self.watch, machine.clients.overview
        if watch is None or self.end is None:
            return f"{self.name} watches nothing"
        known = machine.members.known.numbers()
        shown: dict[str, dict[Any, Any]] = {
            "nodes": {row.id: msgspec.to_builtins(row) for row in overview.node_rows(known)},
            "jobs": {row.job: msgspec.to_builtins(row, builtin_types=(bytes,)) for row in overview.job_rows()},
            "processes": {},
        }
        for topic, rows in shown.items():
            seen = watch.tables.get(topic, {})
            if seen != rows:
                other = sorted(str(key) for key in {*seen, *rows} if seen.get(key) != rows.get(key))
                return f"{self.name} sees other {topic} than there are: {other}"
        return f"{self.name} hears that {watch.missing} do not answer" if watch.missing else ""


def misled(watchers: Iterable[VirtualWatcher], machine: HeadMachine) -> tuple[str, str] | None:
    """Return what is not true yet of those who watch: each sees what a question would be answered."""
    for watcher in watchers:
        problem = watcher.differs(machine)
        if problem:
            return "TableTrue", problem
    return None
