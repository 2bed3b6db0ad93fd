"""One image on one hop: what of it is here, who asks for it, and what was asked of whom."""

from __future__ import annotations

from heorot.core.images.manifest import MAX_CHUNKS, ChunkLayout, mask_of
from heorot.core.images.states import IMAGE, ImageChange, ImageState
from heorot.core.wire import images as i

NOBODY = -1


class Requester:
    """A neighbour below that lacks something."""

    __slots__ = ("direct", "doubt", "link", "manifest", "pending", "plan", "store", "swarms", "unacknowledged_bytes")

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
        self.store = b""
        """The store that its cache shares; empty: it wants the bytes."""


class Transfer:
    """One image on this hop."""

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.state = IMAGE.start
        self.story = 0
        self.layout: ChunkLayout | None = None
        self.have = 0
        """Mask of the chunks that are in the cache; it changes with the state."""
        self.everything = False
        """This host itself needs the image."""
        self.keeps = False
        """The head wants this host to have all of it."""
        self.above: int | None = None
        """The link of a parent that asks for it: it is sent what is whole here, and waits for nothing."""
        self.told_complete = False
        self.requesters: dict[int, Requester] = {}
        self.origins: dict[int, int] = {}
        """By link that asks for it: for which node."""
        self.origin = NOBODY
        """For which of these it is counted (`heorot.core.images.shares`); nobody: this host itself needs it."""
        self.is_counted = False
        self.asked: dict[int, int] = {}
        """By source: mask of the chunks that it was asked for and has not sent."""
        self.asked_directly = 0
        """Mask of the chunks that were asked for directly."""
        self.flows = False
        """Something has come from a source."""
        self.manifest_asked_of: int | None = None
        self.refusals: dict[int, str] = {}
        """Sources that cannot give what they were asked for, and why."""
        self.store = b""
        """The store that this host's cache shares with others; empty: none."""
        self.taking = 0
        """Mask of the chunks that are said to be there, and are being taken."""
        self.is_store_of_use = True
        """All that was said to be there was."""
        self.bad_chunks = 0
        self.considered_at_ms = 0

    @property
    def name(self) -> str:
        """The image, for people."""
        return self.image.hex()[:12]

    @property
    def is_whole(self) -> bool:
        """Whether all of it is in the cache."""
        return self.state is ImageState.WHOLE

    @property
    def is_being_examined(self) -> bool:
        """Whether the cache is still to say what it has."""
        return self.state is ImageState.EXAMINING or self.state is ImageState.LISTING

    # ------------------------------------------------------------------ what is here

    def found_nothing(self) -> None:
        """The cache has been looked at, and does not have even the manifest."""
        IMAGE.step(self, ImageChange.NOTHING_FOUND)

    def found(self, layout: ChunkLayout, chunks: int) -> None:
        """The cache has the manifest, and a mask of the chunks."""
        self.layout = layout
        self.manifest_asked_of = None
        self.have |= chunks
        IMAGE.step(self, ImageChange.ALL_FOUND if self._lacks_none else ImageChange.SOME_FOUND)

    def manifest_came(self) -> None:
        """The manifest goes into the cache, which says then what else is there."""
        IMAGE.step(self, ImageChange.MANIFEST_CAME)

    def chunks_came(self, chunks: int) -> None:
        """These chunks, a mask, that lacked are in the cache now."""
        self.have |= chunks
        if chunks and self._lacks_none:
            IMAGE.step(self, ImageChange.COMPLETED)

    def shared_taken(self, chunks: int, found: int) -> None:
        """Of these chunks, a mask, those that were found are in the cache now."""
        self.taking &= ~chunks
        self.is_store_of_use = self.is_store_of_use and found == chunks
        self.chunks_came(found & ~self.have)

    def chunks_gone(self, chunks: int) -> None:
        """The cache does not have these chunks, a mask, any more."""
        self.have &= ~chunks
        if not self._lacks_none:
            IMAGE.step(self, ImageChange.SPOILT)

    @property
    def _lacks_none(self) -> bool:
        return self.layout is not None and self.have == (1 << self.layout.chunks) - 1

    # ------------------------------------------------------------------ who asks

    def want(self, link: int, want: i.Want) -> None:
        """A neighbour lacks something. What it asks for before the manifest is known is checked when it is.

        Raises
        ------
        ProtocolError
            If it asks for chunks that the image does not have, or that none has.
        """
        pending = mask_of(want.chunks, self.layout.chunks if self.layout is not None else MAX_CHUNKS)
        requester = self.requesters.get(link)
        if requester is None:
            requester = self.requesters[link] = Requester(link)
        if not pending and not want.manifest:
            requester.pending = requester.direct = 0
            requester.manifest = False
        requester.pending |= pending
        requester.swarms = want.swarms
        requester.plan = want.plan
        requester.store = want.store
        if want.direct:
            requester.direct |= pending
        requester.manifest |= want.manifest
        requester.doubt |= want.doubt

    def who_understands_swarms(self) -> list[int]:
        """Return the links that ask for it and understand `Swarm`."""
        return [link for link, requester in self.requesters.items() if requester.swarms]

    def shares_store_with(self, requester: Requester) -> bool:
        """Say whether a neighbour finds in its own cache's store what is in this one."""
        return bool(requester.store) and requester.store == self.store and not requester.doubt

    @property
    def is_wanted(self) -> bool:
        """Whether this host, or somebody who asks, still has to get something."""
        if self.everything or self.keeps:
            return True
        return any(requester.pending or requester.manifest for requester in self.requesters.values())

    def asks_for_too_much(self) -> list[int]:
        """Return the links that have asked for chunks which the image, now that it is known, does not have."""
        assert self.layout is not None
        return [link for link, requester in self.requesters.items() if requester.pending >> self.layout.chunks]

    def redirect(self, link: int) -> None:
        """This neighbour asks somebody else from now on; what it has asked for directly it is still sent."""
        requester = self.requesters.get(link)
        if requester is not None:
            requester.pending &= requester.direct

    # ------------------------------------------------------------------ what lacks

    def lacking(self) -> int:
        """Return a mask of the chunks that this hop needs, for itself or for others, and does not have."""
        assert self.layout is not None
        if self.everything or self.keeps:
            needed = (1 << self.layout.chunks) - 1
        else:
            needed = 0
            for requester in self.requesters.values():
                needed |= requester.pending
        return needed & ~self.have

    def lacking_directly(self, plan: bytes) -> int:
        """Return a mask of the chunks that others need, this hop does not have, and must not expect from a peer when it
        follows this plan.
        """
        needed = 0
        for requester in self.requesters.values():
            follows_other = plan and requester.plan != plan
            needed |= requester.pending if follows_other else requester.direct & requester.pending
        return needed & ~self.have

    def answered(self, source: int, chunks: int) -> None:
        """A source has answered for these chunks, a mask, that it was asked for."""
        self.asked[source] = self.asked.get(source, 0) & ~chunks
        self.asked_directly &= ~chunks

    def take_back(self, source: int) -> bool:
        """Forget what a source was asked for and has not sent; return whether that was anything."""
        asked = self.asked.pop(source, 0)
        self.asked_directly &= ~asked
        if self.manifest_asked_of == source:
            self.manifest_asked_of = None
            return True
        return asked != 0
