"""Asking for what a hop lacks of images: of whom, and for which chunks.

A source may be asked for every other chunk only, by the plan of a swarm (`heorot.core.images.swarms`). Nobody may wait
for somebody who waits for him. So a hop may let others wait for what it expects from a peer only if they follow the
same plan, in which there is no ring. For all others, and for who asks *directly*, it asks its own parent directly, too;
and what is asked for without a plan it asks its parent for without a plan, unless it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from heorot.core.images.manifest import ranges_of
from heorot.core.images.one_image import Transfer
from heorot.core.wire import images as i

Ask: TypeAlias = Callable[[int, i.Want | i.Took], None]
"""Say this to a source."""


class Source(Struct, frozen=True):
    """Of whom an image may be asked: for the chunks whose number leaves `part` when it is divided by `parts`."""

    link: int
    """Negative: the inverted link (`~link`) of a child of the head, one of several that may have it."""
    part: int = 0
    parts: int = 1
    direct: bool = False
    plan: bytes = b""
    """Which plan says so; empty: none."""


Sources: TypeAlias = Callable[[bytes], list[Source] | str]
"""Return whom an image may be asked of at the moment; empty: nobody now, but that will change; or why nobody will ever
have it."""


class ImageFetcher:
    """Asks the sources. For the parameters see `heorot.core.images.hop.Transfers`."""

    def __init__(
        self, ask: Ask, sources: Sources, parent: Callable[[], int | None], plan: Callable[[bytes], bytes]
    ) -> None:
        self._ask = ask
        self._sources = sources
        self._parent = parent
        self._plan = plan

    def is_peer(self, image: bytes, source: int) -> bool:
        """Say whether others may have an image if this source does not: it is a peer of the plan, or a head's child."""
        return source < 0 or (bool(self._plan(image)) and source != self._parent())

    def took(self, image: bytes, source: int, size_bytes: int) -> None:
        """Tell a source that so much has arrived."""
        self._ask(source, i.Took(image, size_bytes))

    def ask_manifest(self, transfer: Transfer) -> str | None:
        """Ask for the manifest, if there is somebody to ask; return why nobody will ever have it, else None."""
        sources = self._sources(transfer.image)
        if isinstance(sources, str):
            return sources
        # Not of a peer: only each tree of a plan is without a ring, not both of them together.
        link = self._parent() if self._plan(transfer.image) else sources[0].link if sources else None
        if link in transfer.refusals:
            return transfer.refusals[link]
        if link is not None:
            transfer.manifest_asked_of = link
            self._ask(link, i.Want(transfer.image, True, [], swarms=True, origin=transfer.origin))
        return None

    def ask_chunks(self, transfer: Transfer, doubt: bool) -> str | None:
        """Ask for what lacks and was not asked for; return why some of it cannot be had, else None.

        `doubt`: the sources shall look whether what they have is what it should be.
        """
        lacking = transfer.lacking()
        on_their_way = transfer.taking
        for mask in transfer.asked.values():
            on_their_way |= mask
        to_ask = lacking & ~on_their_way
        plan = self._plan(transfer.image)
        directly = transfer.lacking_directly(plan) & ~transfer.asked_directly & ~transfer.taking
        parent = self._parent() if directly else None
        if not to_ask and parent is None:
            return None
        sources = self._sources(transfer.image)
        if isinstance(sources, str):
            return sources
        shares = [(Source(parent, direct=True, plan=plan), directly)] if parent is not None else []
        if parent is not None:
            to_ask &= ~directly
        for source in sources:
            shares.append((source, to_ask & _every(source.parts, source.part, to_ask.bit_length())))
        for source, share in shares:
            if share and source.link in transfer.refusals:
                # Nobody else has this part: what peers send comes from above, too.
                return transfer.refusals[source.link]
        for source, share in shares:
            self._ask_for(transfer, source, share, doubt)
        return None

    def _ask_for(self, transfer: Transfer, source: Source, share: int, doubt: bool) -> None:
        if share:
            transfer.asked[source.link] = transfer.asked.get(source.link, 0) | share
            if source.direct:
                transfer.asked_directly |= share
            want = i.Want(
                transfer.image,
                False,
                ranges_of(share),
                doubt,
                source.direct,
                swarms=not source.direct and not source.plan,
                plan=source.plan,
                origin=transfer.origin,
                store=transfer.store if transfer.is_store_of_use else b"",
            )
            self._ask(source.link, want)

    def call_off(self, transfer: Transfer) -> None:
        """Ask for nothing more of this image."""
        for source, chunks in transfer.asked.items():
            if chunks:
                self._ask(source, i.Want(transfer.image, False, []))


def _every(step: int, start: int, length: int) -> int:
    """Return a mask of every `step`-th bit from `start` on, below `length`."""
    if step == 1:
        return (1 << length) - 1
    pattern, bits = 1 << start, step
    while bits < length:
        pattern |= pattern << bits
        bits *= 2
    return pattern & ((1 << length) - 1)
