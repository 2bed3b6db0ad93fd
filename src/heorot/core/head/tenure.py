"""Whether this head is certain to lead, from what its keeper says.

A head that was paused or cut off may have a successor and not know it. Its nodes refuse its commands, but its clients
believe what it says; so such a head gives no verdict that rests on the silence of a node: the node may well be working
for the successor. For the same reason it acknowledges no launch on nodes that it has not heard of just
now. A head that is the only one of its cluster needs no such care.
"""

from __future__ import annotations

from heorot.core.machine import HeadsKnown

DOUBT_PAUSE_MS = 1_000


class Tenure:
    """The keeper's last word, and since when the head has been certain to lead.

    Parameters
    ----------
    others
        Whether the cluster is configured to have other heads, seen or not.
    """

    def __init__(self, others: bool) -> None:
        self.known = HeadsKnown((), "", True, 0)
        self._certain_since_ms = 0
        self._doubted_since_ms: int | None = None
        """When a doubt that lasts was noticed: a head that was paused has slept through its beginning."""
        self._alone = not others
        """There is no other head to be, and none was seen in this term: one that was seen may come back unseen."""

    def heard(self, event: HeadsKnown, now_ms: int) -> None:
        """The keeper has spoken."""
        if not self.is_certain(now_ms):
            self._certain_since_ms = now_ms
        self.known = event
        # One that is listed may begin at any moment, whether it was seen or not.
        self._alone = self._alone and len(event.heads) <= 1 and len(event.listed) <= 1
        if self.is_certain(now_ms):
            # Else the keeper has said no more than how the store cannot be reached.
            self._doubted_since_ms = None

    def is_certain(self, now_ms: int) -> bool:
        """Say whether nobody else can lead at this moment."""
        until_ms = self.known.lease_until_ms
        return until_ms is None or now_ms < until_ms or self._alone

    def doubt_ms(self, now_ms: int) -> int:
        """Return for how long the doubt has been noticed; 0: just now, or there is none."""
        if self.is_certain(now_ms):
            self._doubted_since_ms = None
        elif self._doubted_since_ms is None:
            self._doubted_since_ms = now_ms
        return 0 if self._doubted_since_ms is None else now_ms - self._doubted_since_ms

    def patience_ms(self, silent_since_ms: int, grace_ms: int, now_ms: int) -> int:
        """Return for how long a node that has been silent since then must still be waited for; 0: no longer.

        A node may have been kept away by what kept the lease away: the grace counts from when both were well.
        """
        if not self.is_certain(now_ms):
            return max(grace_ms, DOUBT_PAUSE_MS)
        return max(0, grace_ms - (now_ms - max(silent_since_ms, self._certain_since_ms)))
