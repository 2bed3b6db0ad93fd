"""What a neighbour says is in the store that this host's cache shares with its own: it is taken from there, not sent.

Theory of operation. Caches of one host that share their content (`heorot.images.shared`) each need their own name of a
file, and each to have seen that it is right, but none needs the bytes over a link. So a hop says in `Want` which store
its cache shares. Who has the same, and has put all that is asked for into it, answers `Stored`, and the cache takes it
from there, checked chunk by chunk as whatever is on a disk.

Nobody is believed. If something is not there, or not right, the hop asks for it once more, and for whatever else of the
image it may lack later, and does not name its store: then bytes come.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.images.manifest import mask_of, ranges_of
from heorot.core.images.one_image import Transfer
from heorot.core.machine import SharedInstruction, SharedTaken, TakeShared
from heorot.core.wire import images as i


class StoredChunks:
    """See the module. For the parameters see `heorot.core.images.hop.Transfers`."""

    def __init__(
        self,
        emit: Callable[[SharedInstruction], None],
        transfers: dict[bytes, Transfer],
        pursue: Callable[[Transfer], None],
    ) -> None:
        self._emit = emit
        self._transfers = transfers
        self._pursue = pursue

    def told(self, source: int, message: i.Stored) -> None:
        """A source says that chunks which it was asked for are in the store.

        Raises
        ------
        ProtocolError
            If they are none of the image's.
        """
        transfer = self._transfers.get(message.image)
        if transfer is None or transfer.layout is None:
            return  # nobody needs it any more
        chunks = mask_of(message.chunks, transfer.layout.chunks) & transfer.asked.get(source, 0)
        transfer.answered(source, chunks)
        wanted = chunks & transfer.lacking() & ~transfer.taking
        if wanted:
            transfer.flows = True
            transfer.taking |= wanted
            self._emit(TakeShared(message.image, ranges_of(wanted)))
        else:
            self._pursue(transfer)

    def taken(self, event: SharedTaken) -> None:
        """The cache has looked into the store."""
        transfer = self._transfers.get(event.image)
        if transfer is not None and transfer.layout is not None:
            chunks = mask_of(event.chunks, transfer.layout.chunks)
            transfer.shared_taken(chunks, mask_of(event.found, transfer.layout.chunks))
            self._pursue(transfer)
