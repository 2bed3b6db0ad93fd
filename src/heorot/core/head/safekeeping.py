"""Who keeps the programs of detached jobs beside the head: a few of its children, in their caches.

Whoever launches a detached job goes away once it is acknowledged, and the program with him: only the head has it then.
If the head were lost before all nodes have it, the next one would have nobody to ask. So as long as ranks of a detached
job are not started, some of the head's children have all of its image and keep it, and the next head, whose children
they are, has it from them (`heorot.core.head.images`). The job is acknowledged when one of them has it
(`heorot.core.head.holders`), or when nobody lacks it any more.

Theory of operation. Most programs do not travel: the nodes have the same file, and all ranks run in a moment. So nobody
is asked to keep an image before a node lacks it, or has lacked it before, or a rank has not been started for
`PATIENCE_MS`; but at once if it is always sent. Who is asked, and by whom it is refused, is looked at again every
`LOOK_MS`, as long as anything is kept: a child that is lost is replaced, and all are let go when every rank is started
or over. A child whose head is lost keeps it until the next one has had
time to ask (`heorot.core.node.images`).

One image at one child::

    asked ──ImageKept──▶ kept ──all ranks started──▶ let go
      └──ImageKept with an error──▶ refused: another child is asked
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from heorot.core.head.context import HeadContext
from heorot.core.head.job import HeadJob
from heorot.core.head.timers import SafekeepingDue
from heorot.core.machine import Send
from heorot.core.wire import images as i

WANTED = 2
"""So many children keep an image, if so many have nodes of the job below them; else one."""
MAX_KEPT = 1_024
"""Images that are kept at a time; a job of another one is acknowledged when all of its ranks are started."""
PATIENCE_MS = 500
LOOK_MS = 1_000


@dataclass(slots=True)
class _Kept:
    """One image, and the links of the children that were asked to keep it."""

    links: dict[int, bool] = field(default_factory=dict)
    """True: it has said that it has all of it."""
    refused: set[int] = field(default_factory=set)
    told: bool = False
    """The log was told that a child has refused."""


class Safekeeping:
    """See the module.

    Parameters
    ----------
    jobs
        All jobs, by id.
    kept
        Called when an image is kept by a child from now on.
    """

    def __init__(
        self, context: HeadContext, jobs: Callable[[], dict[str, HeadJob]], kept: Callable[[bytes], None]
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._kept = kept
        self._by_image: dict[bytes, _Kept] = {}
        self._travelled: dict[bytes, None] = {}
        """Images that a node has lacked, the one of which that was heard last at the end."""
        self._looks = False

    def has(self, image: bytes) -> bool:
        """Say whether a child keeps an image."""
        kept = self._by_image.get(image)
        return kept is not None and any(kept.links.values())

    def nodes(self, image: bytes) -> int:
        """Return the nodes that were asked to keep an image, as a mask."""
        kept = self._by_image.get(image)
        links = self._context.below.by_link
        mask = 0
        for link in kept.links if kept is not None else ():
            mask |= 1 << links[link].peer
        return mask

    def launched(self, job: HeadJob) -> None:
        """A job was launched, taken over or left by its client: if it is detached and has an image, see to that."""
        if self._needs(job):
            image = job.ticket.spec.image
            if image not in self._by_image and (not job.ticket.spec.program_id or image in self._travelled):
                self._begin(image, [job])
            self._look_after(PATIENCE_MS)

    def lacking(self, image: bytes) -> None:
        """A node lacks something of this image."""
        self._travelled.pop(image, None)
        self._travelled[image] = None
        if len(self._travelled) > MAX_KEPT:
            del self._travelled[next(iter(self._travelled))]
        if image not in self._by_image:
            jobs = [job for job in self._jobs().values() if job.ticket.spec.image == image and self._needs(job)]
            if jobs:
                self._begin(image, jobs)

    @staticmethod
    def _needs(job: HeadJob) -> bool:
        return bool(job.ticket.spec.image) and job.detached and not job.released and job.lacks_starts

    def _begin(self, image: bytes, jobs: list[HeadJob]) -> None:
        if len(self._by_image) < MAX_KEPT:
            self._by_image[image] = _Kept()
            self._ask(image, jobs)
            self._look_after(LOOK_MS)

    def _ask(self, image: bytes, jobs: list[HeadJob]) -> None:
        kept = self._by_image[image]
        mask = 0
        for job in jobs:
            mask |= job.node_set.mask
        able = [
            link for link in self._context.below.by_link.values() if link.is_attached and link.link not in kept.refused
        ]
        # Those that have nodes of the job below them have to pass it on anyhow.
        chosen = [link for link in able if link.mask & mask][:WANTED] or able[:1]
        for link in chosen:
            if len(kept.links) < max(1, len(chosen)) and link.link not in kept.links:
                kept.links[link.link] = False
                self._context.out.append(Send(link.link, i.KeepImage(image)))

    # ------------------------------------------------------------------ what children say

    def answered(self, link: int, message: i.ImageKept) -> None:
        """A child has all of an image that it was asked to keep, or cannot have it."""
        kept = self._by_image.get(message.image)
        if kept is None or link not in kept.links:
            return
        if message.error:
            del kept.links[link]
            kept.refused.add(link)
            if not kept.told:
                kept.told = True
                self._context.log("warning", f"a program of detached jobs cannot be kept by a node: {message.error}")
        else:
            kept.links[link] = True
            self._kept(message.image)

    def link_lost(self, link: int) -> None:
        """A child is gone."""
        for kept in self._by_image.values():
            kept.links.pop(link, None)
            kept.refused.discard(link)

    # ------------------------------------------------------------------ now and then

    def _look_after(self, time_ms: int) -> None:
        if not self._looks:
            self._looks = True
            self._context.set_timer(SafekeepingDue(), time_ms)

    def look(self) -> None:
        """The timer has fired: ask others in place of those that are lost, and let go what nobody needs."""
        self._looks = False
        needed: dict[bytes, list[HeadJob]] = {}
        for job in self._jobs().values():
            if self._needs(job):
                needed.setdefault(job.ticket.spec.image, []).append(job)
        for image in [image for image in self._by_image if image not in needed]:
            for link in self._by_image.pop(image).links:
                self._context.out.append(Send(link, i.KeepImage(image, keep=False)))
        for image, jobs in needed.items():
            kept = self._by_image.get(image)
            if kept is not None:
                self._ask(image, jobs)
                if not kept.links:
                    kept.refused.clear()  # all of them have: they are asked again at the next look
            else:
                self._begin(image, jobs)
        if needed:
            self._look_after(LOOK_MS)
