"""Sending what a hop has of images to those who ask for it: no more at a time than they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from heorot.core.images.manifest import ChunkLayout, ranges_of
from heorot.core.images.one_image import Requester, Transfer
from heorot.core.images.swarms import Pace
from heorot.core.machine import Send, SendChunks, SendManifest, SetTimer, SharedInstruction
from heorot.core.timers import Due
from heorot.core.wire import images as i

WINDOW_BYTES = 1024 * 1024
"""What may be on its way to one neighbour of one image, not yet acknowledged; at least one chunk may."""
ALIGNED_CHUNKS = 8
"""Pieces end before a multiple of so many chunks, if they are not too small then: so neighbours are sent the same ones,
and each is encoded once."""
CONSIDER_MS = 20
"""So often it is considered whether those who ask should ask others: it takes longer than to send a piece."""

Consider: TypeAlias = Callable[[bytes, int, list[int]], None]
"""These links ask for an image, and one of them lacks so many bytes of it: they may be redirected."""


class PaceDue(Due, frozen=True, gc=False):
    """What waited for a quiet moment of the links may be sent."""


class ImageSender:
    """Serves the requesters of all images on a hop, which share its link.

    Parameters
    ----------
    transfers
        All images on the hop, by name; the caller adds and removes them.
    consider
        Called when neighbours lack something.
    pace
        How fast the neighbours take what they are sent. As long as that is not known, one image waits for another.
    """

    def __init__(
        self,
        emit: Callable[[SharedInstruction], None],
        transfers: dict[bytes, Transfer],
        consider: Consider,
        pace: Pace,
        now_ms: Callable[[], int],
    ) -> None:
        self._emit = emit
        self._transfers = transfers
        self._consider = consider
        self.pace = pace
        self._now_ms = now_ms
        self._waits = False
        """The timer for `PaceDue` is set."""

    def serve(self, transfer: Transfer) -> None:
        """Send all who ask for an image what is here of it and they may be sent now."""
        self._consider_others(transfer)
        for requester in list(transfer.requesters.values()):
            self._serve(transfer, requester)

    def _serve_all(self) -> None:
        """Nobody is held up any more by what others have not taken, or less so."""
        for transfer in list(self._transfers.values()):
            if transfer.layout is not None:
                self.serve(transfer)

    def _consider_others(self, transfer: Transfer) -> None:
        """Let the owner redirect those who ask, if that is better."""
        if transfer.layout is None:
            return
        transfer.considered_at_ms = self._now_ms()
        chunks = 0
        links: list[int] = []
        for link, requester in transfer.requesters.items():
            waiting = requester.pending & ~requester.direct
            if waiting and requester.swarms and not transfer.shares_store_with(requester):
                chunks = max(chunks, waiting.bit_count())
                links.append(link)
        if links:
            self._consider(transfer.image, transfer.layout.size * chunks // max(transfer.layout.chunks, 1), links)

    def _serve(self, transfer: Transfer, requester: Requester) -> None:
        layout = transfer.layout
        assert layout is not None
        if requester.manifest:
            requester.manifest = False
            self._emit(SendManifest(transfer.image, requester.link))
        if transfer.shares_store_with(requester):
            self._tell(transfer, requester)
            return
        cautious = not self.pace.known
        # Cautiously, one chunk to each before anybody is sent a second one.
        window_bytes = WINDOW_BYTES
        if cautious:
            window_bytes = min(WINDOW_BYTES, max(1, self.pace.ahead_bytes // len(transfer.requesters)))
        piece_bytes = self.pace.piece_bytes
        while (ready := requester.pending & transfer.have) and requester.unacknowledged_bytes < window_bytes:
            if cautious and self.pace.room_bytes <= 0:
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
            self.pace.sent(size, self._now_ms())
            self._emit(SendChunks(transfer.image, requester.link, first, count, requester.doubt))

    def _tell(self, transfer: Transfer, requester: Requester) -> None:
        """Say to a neighbour with the same store that what it lacks is there, once all of it is: each word wakes it."""
        if requester.pending and not requester.pending & ~transfer.have:
            self._emit(Send(requester.link, i.Stored(transfer.image, ranges_of(requester.pending))))
            requester.pending = 0

    # ------------------------------------------------------------------ what became of it

    def took(self, transfer: Transfer, requester: Requester, size_bytes: int) -> None:
        """A neighbour has taken some bytes: it may be sent more."""
        was_cautious = not self.pace.known
        size = min(size_bytes, requester.unacknowledged_bytes)
        requester.unacknowledged_bytes -= size
        now_ms = self._now_ms()
        self.pace.took(size, now_ms)
        if was_cautious or now_ms - transfer.considered_at_ms >= CONSIDER_MS:
            self._consider_others(transfer)
        if was_cautious:
            self._serve_all()
        else:
            self._serve(transfer, requester)

    def not_sent(self, layout: ChunkLayout, requester: Requester, first: int, count: int) -> None:
        """These chunks were to be sent and were not: they are pending again."""
        requester.pending |= ((1 << count) - 1) << first
        size = sum(layout.place(chunk)[2] for chunk in range(first, first + count))
        requester.unacknowledged_bytes -= size
        self.pace.lost(size)

    def lost(self, requester: Requester) -> None:
        """A neighbour takes nothing more of an image."""
        self.pace.lost(requester.unacknowledged_bytes)

    def serve_others(self) -> None:
        """A neighbour is lost: what it has not taken stands in nobody's way any more."""
        if not self.pace.known:
            self._serve_all()

    # ------------------------------------------------------------------ patience

    def _wait(self) -> None:
        if not self._waits:
            self._waits = True
            self._emit(SetTimer(PaceDue(), max(self._now_ms() + 1, self.pace.quiet_until_ms())))

    def waited(self) -> None:
        """The timer for `PaceDue` has fired."""
        self._waits = False
        if self.pace.known:
            return
        if self._now_ms() >= self.pace.quiet_until_ms():
            self.pace.waited()
        self._serve_all()
