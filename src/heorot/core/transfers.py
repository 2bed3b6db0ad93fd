"""Images on their way through the tree: what one hop has, lacks, is asked for, and has asked for.

Theory of operation. Whoever lacks a part of an image asks one of its sources (a node its parent, the head the client)
and is sent that part in ascending order. A hop that is asked for what it lacks asks its own sources, once for all that
ask it, and passes each chunk on as soon as it has come and was checked: so a chunk is on every level of the tree at the
same time, whatever the size of the image. Chunks go through the cache on the disk: what a hop holds in memory are
those of the message that it is looking at, and what a slow neighbour has not taken is never more than a window.

There is nothing to mend when a neighbour is lost. The one above is replaced by another, which is asked for what is
still lacking; the one below asks somebody else.

A source may be asked for every other chunk only, by the plan of a swarm (`heorot.core.swarms`). Nobody may wait for
somebody who waits for him. So a hop may let others wait for what it expects from a peer only if they follow the same
plan, in which there is no ring. For all others, and for who asks *directly*, it asks its own parent directly, too; and
what is asked for without a plan it asks its parent for without a plan, unless it has one.

One image on one hop::

    examining ──Examined──▶ without manifest ──ImageManifest──▶ examining ──Examined──▶ complete, or fetching chunks
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TypeAlias

from msgspec import Struct

from heorot.core import image_messages as i
from heorot.core.errors import ProtocolError
from heorot.core.image import Layout, decode_manifest, image_id, mask_of, ranges_of
from heorot.core.machine import (
    CacheFailed,
    ChunksGone,
    Examine,
    Examined,
    Forget,
    Instruction,
    KeepChunks,
    KeepManifest,
    Log,
    Send,
    SendChunks,
    SendManifest,
    SetTimer,
)
from heorot.core.swarms import Pace

WINDOW_BYTES = 1024 * 1024
"""What may be on its way to one neighbour of one image, not yet acknowledged; at least one chunk may."""
ALIGNED_CHUNKS = 8
"""Pieces end before a multiple of so many chunks, if they are not too small then: so neighbours are sent the same ones,
and each is encoded once."""
CONSIDER_MS = 20
"""So often it is considered whether those who ask should ask others: it takes longer than to send a piece."""
MAX_IMAGES = 1_024
"""Images under way on one hop at a time."""
MAX_WAITING_WANTS = 16
"""So many requests of one neighbour wait for the manifest."""
MAX_BAD_CHUNKS = 8
"""An image is given up when so many chunks of it were not what they should be."""

Ask: TypeAlias = Callable[[int, i.Want | i.Took], None]
"""Say this to a source."""


class Source(Struct, frozen=True):
    """Of whom an image may be asked: for the chunks whose number leaves `part` when it is divided by `parts`."""

    link: int
    part: int = 0
    parts: int = 1
    direct: bool = False
    plan: bytes = b""
    """Which plan says so; empty: none."""


Sources: TypeAlias = Callable[[bytes], list[Source] | str]
"""Return whom an image may be asked of at the moment; empty: nobody now, but that will change; or why nobody will ever
have it."""
Consider: TypeAlias = Callable[[bytes, int, list[int]], None]
"""These links ask for an image, and one of them lacks so many bytes of it: they may be redirected."""


class _Requester:
    """A neighbour below that lacks something."""

    __slots__ = ("direct", "doubt", "link", "manifest", "pending", "plan", "swarms", "unacknowledged_bytes")

    def __init__(self, link: int) -> None:
        self.link = link
        self.manifest = False
        """It is to be sent the manifest."""
        self.pending = 0
        """Mask of the chunks that it is still to be sent."""
        self.direct = 0
        """Mask of those of them that this hop must not expect from a peer."""
        self.unacknowledged_bytes = 0
        self.doubt = False
        self.swarms = False
        self.plan = b""


class _Transfer:
    """One image on this hop."""

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.examining = True
        self.layout: Layout | None = None
        self.have = 0
        """Mask of the chunks that are in the cache."""
        self.everything = False
        """This host itself needs the image."""
        self.told_complete = False
        self.requesters: dict[int, _Requester] = {}
        self.wants: dict[int, list[i.Want]] = {}
        """What neighbours asked for before the manifest was known, in order."""
        self.asked: dict[int, int] = {}
        """By source: mask of the chunks that it was asked for and has not sent."""
        self.asked_directly = 0
        """Mask of the chunks that were asked for directly."""
        self.flows = False
        """Something has come from a source."""
        self.manifest_asked_of: int | None = None
        self.refusals: dict[int, str] = {}
        """Sources that cannot give what they were asked for, and why."""
        self.bad_chunks = 0
        self.considered_at_ms = 0

    def lacking(self) -> int:
        """Return a mask of the chunks that this hop needs, for itself or for others, and does not have."""
        assert self.layout is not None
        if self.everything:
            needed = (1 << self.layout.chunks) - 1
        else:
            needed = 0
            for requester in self.requesters.values():
                needed |= requester.pending
        return needed & ~self.have

    def take_back(self, source: int) -> bool:
        """Forget what a source was asked for and has not sent; return whether that was anything."""
        asked = self.asked.pop(source, 0)
        self.asked_directly &= ~asked
        if self.manifest_asked_of == source:
            self.manifest_asked_of = None
            return True
        return asked != 0

    def lacking_directly(self, plan: bytes) -> int:
        """Return a mask of the chunks that others need, this hop does not have, and must not expect from a peer when it
        follows this plan.
        """
        needed = 0
        for requester in self.requesters.values():
            follows_other = plan and requester.plan != plan
            needed |= requester.pending if follows_other else requester.direct & requester.pending
        return needed & ~self.have


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
    """

    def __init__(
        self,
        emit: Callable[[Instruction], None],
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
    ) -> None:
        self._emit = emit
        self._ask = ask
        self._sources = sources
        self._complete = complete
        self._failed = failed
        self._parent = parent
        self._consider = consider
        self._plan = plan
        self._ended = ended
        self._pace = pace or Pace()
        self._now_ms = now_ms
        self._waits = False
        """The timer ``pace`` is set."""
        self.transfers: dict[bytes, _Transfer] = {}

    # ------------------------------------------------------------------ what is wanted

    def need(self, image: bytes) -> None:
        """This host needs an image; `complete` or `failed` follows."""
        transfer = self._begin(image)
        if transfer is None:
            self._failed(image, f"{MAX_IMAGES} images are on their way already")
            return
        transfer.everything = True
        transfer.told_complete = False
        transfer.refusals.clear()
        self._pursue(transfer)

    def dismiss(self, image: bytes) -> None:
        """This host needs the image no longer, or has it."""
        transfer = self.transfers.get(image)
        if transfer is not None:
            transfer.everything = False
            self._end_if_idle(transfer)

    def __len__(self) -> int:
        return len(self.transfers)

    # ------------------------------------------------------------------ who has it from whom

    def is_flowing(self, image: bytes) -> bool:
        """Say whether something of an image has come, or all of it is here."""
        transfer = self.transfers.get(image)
        if transfer is None or transfer.layout is None:
            return False
        return transfer.flows or transfer.have == (1 << transfer.layout.chunks) - 1

    def is_examining(self, image: bytes) -> bool:
        """Say whether `Examined` is still to come for an image."""
        transfer = self.transfers.get(image)
        return transfer is not None and transfer.examining

    def requesters(self, image: bytes) -> list[int]:
        """Return the links that ask for an image and understand `Swarm`."""
        transfer = self.transfers.get(image)
        if transfer is None:
            return []
        asking = [link for link, requester in transfer.requesters.items() if requester.swarms]
        waiting = [link for link, wants in transfer.wants.items() if wants and wants[-1].swarms]
        return asking + [link for link in waiting if link not in asking]

    def redirect(self, image: bytes, link: int) -> None:
        """This neighbour asks somebody else from now on; what it has asked for directly it is still sent."""
        transfer = self.transfers[image]
        requester = transfer.requesters.get(link)
        if requester is not None:
            requester.pending &= requester.direct
        if link in transfer.wants:
            transfer.wants[link] = [want for want in transfer.wants[link] if want.direct or want.manifest]

    def replan(self, image: bytes) -> None:
        """The sources of this image are others now: call off what was asked for, and ask them."""
        transfer = self.transfers[image]
        self._call_off(transfer)
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

    def want(self, link: int, want: i.Want) -> None:
        """A neighbour lacks something.

        Raises
        ------
        ProtocolError
            If it asks for chunks that the image does not have.
        """
        transfer = self._begin(want.image)
        if transfer is None:
            self._emit(Send(link, i.Unavailable(want.image, f"{MAX_IMAGES} images are on their way already")))
            return
        transfer.refusals.clear()
        if transfer.layout is None:
            waiting = transfer.wants.setdefault(link, [])
            if not want.manifest and not want.chunks:
                waiting.clear()
            if len(waiting) >= MAX_WAITING_WANTS:
                raise ProtocolError(f"{MAX_WAITING_WANTS} requests for an image whose manifest is not known yet")
            waiting.append(want)
        else:
            self._take_want(transfer, transfer.layout, link, want)
        self._pursue(transfer)

    def _take_want(self, transfer: _Transfer, layout: Layout, link: int, want: i.Want) -> None:
        pending = mask_of(want.chunks, layout.chunks)
        requester = transfer.requesters.get(link)
        if requester is None:
            requester = transfer.requesters[link] = _Requester(link)
        if not pending and not want.manifest:
            requester.pending = requester.direct = 0
            requester.manifest = False
        requester.pending |= pending
        requester.swarms = want.swarms
        requester.plan = want.plan
        if want.direct:
            requester.direct |= pending
        requester.manifest |= want.manifest
        requester.doubt |= want.doubt

    def _begin(self, image: bytes) -> _Transfer | None:
        transfer = self.transfers.get(image)
        if transfer is None and len(self.transfers) < MAX_IMAGES:
            transfer = self.transfers[image] = _Transfer(image)
            self._emit(Examine(image))
        return transfer

    # ------------------------------------------------------------------ what the cache says

    def examined(self, event: Examined) -> None:
        """The cache has been looked at."""
        transfer = self.transfers.get(event.image)
        if transfer is None:
            return
        transfer.examining = False
        if event.manifest and transfer.layout is None:
            transfer.layout = Layout(decode_manifest(event.manifest))
        if transfer.layout is not None:
            transfer.have |= mask_of(event.chunks, transfer.layout.chunks)
            wants, transfer.wants = transfer.wants, {}
            for link, want in [(link, want) for link, waiting in wants.items() for want in waiting]:
                try:
                    self._take_want(transfer, transfer.layout, link, want)
                except ProtocolError as error:
                    self._emit(Log("warning", f"a neighbour asks for what an image does not have: {error}"))
                    self._emit(Send(link, i.Unavailable(event.image, str(error))))
        self._pursue(transfer)

    def chunks_gone(self, event: ChunksGone) -> None:
        """The cache does not have what it was thought to have: fetch it, and send it then."""
        transfer = self.transfers.get(event.image)
        if transfer is None or transfer.layout is None:
            return
        transfer.have &= ~mask_of(event.chunks, transfer.layout.chunks)
        requester = transfer.requesters.get(event.link)
        if requester is not None:
            unsent = ((1 << event.count) - 1) << event.first
            requester.pending |= unsent
            size = self._size_of(transfer.layout, event.first, event.count)
            requester.unacknowledged_bytes -= size
            self._pace.lost(size)
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
        transfer.examining = True
        self._emit(KeepManifest(message.image, message.data))

    def piece(self, source: int, message: i.Piece) -> bool:
        """Chunks have come: keep them, pass them on. Return False if one was not what it should be.

        Raises
        ------
        ProtocolError
            If they are none of the image's.
        """
        transfer = self.transfers.get(message.image)
        size = sum(map(len, message.chunks))
        self._ask(source, i.Took(message.image, size))
        if transfer is None or transfer.layout is None:
            return True  # nobody needs it any more
        layout = transfer.layout
        if message.first + len(message.chunks) > layout.chunks:
            raise ProtocolError(f"the chunks from {message.first} of an image that has {layout.chunks}")
        asked = transfer.asked.get(source, 0)
        bad = False
        kept: list[KeepChunks] = []
        transfer.flows = True
        # What was called off meanwhile, because somebody else was asked for it, is welcome all the same.
        welcome = asked | transfer.lacking()
        for chunk, data in enumerate(message.chunks, message.first):
            bit = 1 << chunk
            if not welcome & bit:
                continue
            asked &= ~bit
            transfer.asked_directly &= ~bit
            if sha256(data).digest() != layout.digest(chunk):
                self._emit(Log("error", f"chunk {chunk} of the image {message.image.hex()[:12]} came damaged"))
                bad = True
            elif not transfer.have & bit:
                transfer.have |= bit
                if not kept or kept[-1].first + len(kept[-1].chunks) != chunk:
                    kept.append(KeepChunks(message.image, chunk, []))
                kept[-1].chunks.append(data)
        for run in kept:
            self._emit(run)
        transfer.asked[source] = asked
        if not bad:
            self._pursue(transfer)
        elif self._plan(message.image) and source != self._parent():
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
        if transfer is not None and requester is not None:
            was_cautious = not self._pace.known
            size = min(message.size_bytes, requester.unacknowledged_bytes)
            requester.unacknowledged_bytes -= size
            now_ms = self._now_ms()
            self._pace.took(size, now_ms)
            if was_cautious or now_ms - transfer.considered_at_ms >= CONSIDER_MS:
                self._consider_others(transfer)
            if was_cautious:
                self._serve_all()
            else:
                self._serve(transfer, requester)
            self._end_if_idle(transfer)

    def _consider_others(self, transfer: _Transfer) -> None:
        """Let the owner redirect those who ask, if that is better."""
        if transfer.layout is None:
            return
        transfer.considered_at_ms = self._now_ms()
        chunks = 0
        links: list[int] = []
        for link, requester in transfer.requesters.items():
            waiting = requester.pending & ~requester.direct
            if waiting and requester.swarms:
                chunks = max(chunks, waiting.bit_count())
                links.append(link)
        if links:
            self._consider(transfer.image, transfer.layout.size * chunks // max(transfer.layout.chunks, 1), links)

    def neighbour_lost(self, link: int) -> None:
        """A neighbour is gone, and with it what it lacked."""
        for transfer in list(self.transfers.values()):
            requester = transfer.requesters.pop(link, None)
            if requester is not None:
                self._pace.lost(requester.unacknowledged_bytes)
            if transfer.wants.pop(link, None) or requester is not None:
                self._end_if_idle(transfer)
        if not self._pace.known:
            self._serve_all()

    def waited(self) -> None:
        """The timer ``pace`` has fired."""
        self._waits = False
        if self._pace.known:
            return
        if self._now_ms() >= self._pace.quiet_until_ms():
            self._pace.waited()
        self._serve_all()

    # ------------------------------------------------------------------ inside

    def _pursue(self, transfer: _Transfer, *, doubt: bool = False) -> None:
        """Do all that can be done now for an image: serve those who ask, ask for what lacks, end."""
        if transfer.examining:
            return
        if transfer.layout is None:
            self._ask_manifest(transfer)
            return
        self._consider_others(transfer)
        for requester in list(transfer.requesters.values()):
            self._serve(transfer, requester)
        if not self._ask_chunks(transfer, doubt):
            return
        whole = (1 << transfer.layout.chunks) - 1
        if transfer.everything and not transfer.told_complete and transfer.have == whole:
            transfer.told_complete = True
            self._complete(transfer.image)
        self._end_if_idle(transfer)

    def _ask_manifest(self, transfer: _Transfer) -> None:
        if transfer.manifest_asked_of is not None:
            return
        if not transfer.everything and not transfer.wants:
            self._end_if_idle(transfer)
            return
        sources = self._sources(transfer.image)
        if isinstance(sources, str):
            self._give_up(transfer, sources)
            return
        # Not of a peer: only each tree of a plan is without a ring, not both of them together.
        link = self._parent() if self._plan(transfer.image) else sources[0].link if sources else None
        if link in transfer.refusals:
            self._give_up(transfer, transfer.refusals[link])
        elif link is not None:
            transfer.manifest_asked_of = link
            self._ask(link, i.Want(transfer.image, True, [], swarms=True))

    def _ask_chunks(self, transfer: _Transfer, doubt: bool) -> bool:
        """Ask for what lacks and was not asked for; return False if the image was given up."""
        lacking = transfer.lacking()
        on_their_way = 0
        for mask in transfer.asked.values():
            on_their_way |= mask
        to_ask = lacking & ~on_their_way
        plan = self._plan(transfer.image)
        directly = transfer.lacking_directly(plan) & ~transfer.asked_directly
        parent = self._parent() if directly else None
        if not to_ask and parent is None:
            return True
        sources = self._sources(transfer.image)
        if isinstance(sources, str):
            self._give_up(transfer, sources)
            return False
        shares = [(Source(parent, direct=True, plan=plan), directly)] if parent is not None else []
        if parent is not None:
            to_ask &= ~directly
        for source in sources:
            shares.append((source, to_ask & _every(source.parts, source.part, to_ask.bit_length())))
        for source, share in shares:
            if share and source.link in transfer.refusals:
                # Nobody else has this part: what peers send comes from above, too.
                self._give_up(transfer, transfer.refusals[source.link])
                return False
        for source, share in shares:
            self._ask_for(transfer, source, share, doubt)
        return True

    def _ask_for(self, transfer: _Transfer, source: Source, share: int, doubt: bool) -> None:
        if share:
            transfer.asked[source.link] = transfer.asked.get(source.link, 0) | share
            if source.direct:
                transfer.asked_directly |= share
            may_be_redirected = not source.direct and not source.plan
            chunks = ranges_of(share)
            want = i.Want(transfer.image, False, chunks, doubt, source.direct, may_be_redirected, source.plan)
            self._ask(source.link, want)

    def _serve(self, transfer: _Transfer, requester: _Requester) -> None:
        layout = transfer.layout
        assert layout is not None
        if requester.manifest:
            requester.manifest = False
            self._emit(SendManifest(transfer.image, requester.link))
        cautious = not self._pace.known
        # Cautiously, one chunk to each before anybody is sent a second one.
        window_bytes = WINDOW_BYTES
        if cautious:
            window_bytes = min(WINDOW_BYTES, max(1, self._pace.ahead_bytes // len(transfer.requesters)))
        piece_bytes = self._pace.piece_bytes
        while (ready := requester.pending & transfer.have) and requester.unacknowledged_bytes < window_bytes:
            if cautious and self._pace.room_bytes <= 0:
                self._wait()
                break
            first = (ready & -ready).bit_length() - 1
            count = size = 0
            room_bytes = min(piece_bytes, window_bytes - requester.unacknowledged_bytes)
            while ready >> (first + count) & 1:
                length = layout.place(first + count)[2]
                if count and (cautious or size + length > room_bytes):
                    break
                if 2 * size >= piece_bytes and (first + count) % ALIGNED_CHUNKS == 0:
                    break
                count += 1
                size += length
            requester.pending &= ~(((1 << count) - 1) << first)
            requester.unacknowledged_bytes += size
            self._pace.sent(size, self._now_ms())
            self._emit(SendChunks(transfer.image, requester.link, first, count, requester.doubt))

    def _serve_all(self) -> None:
        """Nobody is held up any more by what others have not taken, or less so."""
        for transfer in list(self.transfers.values()):
            if transfer.layout is not None and not transfer.examining:
                self._consider_others(transfer)
                for requester in list(transfer.requesters.values()):
                    self._serve(transfer, requester)

    def _wait(self) -> None:
        if not self._waits:
            self._waits = True
            self._emit(SetTimer("pace", max(self._now_ms() + 1, self._pace.quiet_until_ms())))

    @staticmethod
    def _size_of(layout: Layout, first: int, count: int) -> int:
        return sum(layout.place(chunk)[2] for chunk in range(first, first + count))

    def _count_bad(self, transfer: _Transfer, why: str, *, doubt: bool = False) -> None:
        transfer.bad_chunks += 1
        if transfer.bad_chunks > MAX_BAD_CHUNKS:
            self._give_up(transfer, why)
        else:
            self._pursue(transfer, doubt=doubt)

    def _give_up(self, transfer: _Transfer, why: str) -> None:
        image = transfer.image
        del self.transfers[image]
        for link in [*transfer.requesters, *transfer.wants]:
            self._emit(Send(link, i.Unavailable(image, why)))
        self._call_off(transfer)
        for requester in transfer.requesters.values():
            self._pace.lost(requester.unacknowledged_bytes)
        self._emit(Forget(image))
        self._ended(image)
        if transfer.everything:
            self._failed(image, why)

    def _call_off(self, transfer: _Transfer) -> None:
        """Ask for nothing more of this image."""
        for source, chunks in transfer.asked.items():
            if chunks:
                self._ask(source, i.Want(transfer.image, False, []))

    def _end_if_idle(self, transfer: _Transfer) -> None:
        """Forget an image for which there is nothing left to do."""
        if transfer.everything or transfer.examining or transfer.wants:
            return
        for link, requester in list(transfer.requesters.items()):
            if not requester.pending and not requester.unacknowledged_bytes:
                del transfer.requesters[link]
        if not transfer.requesters and self.transfers.get(transfer.image) is transfer:
            del self.transfers[transfer.image]
            self._call_off(transfer)
            self._emit(Forget(transfer.image))
            self._ended(transfer.image)


def _every(step: int, start: int, length: int) -> int:
    """Return a mask of every `step`-th bit from `start` on, below `length`."""
    if step == 1:
        return (1 << length) - 1
    pattern, bits = 1 << start, step
    while bits < length:
        pattern |= pattern << bits
        bits *= 2
    return pattern & ((1 << length) - 1)
