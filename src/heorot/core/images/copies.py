"""Copies whose chunks are in this hop's cache, and how long they stay there.

What `bpcp` brings is no program that may be started again: it is on its way to its place, and once it is there on every
node that asks this hop for it, it is only in the way of others.

Theory of operation. The chunks of a copy have one owner at a time:

- a *transfer*, as long as this host or a neighbour needs something of it (`heorot.core.images.hop`);
- then this module, for `KEEP_MS`: a node below may come back by another way, a peer may ask late, a new head may repeat
  the launch, a script may copy the same again;
- then a *process* of this host that is still putting the files at their place: the cache sees it by its lock, and is
  asked again every `LOOK_MS`;
- then nobody, and the cache drops them.

Whoever needs it later than that is sent it from above again: to keep it is a saving, and no promise. Nothing is dropped
while the way up is lost: launches that wait for a copy in bpinit are repeated by the next head.

Nothing of this has to be remembered. What an agent finds in its cache when it starts is kept and dropped in the same
way, except that it is not known for how long it has been idle.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.machine import CopiesDropped, CopiesFound, DropCopies, SetTimer, SharedInstruction
from heorot.core.timers import Due

KEEP_MS = 10_000
LOOK_MS = 1_000
MAX_KEPT = 1_024
"""So many idle copies are kept on purpose; beyond that, the one that has been idle the longest is not."""


class CopiesDue(Due, frozen=True, gc=False):
    """Copies may be in nobody's use by now."""


class Copies:
    """See the module.

    Parameters
    ----------
    may_drop
        Whether nobody who is away may come back and need something.
    """

    def __init__(
        self, emit: Callable[[SharedInstruction], None], now_ms: Callable[[], int], may_drop: Callable[[], bool]
    ) -> None:
        self._emit = emit
        self._now_ms = now_ms
        self._may_drop = may_drop
        self.idle_until_ms: dict[bytes, int] = {}
        """By copy, the one that became idle first in front."""
        self._looks = False
        """The timer is set."""

    def __len__(self) -> int:
        return len(self.idle_until_ms)

    def needed(self, image: bytes) -> None:
        """A transfer of this image begins."""
        self.idle_until_ms.pop(image, None)

    def idle(self, image: bytes) -> None:
        """No transfer needs this copy any more."""
        self.needed(image)
        if len(self.idle_until_ms) >= MAX_KEPT:
            del self.idle_until_ms[next(iter(self.idle_until_ms))]
        self.idle_until_ms[image] = self._now_ms() + KEEP_MS
        self.look_later()

    def look_later(self, after_ms: int = KEEP_MS) -> None:
        """See after this time what has to go: there may be copies that nobody has spoken of."""
        if not self._looks:
            self._looks = True
            self._emit(SetTimer(CopiesDue(), self._now_ms() + after_ms))

    def found(self, event: CopiesFound) -> None:
        """A former daemon of this host has left copies."""
        self.look_later()

    def way_up_found(self) -> None:
        """The way up is open again: what was idle may be needed at once."""
        for image in self.idle_until_ms:
            self.idle_until_ms[image] = self._now_ms() + KEEP_MS

    def look(self) -> None:
        """The timer has fired."""
        self._looks = False
        if not self._may_drop():
            self.look_later()
            return
        now_ms = self._now_ms()
        self.idle_until_ms = {image: until_ms for image, until_ms in self.idle_until_ms.items() if until_ms > now_ms}
        self._emit(DropCopies(list(self.idle_until_ms)))

    def dropped(self, event: CopiesDropped) -> None:
        """The cache has dropped what was in nobody's use."""
        if event.used:
            self.look_later(LOOK_MS)
        elif self.idle_until_ms:
            self.look_later(max(1, min(self.idle_until_ms.values()) - self._now_ms()))
