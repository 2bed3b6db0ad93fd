"""The epoch that a node obeys: a higher one only when it is on disk.

What brought a higher epoch, and all that the parent says meanwhile, is held until the shell answers `Kept`. If it
cannot be kept, the link is given up, as if the head were not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from heorot.core.errors import ProtocolError
from heorot.core.machine import Kept, Remember
from heorot.core.node.context import NodeContext

MAX_HELD = 1024
"""So many messages of the parent are held while an epoch is written to the disk."""


class EpochKeeping:
    """Raises the epoch of the context.

    Parameters
    ----------
    raised
        Called when it is higher than before, before anything that was held is done.
    """

    def __init__(self, context: NodeContext, raised: Callable[[], None]) -> None:
        self._context = context
        self._raised = raised
        self.pending = 0
        """The epoch that is being written to the disk, 0 if none is."""
        self._held: deque[tuple[int, Callable[[], None]]] = deque()
        """What waits for it, with the link that it came on."""

    def has_kept(self, epoch: int, again: Callable[[], None]) -> bool:
        """Say whether an epoch that a head itself has signed or said is on disk; if not, do `again` once it is.

        Were a relay believed, it could lock us.
        """
        if epoch <= self._context.epoch:
            return True
        self.pending = epoch
        self._hold(again)
        self._context.emit(Remember("epoch", b"%d" % epoch, True))
        return False

    def hold(self, action: Callable[[], None]) -> None:
        """Do what the parent says once the epoch is on disk, if it is the parent then."""
        if len(self._held) >= MAX_HELD:
            # Its parent does nothing wrong. Attached anew, this node is told all that it did not hear.
            self._held.clear()
            why = f"more than {MAX_HELD} messages came while epoch {self.pending} was being kept"
            self._context.give_up_parent(why)
        else:
            self._hold(action)

    def _hold(self, action: Callable[[], None]) -> None:
        self._held.append((self._context.uplink.link or 0, action))

    def answered(self, event: Kept) -> None:
        """The shell has written the epoch to the disk, or could not."""
        context = self._context
        pending, self.pending = self.pending, 0
        held, self._held = self._held, deque()
        if event.error:
            context.give_up_parent(f"epoch {pending} cannot be kept, and is not obeyed: {event.error}")
            return
        context.epoch = max(context.epoch, pending)
        self._raised()
        for link, action in held:
            if self.pending:
                self._held.append((link, action))
            elif link == context.uplink.link:
                try:
                    action()
                except ProtocolError as error:
                    context.give_up_parent(str(error))
