"""The head's part in images: it has them from clients, keeps them in its cache, and is the root of their tree.

What no client of this head has, because the client had it sent to a former head and went away, one of the children may
have all of (`heorot.core.head.safekeeping`). They are asked one after the other; each answers out of its own cache, or
refuses.
"""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from heorot.core.errors import RequestError
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.jobs import Jobs
from heorot.core.head.offers import Offers
from heorot.core.head.safekeeping import LOOK_MS
from heorot.core.head.timers import SeekDue
from heorot.core.images.fetcher import Source
from heorot.core.images.hop import Transfers
from heorot.core.images.shares import origin_of
from heorot.core.images.swarms import Below, Swarms
from heorot.core.machine import Send
from heorot.core.tree.below_link import LinkBelow
from heorot.core.wire import clients as c
from heorot.core.wire import images as i
from heorot.core.wire import tree as m

SILENT_LOOKS = 5
"""A child that was asked and has sent nothing for so many looks is taken for one that does not have it."""


class HeadImages:
    """Images on the head: clients are the sources, the links of the tree ask for them."""

    def __init__(self, context: HeadContext, jobs: Jobs) -> None:
        self._context = context
        self._jobs = jobs
        self._offers = Offers(self._wanted_by)
        self._staging: dict[bytes, list[tuple[Caller, int]]] = {}
        """By image: client and request that wait until it is here."""
        self.safekeeping = jobs.safekeeping
        self._began_ms = 0
        self._without: dict[bytes, set[int]] = {}
        """By image that is sought below: the links of the children that do not have it."""
        self._sought: dict[bytes, tuple[int, int]] = {}
        """The child that is asked, and for how many looks it has sent nothing."""
        self._seeks = False
        self.swarms = Swarms(
            context.emit,
            lambda image, link: self.transfers.redirect(image, link),
            self._address_of,
            lambda: {link.link: Below(link.peer, link.mask) for link in context.below.by_link.values()},
            self._wanted,
            context.config.swarm_gain_ms,
        )
        self.transfers = Transfers(
            context.emit,
            self._ask,
            self._sources,
            self._complete,
            self._failed,
            consider=lambda image, size, links: self.swarms.consider(image, size, links, context.now_ms),
            ended=self._ended,
            pace=self.swarms.pace,
            now_ms=lambda: context.now_ms,
        )

    def start(self) -> None:
        """The term begins."""
        self._began_ms = self._context.now_ms

    # ------------------------------------------------------------------ clients

    def offer(self, caller: Caller, image: bytes) -> None:
        """A client has this image, for as long as it is connected. Raises RequestError: ``too-many-images``."""
        self._offers.add(caller.client, caller.uid, image)
        if self._offers.are_of_several(image):
            self._look_later()
        self.transfers.pursue(image)

    def require_room(self, caller: Caller, image: bytes) -> None:
        """See that the user may launch a job with one more program. Raises RequestError: ``busy``.

        What is refused here no node has to fetch: so there is room on every hop for what is not (`Transfers`).
        """
        quota, jobs = self._context.programs_quota, self._jobs.jobs
        if 2 * len(jobs) < quota.limit - quota.kept:
            return  # so few jobs that nobody can have too many of them
        held: dict[int, set[bytes]] = {}
        for job in jobs.values():
            if job.ticket.spec.image and not job.done and job.lacks_starts:
                held.setdefault(job.ticket.uid, set()).add(job.ticket.spec.image)
        if image not in held.get(caller.uid, ()):
            counts = {uid: len(images) for uid, images in held.items()}
            why = quota.refusal(caller.uid, counts, name=caller.user)
            if why:
                raise RequestError("busy", why)

    def _wanted_by(self, image: bytes) -> dict[int, int]:
        # Whoever has a job comes first: nodes wait for the program.
        wanted = {other.uid: 1 for other, _ in self._staging.get(image, ())}
        return wanted | {
            job.ticket.uid: 0 for job in self._jobs.jobs.values() if job.ticket.spec.image == image and not job.done
        }

    def _ended(self, image: bytes) -> None:
        self._offers.ended(image)
        self.swarms.ended(image, self._context.now_ms)

    def client_gone(self, client: int) -> None:
        """What it had to offer is gone with it."""
        self._offers.gone(client)
        for image, waiting in list(self._staging.items()):
            waiting[:] = [entry for entry in waiting if entry[0].client != client]
            if not waiting:
                del self._staging[image]
                self.transfers.dismiss(image)
        self.transfers.source_lost(client)

    def stage(self, caller: Caller, ask: c.Stage) -> None:
        """Fetch an image from a client.

        Raises
        ------
        RequestError
            ``busy`` or ``too-many-images``.
        """
        held = Counter(other.uid for waiting in self._staging.values() for other, _ in waiting)
        why = self._context.stages_quota.refusal(caller.uid, held, name=caller.user)
        if why:
            raise RequestError("busy", why)
        self.offer(caller, ask.image)
        self._staging.setdefault(ask.image, []).append((caller, ask.request))
        self.transfers.need(ask.image)

    def _complete(self, image: bytes) -> None:
        for caller, request in self._staging.pop(image, ()):
            self._context.answer(caller.client, request, None)
        self.transfers.dismiss(image)

    def _failed(self, image: bytes, why: str) -> None:
        for caller, request in self._staging.pop(image, ()):
            self._context.refuse(caller.client, request, "image", why)

    def manifest(self, client: int, message: c.OfferedManifest) -> None:
        """A client sends a manifest. Raises ProtocolError."""
        self._offers.took(message.image, client, len(message.data))
        self.transfers.manifest(client, i.ImageManifest(message.image, message.data))

    def piece(self, client: int, message: c.OfferedPiece) -> None:
        """A client sends chunks. Raises ProtocolError."""
        image, size = message.image, sum(map(len, message.chunks))
        if not self._offers.took(image, client, size):
            # It was asked once, perhaps, and is not any more: what it has sent is not kept, but taken.
            self._ask(client, i.Took(image, size))
            return
        others = self._offers.are_of_several(image)
        if not self.transfers.piece(client, i.Piece(image, message.first, message.chunks), others=others):
            self._refused(client, image, "what it has sent of the program is damaged")

    def not_offered(self, client: int, message: c.NotOffered) -> None:
        """A client cannot send what it was asked for."""
        self._refused(client, message.image, message.text)

    def _refused(self, client: int, image: bytes, why: str) -> None:
        if self._offers.refused(image, client, why):
            self.transfers.unasked(image, client)

    def _leave(self, client: int | None, image: bytes) -> None:
        """Another client is asked now."""
        if client is not None:
            self._ask(client, i.Want(image, False, []))
            self.transfers.unasked(image, client)

    # ------------------------------------------------------------------ sources

    def _sources(self, image: bytes) -> list[Source] | str:
        client = self._offers.source(image)
        if client is not None:
            if self._offers.is_mute(image):
                self._look_later()
            return [Source(client)]
        jobs = [job for job in self._jobs.jobs.values() if job.ticket.spec.image == image and not job.done]
        if jobs:
            self._look_later()
            child = self._child_with(image)
            if child is not None:
                return [Source(~child)]
        refused_by = self._offers.refused_by(image)
        if any(not job.detached and not job.ending and job.ticket.uid not in refused_by for job in jobs):
            return []  # its client was lost with another head and comes back, or is given up
        in_office_ms = self._context.now_ms - self._began_ms
        if jobs and self._context.members.silent and in_office_ms < self._context.config.adoption_grace_ms:
            return []  # a node that is still on its way to this head may have it
        return self._offers.why(image) or (
            "no client that has the program is connected any more, and neither this head nor a node below it has it: "
            "launch it again on these nodes"
        )

    def _ask(self, source: int, message: i.Want | i.Took) -> None:
        if source < 0:
            if isinstance(message, i.Want):
                # It is rare, and one way to have it is enough.
                message = replace(message, store=b"")
            self._context.emit(Send(~source, message))
        elif isinstance(message, i.Took):
            self._context.to_client(source, c.ImageTook(message.image, message.size_bytes))
        else:
            self._context.to_client(source, c.ImageWanted(message.image, message.manifest, message.chunks))

    # ------------------------------------------------------------------ children that have what no client has

    def _child_with(self, image: bytes) -> int | None:
        """Return the link of a child that may have an image, the same one until it refuses."""
        without = self._without.setdefault(image, set())
        for link in self._context.below.by_link.values():
            if link.is_attached and link.link not in without:
                if self._sought.get(image, (-1, 0))[0] != link.link:
                    self._sought[image] = link.link, 0
                return link.link
        self._sought.pop(image, None)
        return None

    def _look_later(self) -> None:
        if not self._seeks:
            self._seeks = True
            self._context.set_timer(SeekDue(), LOOK_MS)

    def look(self) -> None:
        """The timer has fired: ask those who have come since, and leave those who say nothing."""
        self._seeks = False
        for image in [image for image in self._without if image not in self.transfers.transfers]:
            self._end_search(image)
        for image, (link, looks) in list(self._sought.items()):
            self._sought[image] = link, looks + 1
            if looks >= SILENT_LOOKS:
                self._does_not_have(link, image)
        for image in list(self._offers.asked):
            self._look_at(image)
        self.transfers.source_found()

    def _look_at(self, image: bytes) -> None:
        """See whether the client that is asked for an image sends it."""
        are_several = self._offers.are_of_several(image)
        if not are_several and not self._offers.is_mute(image):
            return
        self._look_later()
        client = self._offers.source(image)
        if client is None or not self.transfers.expects(image, client):
            return
        if self._offers.was_awaited(image):
            self.transfers.give_up(image, "no client has sent anything of the program in half a minute")
        elif are_several:
            self._leave(self._offers.look(image), image)

    def _end_search(self, image: bytes) -> None:
        self._without.pop(image, None)
        self._sought.pop(image, None)

    def _does_not_have(self, link: int, image: bytes) -> None:
        if image in self._without:
            self._without[image].add(link)
            self.transfers.unasked(image, ~link)

    def _is_asked(self, link: LinkBelow, image: bytes) -> bool:
        """Say whether this child is asked for an image; if so, it is not silent."""
        is_asked = self._sought.get(image, (-1, 0))[0] == link.link
        if is_asked:
            self._sought[image] = link.link, 0
        return is_asked

    def child_has_not(self, link: LinkBelow, word: i.Unavailable) -> None:
        """A child does not have what it was asked for."""
        self._does_not_have(link.link, word.image)

    def child_lists(self, link: LinkBelow, manifest: i.ImageManifest) -> None:
        """A child says what an image consists of. Raises ProtocolError."""
        self._is_asked(link, manifest.image)
        self.transfers.manifest(~link.link, manifest)

    def child_sends(self, link: LinkBelow, piece: i.Piece) -> None:
        """A child sends chunks. Raises ProtocolError."""
        image = piece.image
        if not self._is_asked(link, image):
            # It was asked once, perhaps, and is not any more: what it has sent is not kept, but taken.
            self._context.emit(Send(link.link, i.Took(image, sum(map(len, piece.chunks)))))
        elif not self.transfers.piece(~link.link, piece):
            self._does_not_have(link.link, image)

    # ------------------------------------------------------------------ nodes

    def link_lost(self, link: int) -> None:
        """A child is gone."""
        self.safekeeping.link_lost(link)
        for without in self._without.values():
            without.discard(link)
        self.transfers.source_lost(~link)
        self.transfers.neighbour_lost(link)
        self.swarms.link_lost(link)

    def _address_of(self, node: int) -> tuple[str, int] | None:
        record = self._context.members.records.get(node)
        return (record.host, record.port) if record is not None and record.host else None

    def _wanted(self, image: bytes) -> int:
        mask = self.safekeeping.nodes(image)
        for job in self._jobs.jobs.values():
            if job.ticket.spec.image == image and not job.done:
                mask |= m.nodes_of(job.ticket)
        return mask & self._context.below.mask

    def child_wants(self, link: LinkBelow, want: i.Want) -> None:
        """A node lacks something. Raises ProtocolError."""
        if link.is_attached:
            self.safekeeping.lacking(want.image)
            self._leave(self._offers.prefer(want.image), want.image)
            self.transfers.want(link.link, want, origin=origin_of(want.origin, link.peer, link.mask))
        else:
            self._context.emit(Send(link.link, i.Unavailable(want.image, f"n{link.peer} is not attached here")))
