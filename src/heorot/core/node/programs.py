"""Launches of a node that wait for their program: for a look at the node's own file, and for an image.

Theory of operation. A launch that names an image is held here until its program is at hand, and handed to bpinit then.
If that takes longer than a look at the disk, bpinit is told of it at once: it keeps the job, so that whatever becomes
of heads and agents, the job is in the inventory. So nothing here is worth keeping. When the way to the head is new, the
launches are dropped, and the head, which sees in the inventory that their ranks do not run, sends them again. What has
come of an image meanwhile stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from heorot.core.images.hop import Transfers
from heorot.core.machine import Compare, Compared, Examined, MakeView, NodeInstruction, ViewMade
from heorot.core.wire import tree as m

MAX_HELD_LAUNCHES = 4_096


class Programs:
    """See the module.

    Parameters
    ----------
    hand_over
        Hands a launch to bpinit.
    fail
        Reports all ranks of a launch on this node as failed, with a reason for people.
    """

    def __init__(
        self,
        emit: Callable[[NodeInstruction], None],
        transfers: Transfers,
        hand_over: Callable[[m.Launch], None],
        fail: Callable[[m.Launch, str], None],
    ) -> None:
        self._emit = emit
        self._transfers = transfers
        self._hand_over = hand_over
        self._fail = fail
        self.held: dict[str, tuple[m.Launch, m.Ticket]] = {}
        """By job."""
        self._waiting: dict[bytes, list[str]] = {}
        """By image: the jobs that wait for it."""
        self.unannounced: dict[str, None] = {}
        """Jobs of which bpinit knows nothing yet."""
        self.starting: dict[str, bytes] = {}
        """Jobs that were handed over with their image, which stays until bpinit has started all ranks, which then hold
        the files themselves, or the job is released."""

    def hold(self, launch: m.Launch, ticket: m.Ticket) -> None:
        """Start this launch as soon as its program is here."""
        if ticket.job in self.held:
            return
        if len(self.held) >= MAX_HELD_LAUNCHES:
            self._fail(launch, f"{MAX_HELD_LAUNCHES} launches wait for their programs already")
            return
        self.held[ticket.job] = launch, ticket
        self.unannounced[ticket.job] = None
        if ticket.spec.program_id:
            self._emit(Compare(ticket.job, ticket.spec.program, ticket.spec.program_id))
        else:
            self._fetch(ticket)

    def compared(self, event: Compared) -> None:
        """It is known whether the node's own file is the program."""
        entry = self.held.get(event.job)
        if entry is None:
            return
        _, ticket = entry
        if event.job in self._waiting.get(ticket.spec.image, ()):
            # A launch that was dropped and has come again is compared twice, and its file may change in between: once
            # its image is fetched, this is how it starts.
            return
        if event.same:
            self._hand_over(self._take(event.job))
        elif event.same is None:
            self.announce(event.job)
        else:
            self._fetch(ticket)

    def announce(self, job: str) -> None:
        """Tell bpinit of a job whose program is being looked for or on its way, if it does not know it yet.

        What comes for a job after its launch would otherwise be for one that bpinit has never heard of.
        """
        if job in self.unannounced:
            del self.unannounced[job]
            self._hand_over(replace(self.held[job][0], waits=True))

    def _fetch(self, ticket: m.Ticket) -> None:
        self._waiting.setdefault(ticket.spec.image, []).append(ticket.job)
        self._transfers.need(ticket.spec.image)
        self._announce_waiting(ticket.spec.image)

    def examined(self, event: Examined) -> None:
        """The cache has been looked at, and the transfers know of it: what is not there has to come."""
        self._announce_waiting(event.image)

    def _announce_waiting(self, image: bytes) -> None:
        if self._transfers.has_to_come(image):
            for job in self._waiting.get(image, ()):
                self.announce(job)

    def nodes_of(self, image: bytes) -> int:
        """Return a mask of the nodes of the launches that wait for an image here."""
        mask = 0
        for job in self._waiting.get(image, ()):
            mask |= m.nodes_of(self.held[job][1])
        return mask

    def complete(self, image: bytes) -> None:
        """All of an image is in the cache."""
        self._emit(MakeView(image))

    def view_made(self, event: ViewMade) -> None:
        """The image's files are laid out, or cannot be."""
        if event.error:
            self.failed(event.image, event.error)
        else:
            for job in self._waiting.pop(event.image, ()):
                launch = self._take(job)
                self.starting[job] = event.image
                self._hand_over(replace(launch, view=event.path))
        self._dismiss(event.image)

    def _take(self, job: str) -> m.Launch:
        """Return a launch that is held no longer."""
        self.unannounced.pop(job, None)
        return self.held.pop(job)[0]

    def let_go(self, job: str) -> None:
        """Hold a job's image no longer: all its ranks were started, or could not be, or the job is released."""
        image = self.starting.pop(job, None)
        if image is not None:
            self._dismiss(image)

    def _dismiss(self, image: bytes) -> None:
        if image not in self._waiting and image not in self.starting.values():
            self._transfers.dismiss(image)

    def failed(self, image: bytes, why: str) -> None:
        """The image cannot be had."""
        for job in self._waiting.pop(image, ()):
            self._fail(self._take(job), why)

    def drop(self, job: str) -> None:
        """Forget a launch."""
        self.let_go(job)
        entry = self.held.pop(job, None)
        self.unannounced.pop(job, None)
        if entry is not None:
            image = entry[1].spec.image
            jobs = self._waiting.get(image, [])
            if job in jobs:
                jobs.remove(job)
                if not jobs:
                    del self._waiting[image]
                    self._dismiss(image)

    def drop_older(self, epoch: int) -> None:
        """Forget the launches of former heads: nothing is started for them any more."""
        for job, (_, ticket) in list(self.held.items()):
            if ticket.epoch < epoch:
                self.drop(job)

    def drop_all(self) -> None:
        """The way to the head is new: it says again what is to be started."""
        for job in list(self.held):
            self.drop(job)
