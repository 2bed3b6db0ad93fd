"""A virtual administrator: drains nodes and gives them back, whatever becomes of the heads meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heorot.core.client import messages
from heorot.core.wire.wishes import DRAIN, MAX_REASON, UP
from heorot.sim.client import VirtualUser

if TYPE_CHECKING:
    from heorot.core.client.conversation import Request
    from heorot.sim.run import Run

STATES = (DRAIN, DRAIN, DRAIN, UP, UP, "error", "being-mended")
PAUSE_US = (20_000, 4_000_000)


class VirtualAdministrator(VirtualUser):
    """See the module. One change is on its way at a time; it is never finished."""

    def __init__(self, cluster: Run, number: int) -> None:
        super().__init__(cluster, number, None)
        self.name = f"administrator{number}"
        self.changes = 0
        """How many were acknowledged."""
        self._change: Request | None = None
        self._rests = False
        """It sets nothing any more."""

    def begin(self) -> None:
        """Connect and set nodes; later if there is no head."""
        if not self.connect():
            self.world.after(300_000, self.begin)
            return
        self.set_some()

    def set_some(self) -> None:
        """Set some nodes to something, if nothing is on its way; and again after a while."""
        world, last = self.world, self.cluster.settings.nodes - 1
        if self._change is None and not self._rests:
            nodes = ",".join(f"n{world.between(0, last)}" for _ in range(world.between(1, 3)))
            state = world.random.choice(STATES)
            reason = "x" * world.random.choice((0, 10, MAX_REASON))
            self._change = self.ask(messages.set_nodes, nodes, state, reason)
        world.after(world.between(*PAUSE_US), self.set_some)

    def rest(self) -> None:
        """Leave the nodes as they are."""
        self._rests = True

    def come_back(self) -> None:
        """Go on under the next head."""
        if self.end is None and not self.connect():
            self.world.after(300_000, self.come_back)

    def _told(self, message: Any) -> None:
        """It reads no job."""

    def _look(self) -> None:
        if self._change is not None and self._change.finished:
            self.changes += self._change.error is None
            self._change = None
