"""The heads that a node knows: those that its configuration names, until a head has told it all of them.

The active head tells each node the list of heads when the node attaches with another one, and all nodes whenever the
list changes. It is signed: a relay that could make one up could take its children away. Of two lists the newer one
counts, by epoch and revision, so that a relay cannot bring back an older one; and one of an epoch below what the node
has seen is nobody's word. A list is used at once and kept on the disk; what is told upward is only what is kept.

The addresses of the configuration stay the last to be tried: they may lead to the same heads by another way, and are
what is left when all heads of the list have gone while the node was away.
"""

from __future__ import annotations

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.machine import Kept, Remember, SetTimer
from heorot.core.node.context import NodeContext
from heorot.core.node.epoch import EpochKeeping
from heorot.core.node.timers import KeepHeadsDue
from heorot.core.tickets import open_heads
from heorot.core.wire import tree as m

NAME = "heads"
"""Under which the signed list is remembered."""
KEEP_AGAIN_MS = 5_000
"""After so long a list is written to the disk again that could not be kept."""


class KnownHeads:
    """Keeps the list of heads, and gives the way up its addresses."""

    def __init__(self, context: NodeContext, epochs: EpochKeeping) -> None:
        self._context = context
        self._epochs = epochs
        self.known: m.HeadList | None = None
        """The list in force; None: nobody has told one."""
        self.kept: m.HeadList | None = None
        """The list on the disk."""
        self._sealed: m.TellHeads | None = None
        """The list in force while it is not on the disk."""
        self._writing = False
        remembered = context.config.head_list
        if remembered:
            try:
                self.kept = self._open(m.decode_tell_heads(remembered))
                self._use(self.kept)
            except (SecurityError, ProtocolError) as error:
                context.log("warning", f"the remembered list of heads is of no use: {error}")

    def _open(self, sealed: m.TellHeads) -> m.HeadList:
        context = self._context
        return open_heads(context.verify, sealed, cluster=context.config.cluster)

    @property
    def certain(self) -> list[m.HeadAddress]:
        """The heads that are known whatever happens: the list on the disk, unless there is a newer one to be."""
        return self.kept.heads if self.kept is not None and self._sealed is None else []

    def told(self, sealed: m.TellHeads) -> None:
        """Take what claims to be a head's list.

        Raises
        ------
        ProtocolError
            If it is signed, and is no list.
        """
        context = self._context
        try:
            listing = self._open(sealed)
            if listing.epoch < context.epoch:
                raise SecurityError(
                    f"the list of heads is of epoch {listing.epoch}; this node has seen {context.epoch}"
                )
        except SecurityError as error:
            context.log("error", str(error))
            return
        if not self._epochs.has_kept(listing.epoch, lambda: self.told(sealed)):
            return
        if self.kept is not None and _version(listing) == _version(self.kept):
            # The answer was lost.
            self._tell_kept()
        elif self.known is None or _version(listing) > _version(self.known):
            self._use(listing)
            self._sealed = sealed
            self.keep()

    def keep(self) -> None:
        """Write the list in force to the disk, if it is not there: at once, or when what is being written is."""
        if self._sealed is not None and not self._writing:
            self._writing = True
            self._context.emit(Remember(NAME, m.encode(self._sealed), True))

    def answered(self, event: Kept) -> None:
        """A list is on the disk, or cannot be kept."""
        context = self._context
        self._writing = False
        if event.error:
            context.log("warning", f"the list of heads cannot be kept, and would go with this agent: {event.error}")
            context.emit(SetTimer(KeepHeadsDue(), context.now_ms + KEEP_AGAIN_MS))
            return
        self.kept = self._open(m.decode_tell_heads(event.value))
        if self.known is not None and _version(self.kept) == _version(self.known):
            self._sealed = None
        self._tell_kept()
        self.keep()
        if self._sealed is None:
            context.out += context.uplink.go_direct(context.now_ms)

    def _tell_kept(self) -> None:
        assert self.kept is not None
        kept = m.HeadsKept(self.kept.epoch, self.kept.revision)
        self._context.send_up(m.Up(self._context.config.node, m.encode(kept)))

    def _use(self, listing: m.HeadList) -> None:
        self.known = listing
        told = [(head.host, head.port) for head in listing.heads]
        self._context.uplink.heads = tuple(dict.fromkeys((*told, *self._context.config.heads)))


def _version(listing: m.HeadList) -> tuple[int, int]:
    return listing.epoch, listing.revision
