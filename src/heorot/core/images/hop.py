"""Images on their way through the tree: what one hop has, lacks, is asked for, and has asked for.

Theory of operation. Whoever lacks a part of an image asks one of its sources (a node its parent, the head the client)
and is sent that part in ascending order. A hop that is asked for what it lacks asks its own sources, once for all that
ask it, and passes each chunk on as soon as it has come and was checked: so a chunk is on every level of the tree at the
same time, whatever the size of the image. Chunks go through the cache on the disk: what a hop holds in memory are
those of the message that it is looking at, and what a slow neighbour has not taken is never more than a window.

There is nothing to mend when a neighbour is lost. The one above is replaced by another, which is asked for what is
still lacking; the one below asks somebody else.

What is asked of whom is in `heorot.core.images.fetcher`, what is sent when in `heorot.core.images.sender`, and who may
have how many images under way in `heorot.core.images.shares`. What is here of an image is one of the states of
`heorot.core.images.states`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from heorot.core.errors import ProtocolError
from heorot.core.images.copies import Copies
from heorot.core.images.fetcher import Ask, ImageFetcher, Sources
from heorot.core.images.manifest import ChunkLayout, decode_manifest, image_id, mask_of
from heorot.core.images.one_image import NOBODY, Transfer
from heorot.core.images.sender import Consider, ImageSender
from heorot.core.images.shares import ImageShares, name_of_origin
from heorot.core.images.stored import StoredChunks
from heorot.core.images.swarms import Pace
from heorot.core.machine import (
    CacheFailed,
    ChunksGone,
    Examine,
    Examined,
    Forget,
    KeepChunks,
    KeepManifest,
    Log,
    Send,
    SharedInstruction,
)
from heorot.core.wire import images as i

MAX_IMAGES = 2_048
"""Images under way on one hop at a time that this host needs, and as many again that others need. It is twice what the
head lets users have on their way (`heorot.core.head.context.HeadConfig.max_programs`), so that there is room for all of
that beside one neighbour that asks for whatever it likes."""
MAX_BAD_CHUNKS = 8
"""An image is given up when so many chunks of it were not what they should be."""


class Transfers:
    """All images on this hop.

    Parameters
    ----------
    emit
        Takes the instructions.
    ask
        Speaks to a source.
    sources
        Names them.
    complete
        Called when an image that this host needs is all in the cache. It stays until `dismiss`.
    failed
        Called, with a reason for people, when an image that this host needs cannot be had; it is dismissed already.
    parent
        The link to the parent at the moment, for chunks that are asked for directly; None: nobody, or a head is asked.
    consider
        Called when neighbours lack something.
    plan
        Which plan this hop follows for an image; empty: none.
    ended
        Called when there is nothing left to do for an image.
    may_drop
        Whether copies that nobody needs may leave the cache now (`heorot.core.images.copies`).
    """

    def __init__(
        self,
        emit: Callable[[SharedInstruction], None],
        ask: Ask,
        sources: Sources,
        complete: Callable[[bytes], None],
        failed: Callable[[bytes, str], None],
        parent: Callable[[], int | None] = lambda: None,
        consider: Consider = lambda image, size, links: None,
        plan: Callable[[bytes], bytes] = lambda image: b"",
        ended: Callable[[bytes], None] = lambda image: None,
        pace: Pace | None = None,
        now_ms: Callable[[], int] = lambda: 0,
        may_drop: Callable[[], bool] = lambda: True,
    ) -> None:
        self._emit = emit
        self._complete = complete
        self._failed = failed
        self._ended = ended
        self.transfers: dict[bytes, Transfer] = {}
        self._shares = ImageShares(MAX_IMAGES)
        self.copies = Copies(emit, now_ms, may_drop)
        self.fetcher = ImageFetcher(ask, sources, parent, plan)
        self.sender = ImageSender(emit, self.transfers, consider, pace or Pace(), now_ms)
        self.stored = StoredChunks(emit, self.transfers, self._pursue)

    # ------------------------------------------------------------------ what is wanted

    def need(self, image: bytes) -> None:
        """This host needs an image; `complete` or `failed` follows."""
        transfer = self._begin_own(image)
        if transfer is not None:
            transfer.everything = True
            self._pursue(transfer)

    def dismiss(self, image: bytes) -> None:
        """This host needs the image no longer, or has it."""
        transfer = self.transfers.get(image)
        if transfer is not None:
            transfer.everything = False
            self._need_no_longer(transfer)

    def keep(self, image: bytes) -> None:
        """Have all of an image, and keep it until `let_go`; `complete` or `failed` follows."""
        transfer = self._begin_own(image)
        if transfer is not None:
            transfer.keeps = True
            self._pursue(transfer)

    def let_go(self, image: bytes) -> None:
        """The image is not kept any longer."""
        transfer = self.transfers.get(image)
        if transfer is not None:
            transfer.keeps = False
            self._need_no_longer(transfer)

    def give_up(self, image: bytes, why: str) -> None:
        """The image cannot be had: whoever asks for it is told why."""
        transfer = self.transfers.get(image)
        if transfer is not None:
            self._give_up(transfer, why)

    def __len__(self) -> int:
        return len(self.transfers)

    # ------------------------------------------------------------------ who has it from whom

    def is_flowing(self, image: bytes) -> bool:
        """Say whether something of an image has come, or all of it is here."""
        transfer = self.transfers.get(image)
        if transfer is None or transfer.layout is None:
            return False
        return transfer.flows or transfer.is_whole

    def has_to_come(self, image: bytes) -> bool:
        """Say whether an image is on its way: the cache has been looked at, and does not have all of it."""
        transfer = self.transfers.get(image)
        return transfer is not None and not transfer.is_being_examined and not transfer.is_whole

    def requesters(self, image: bytes) -> list[int]:
        """Return the links that ask for an image and understand `Swarm`."""
        transfer = self.transfers.get(image)
        return transfer.who_understands_swarms() if transfer is not None else []

    def redirect(self, image: bytes, link: int) -> None:
        """This neighbour asks somebody else from now on; what it has asked for directly it is still sent."""
        self.transfers[image].redirect(link)

    def replan(self, image: bytes) -> None:
        """The sources of this image are others now: call off what was asked for, and ask them."""
        transfer = self.transfers[image]
        self.fetcher.call_off(transfer)
        for source in list(transfer.asked):
            transfer.take_back(source)
        self._pursue(transfer)

    def unasked(self, image: bytes, source: int) -> None:
        """This source does not send what it was asked for: ask another."""
        transfer = self.transfers.get(image)
        if transfer is not None:
            transfer.take_back(source)
            self._pursue(transfer)

    def pursue(self, image: bytes) -> None:
        """A source of this image was found or lost."""
        transfer = self.transfers.get(image)
        if transfer is not None:
            self._pursue(transfer)

    def want(self, link: int, want: i.Want, *, above: bool = False, origin: int = NOBODY) -> None:
        """A neighbour lacks something, for `origin`: itself, or a node below it. If it is the one `above`, it is sent
        what is whole here, or refused.

        Raises
        ------
        ProtocolError
            If it asks for chunks that the image does not have.
        """
        transfer = self._begin_for(want.image, origin)
        if transfer is None:
            count, name = len(self._shares), name_of_origin(origin)
            why = f"{count} images are on their way already, and nobody has more of them than {name}"
            self._emit(Send(link, i.Unavailable(want.image, why)))
            return
        transfer.refusals.clear()
        if above:
            transfer.above = link
        transfer.want(link, want)
        if transfer.origins.get(link) != origin:
            transfer.origins[link] = origin
            self._count_again(transfer)
        self._pursue(transfer)

    # ------------------------------------------------------------------ how many there may be

    def _begin(self, image: bytes) -> Transfer:
        transfer = self.transfers[image] = Transfer(image)
        self.copies.needed(image)
        self._emit(Examine(image))
        return transfer

    def _begin_own(self, image: bytes) -> Transfer | None:
        """Return an image that this host needs from now on, or say that it cannot be had."""
        transfer = self.transfers.get(image)
        if (transfer is None or transfer.is_counted) and len(self.transfers) - len(self._shares) >= MAX_IMAGES:
            self._failed(image, f"{MAX_IMAGES} images are on their way already")
            return None
        transfer = transfer or self._begin(image)
        self._shares.remove(transfer)
        transfer.told_complete = False
        transfer.refusals.clear()
        return transfer

    def _begin_for(self, image: bytes, origin: int) -> Transfer | None:
        transfer = self.transfers.get(image)
        if transfer is None and (not self._shares.is_full or self._make_room(origin)):
            transfer = self._begin(image)
        return transfer

    def _need_no_longer(self, transfer: Transfer) -> None:
        """This host does not need it any more; others may."""
        self._count_again(transfer)
        self._end_if_idle(transfer)
        while self._shares.is_too_full:
            self._give_up_one(self._shares.greediest())

    def _count_again(self, transfer: Transfer) -> None:
        """Others ask for an image than before, or for others."""
        if transfer.everything or transfer.keeps or not transfer.origins:
            self._shares.remove(transfer)
        elif transfer.origin not in transfer.origins.values() or not transfer.is_counted:
            self._shares.add(transfer)

    def _asks_no_more(self, transfer: Transfer, link: int) -> None:
        if transfer.origins.pop(link, None) is not None:
            self._count_again(transfer)

    def _make_room(self, origin: int) -> bool:
        """Give up an image of a node that has more of them than this one would have then; return False if none has."""
        while self._shares.is_full:
            greediest = self._shares.greediest()
            if self._shares.held_by(greediest) <= self._shares.held_by(origin) + 1:
                return False
            self._give_up_one(greediest)
        return True

    def _give_up_one(self, origin: int) -> None:
        transfer = self._shares.least_missed(origin)
        if transfer is not None:
            why = f"{len(self._shares)} images are on their way already, most of them for {name_of_origin(origin)}"
            self._give_up(transfer, why)

    # ------------------------------------------------------------------ what the cache says

    def examined(self, event: Examined) -> None:
        """The cache has been looked at."""
        transfer = self.transfers.get(event.image)
        if transfer is None:
            return
        transfer.store = event.store
        if not event.manifest:
            transfer.found_nothing()
        else:
            layout = transfer.layout or ChunkLayout(decode_manifest(event.manifest))
            transfer.found(layout, mask_of(event.chunks, layout.chunks))
            for link in transfer.asks_for_too_much():
                self._emit(Log("warning", "a neighbour asks for chunks that an image does not have"))
                self._emit(Send(link, i.Unavailable(event.image, "it does not have these chunks")))
                del transfer.requesters[link]
                self._asks_no_more(transfer, link)
        self._pursue(transfer)

    def chunks_gone(self, event: ChunksGone) -> None:
        """The cache does not have what it was thought to have: fetch it, and send it then."""
        transfer = self.transfers.get(event.image)
        if transfer is None or transfer.layout is None:
            return
        transfer.chunks_gone(mask_of(event.chunks, transfer.layout.chunks))
        requester = transfer.requesters.get(event.link)
        if requester is not None:
            self.sender.not_sent(transfer.layout, requester, event.first, event.count)
        self._count_bad(transfer, "what its cache holds of the image is damaged")

    def cache_failed(self, event: CacheFailed) -> None:
        """There is no room for this image, or the disk does not take it."""
        transfer = self.transfers.get(event.image)
        if transfer is not None:
            self._give_up(transfer, event.error)

    # ------------------------------------------------------------------ what sources say

    def manifest(self, source: int, message: i.ImageManifest) -> None:
        """A manifest has come.

        Raises
        ------
        ProtocolError
            If it is not what the image's name says, or no manifest.
        """
        transfer = self.transfers.get(message.image)
        if transfer is None or transfer.manifest_asked_of != source:
            return  # nobody needs it any more
        transfer.manifest_asked_of = None
        if image_id(message.data) != message.image:
            raise ProtocolError("a manifest that is not the image's")
        decode_manifest(message.data)
        transfer.manifest_came()
        self._emit(KeepManifest(message.image, message.data))

    def expects(self, image: bytes, source: int) -> bool:
        """Say whether this source was asked for something that has not come."""
        transfer = self.transfers.get(image)
        return transfer is not None and bool(transfer.manifest_asked_of == source or transfer.asked.get(source))

    def piece(self, source: int, message: i.Piece, *, others: bool = False) -> bool:
        """Chunks have come: keep them, pass them on. Return False if one was not what it should be. `others` may be
        asked in place of this source.

        Raises
        ------
        ProtocolError
            If they are none of the image's.
        """
        transfer = self.transfers.get(message.image)
        size = sum(map(len, message.chunks))
        self.fetcher.took(message.image, source, size)
        if transfer is None or transfer.layout is None:
            return True  # nobody needs it any more
        layout = transfer.layout
        if message.first + len(message.chunks) > layout.chunks:
            raise ProtocolError(f"the chunks from {message.first} of an image that has {layout.chunks}")
        bad = False
        came = 0
        kept: list[KeepChunks] = []
        transfer.flows = True
        # What was called off meanwhile, because somebody else was asked for it, is welcome all the same.
        welcome = transfer.asked.get(source, 0) | transfer.lacking()
        transfer.answered(source, ((1 << len(message.chunks)) - 1) << message.first)
        for chunk, data in enumerate(message.chunks, message.first):
            bit = 1 << chunk
            if not welcome & bit:
                continue
            if sha256(data).digest() != layout.digest(chunk):
                self._emit(Log("error", f"chunk {chunk} of the image {message.image.hex()[:12]} came damaged"))
                bad = True
            elif not (transfer.have | came) & bit:
                came |= bit
                if not kept or kept[-1].first + len(kept[-1].chunks) != chunk:
                    kept.append(KeepChunks(message.image, chunk, []))
                kept[-1].chunks.append(data)
        for run in kept:
            self._emit(run)
        transfer.chunks_came(came)
        if not bad:
            self._pursue(transfer)
        elif others or self.fetcher.is_peer(message.image, source):
            return False  # the caller leaves this peer, and its part is asked of the parent
        else:
            self._count_bad(transfer, "the image came damaged again and again", doubt=True)
        return not bad

    def unavailable(self, source: int, message: i.Unavailable) -> None:
        """A source cannot give what it was asked for."""
        transfer = self.transfers.get(message.image)
        if transfer is None:
            return
        transfer.take_back(source)
        transfer.refusals[source] = message.text
        self._pursue(transfer)

    def source_lost(self, source: int) -> None:
        """A source is gone: others are asked for what it has not sent."""
        for transfer in list(self.transfers.values()):
            was_asked = transfer.take_back(source)
            if transfer.refusals.pop(source, None) or was_asked:
                self._pursue(transfer)

    def source_found(self) -> None:
        """There is a new source: ask it for what is lacking."""
        for transfer in list(self.transfers.values()):
            self._pursue(transfer)

    # ------------------------------------------------------------------ what neighbours below say

    def took(self, link: int, message: i.Took) -> None:
        """A neighbour has taken some bytes: it may be sent more."""
        transfer = self.transfers.get(message.image)
        requester = transfer.requesters.get(link) if transfer is not None else None
        if transfer is not None and transfer.layout is not None and requester is not None:
            self.sender.took(transfer, requester, message.size_bytes)
            self._end_if_idle(transfer)

    def neighbour_lost(self, link: int) -> None:
        """A neighbour is gone, and with it what it lacked."""
        for transfer in list(self.transfers.values()):
            requester = transfer.requesters.pop(link, None)
            if requester is not None:
                self.sender.lost(requester)
                self._asks_no_more(transfer, link)
                self._end_if_idle(transfer)
        self.sender.serve_others()

    def waited(self) -> None:
        """The timer for `PaceDue` has fired."""
        self.sender.waited()

    # ------------------------------------------------------------------ inside

    def _pursue(self, transfer: Transfer, *, doubt: bool = False) -> None:
        """Do all that can be done now for an image: serve those who ask, ask for what lacks, end."""
        if transfer.is_being_examined:
            return
        if transfer.above is not None and not transfer.is_whole:
            self._refuse_above(transfer, transfer.above)
        if transfer.layout is None:
            self._pursue_manifest(transfer)
            return
        self.sender.serve(transfer)
        why = self.fetcher.ask_chunks(transfer, doubt)
        if why is not None:
            self._give_up(transfer, why)
            return
        if (transfer.everything or transfer.keeps) and not transfer.told_complete and transfer.is_whole:
            transfer.told_complete = True
            self._complete(transfer.image)
        self._end_if_idle(transfer)

    def _refuse_above(self, transfer: Transfer, link: int) -> None:
        """The parent may wait for this hop no longer: this hop may wait for the parent."""
        transfer.above = None
        requester = transfer.requesters.pop(link, None)
        if requester is not None:
            self.sender.lost(requester)
            self._asks_no_more(transfer, link)
            self._emit(Send(link, i.Unavailable(transfer.image, "it is not all here")))

    def _pursue_manifest(self, transfer: Transfer) -> None:
        if transfer.manifest_asked_of is not None:
            return
        if not transfer.is_wanted:
            self._end_if_idle(transfer)
            return
        why = self.fetcher.ask_manifest(transfer)
        if why is not None:
            self._give_up(transfer, why)

    def _count_bad(self, transfer: Transfer, why: str, *, doubt: bool = False) -> None:
        transfer.bad_chunks += 1
        if transfer.bad_chunks > MAX_BAD_CHUNKS:
            self._give_up(transfer, why)
        else:
            self._pursue(transfer, doubt=doubt)

    def _give_up(self, transfer: Transfer, why: str) -> None:
        image = transfer.image
        self._remove(transfer)
        for link in transfer.requesters:
            self._emit(Send(link, i.Unavailable(image, why)))
        self.fetcher.call_off(transfer)
        for requester in transfer.requesters.values():
            self.sender.lost(requester)
        self._forget(transfer)
        if transfer.everything or transfer.keeps:
            self._failed(image, why)

    def _end_if_idle(self, transfer: Transfer) -> None:
        """Forget an image for which there is nothing left to do."""
        if transfer.everything or transfer.keeps or transfer.is_being_examined:
            return
        for link, requester in list(transfer.requesters.items()):
            if not requester.pending and not requester.manifest and not requester.unacknowledged_bytes:
                del transfer.requesters[link]
                self._asks_no_more(transfer, link)
        if not transfer.requesters and self.transfers.get(transfer.image) is transfer:
            self._remove(transfer)
            self.fetcher.call_off(transfer)
            self._forget(transfer)

    def _remove(self, transfer: Transfer) -> None:
        self._shares.remove(transfer)
        del self.transfers[transfer.image]

    def _forget(self, transfer: Transfer) -> None:
        """Nobody needs this image any more."""
        self._emit(Forget(transfer.image))
        if transfer.layout is None:
            # It may be a copy of which the manifest alone has come.
            self.copies.look_later()
        elif transfer.layout.manifest.is_copy:
            self.copies.idle(transfer.image)
        self._ended(transfer.image)
