"""The epoch that a node obeys: a higher one only when it is on disk.

What brought a higher epoch, and what the parent says meanwhile, is held until the shell answers `Kept`. If it cannot be
kept, the link is given up, as if the head were not there.

What the parent says of its own way up is not held: else a disk that takes longer than the grace would have this node,
and all below it, given up for lost. When this node attaches anew for that, the commands that are held are forgotten.
The head says them again, because the inventory does not show them.
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
        self._held: deque[tuple[int, Callable[[], None], bool]] = deque()
        """What waits for it, with the link that it came on, and whether it is a head's command."""

    def has_kept(self, epoch: int, again: Callable[[], None]) -> bool:
        """Say whether an epoch that a head itself has signed or said is on disk; if not, do `again` once it is.

        Were a relay believed, it could lock us.
        """
        if epoch <= self._context.epoch:
            return True
        self.pending = epoch
        self._hold(again, True)
        self._context.emit(Remember("epoch", b"%d" % epoch, True))
        return False

    def hold(self, action: Callable[[], None], is_command: bool) -> None:
        """Do what the parent says, or a head through it, once the epoch is on disk, if it is the parent then."""
        if len(self._held) >= MAX_HELD:
            # Its parent does nothing wrong. Attached anew, this node is told all that it did not hear.
            self._held.clear()
            why = f"more than {MAX_HELD} messages came while epoch {self.pending} was being kept"
            self._context.give_up_parent(why)
        else:
            self._hold(action, is_command)

    def _hold(self, action: Callable[[], None], is_command: bool) -> None:
        self._held.append((self._context.uplink.link or 0, action, is_command))

    def forget_commands(self) -> None:
        """This node attaches anew: the head says again what it wants."""
        self._held = deque(held for held in self._held if not held[2])

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
        for link, action, is_command in held:
            if self.pending:
                self._held.append((link, action, is_command))
            elif link == context.uplink.link:
                try:
                    action()
                except ProtocolError as error:
                    context.give_up_parent(str(error))
