"""The names and addresses of all nodes, on a node: the newest list that a head has signed.

The active head tells it to each node that attaches, and to all when it changes. It becomes a hosts file, so a relay
that could make one up could send connections of the nodes below it to where it wants them: that is why it is signed. Of
two lists the newer one counts, by epoch and revision.
"""

from __future__ import annotations

from heorot.core.errors import SecurityError
from heorot.core.machine import Remember
from heorot.core.node.context import NodeContext
from heorot.core.node.epoch import EpochKeeping
from heorot.core.tickets import open_names
from heorot.core.wire import tree as m

NAMES_NAME = "names"
"""Under which an encoded `heorot.core.wire.names.NameList` is to be remembered: as a hosts file, never read again."""


class KnownNames:
    """Takes what heads say of names."""

    def __init__(self, context: NodeContext, epochs: EpochKeeping) -> None:
        self._context = context
        self._epochs = epochs
        self._version = (0, 0)

    def told(self, sealed: m.TellNames) -> None:
        """Take what claims to be a head's list.

        Raises
        ------
        ProtocolError
            If it is signed, and is no list.
        """
        context = self._context
        try:
            listing = open_names(context.verify, sealed, cluster=context.config.cluster)
            if listing.epoch < context.epoch:
                raise SecurityError(
                    f"the list of names is of epoch {listing.epoch}; this node has seen {context.epoch}"
                )
        except SecurityError as error:
            context.log("error", str(error))
            return
        if not self._epochs.has_kept(listing.epoch, lambda: self.told(sealed)):
            return
        version = listing.epoch, listing.revision
        if version > self._version:
            self._version = version
            context.emit(Remember(NAMES_NAME, m.encode(listing)))
