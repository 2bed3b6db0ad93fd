"""The invariants. Each is checked where a machine makes a claim, and against what really happened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from heorot.core.head.ends import LostRank
from heorot.core.head.job import HeadJob
from heorot.core.head.machine import HeadMachine
from heorot.core.head.timers import GraceDue, MissingDue
from heorot.core.machine import ClientClosed, FromClient, HeadEvent, TimerFired
from heorot.core.space.jobs import MAX_TOMBSTONES
from heorot.core.tree import nodelist
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.tags import TAG_LAUNCH
from heorot.sim.barriers import BarrierChecks
from heorot.sim.closing import Closing
from heorot.sim.denials import Denials
from heorot.sim.images import DISK_FULL, FILES_GONE
from heorot.sim.rest import Rest
from heorot.sim.truth import JobTruth, RankTruth

if TYPE_CHECKING:
    from heorot.sim.run import SomeHead, SomeNode
    from heorot.sim.whole_run import WholeRun

TOLD_WITHIN_MS = 4_000
"""So long after two heads that lead can reach each other, the former one has ended."""
LOOK_AT_HEADS_US = 50_000
NO_PROGRAM = (DISK_FULL, "no client that has the program", FILES_GONE, "what its cache holds of the image is damaged")
"""Why a rank may fail whose program had to travel."""
INVARIANTS = (
    "AtMostOnceSpawn",
    "AtMostOnceLaunch",
    "NoLostJob",
    "OneHead",
    "StreamExact",
    "ExitOnce",
    "OneAnswer",
    "TableTrue",
    "StopsTold",
    "HeadsTold",
    "StaysOut",
    "Drained",
    "WishesKept",
    "Bounded",
    "ImageExact",
    "BarrierHolds",
    "TimeKept",
    "NoStray",
    "Peace",
    "NoCrash",
)
"""`AtMostOnceLaunch`: of the jobs with one client's key, one at most ever starts a process.
`ImageExact`: what a cache keeps, and what a process is started from, is what the client offered.
`BarrierHolds`: a rank leaves a barrier only when all ranks have entered it, then knows all that was put before, and
leaves it soon after the network heals. `TimeKept`: no rank outlives its time limit by more than the grace.
`StopsTold`: in the healed network all know which ranks are stopped; nobody is told what was not so, or an older word.
`HeadsTold`: after the network heals, every node keeps the list of the heads that there are to be.
`StaysOut`: a node that was removed is attached nowhere that knows of it, and its ranks are over.
`Drained`: no rank is started on a node after its drain was acknowledged, by whichever head, and none is taken on.
`WishesKept`: what was acknowledged of the states of nodes is known to every head that begins its term.
`OneAnswer`: a request gets exactly one answer. `Peace`: no honest message is taken for a breach of the protocol.
`NoCrash`: no machine raises anything."""


class Checks:
    """Compares claims with the truth."""

    def __init__(self, cluster: WholeRun) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.truth = cluster.truth
        self._failed: dict[tuple[str, int], str] = {}
        self._launched: dict[int, int] = {}
        """By epoch: how many jobs its head has launched."""
        self._epochs: dict[int, str] = {}
        """Who served in which epoch."""
        self._lost: dict[tuple[str, int], int] = {}
        self._rivals: dict[tuple[int, int], int] = {}
        """By the epochs of two heads that lead: since when they can reach each other."""
        self._was_up = False
        self._in_doubt: list[HeadJob] = []
        """Jobs on the node that the head is about to give up."""
        self.denials = Denials(cluster)
        self.barriers = BarrierChecks(cluster, self._failed)
        self.closing = Closing(self.world, self.truth)
        self.rest = Rest(cluster, self._failed, self._came_first)

    # ------------------------------------------------------------------ nodes

    def to_space(self, host: SomeNode, payload: bytes) -> None:
        """OneHead: no command of an epoch below the highest that a head's signature has shown to this node."""
        seen = host.seen_epoch
        if host.obeying_epoch is not None and host.obeying_epoch < seen:
            self.world.violated("OneHead", f"n{host.node} obeys epoch {host.obeying_epoch} and has seen {seen}")
        if m.tag_of(payload) == TAG_LAUNCH:
            launch = m.decode_space_command(payload)
            assert isinstance(launch, m.Launch)
            ticket = m.decode_ticket(launch.ticket)
            if launch.view and not host.cache.whole(ticket.spec.image):
                self.world.violated("ImageExact", f"n{host.node} starts a job from an image that is not complete")
            if (epoch := ticket.epoch) < seen:
                self.world.violated("OneHead", f"n{host.node} starts a job for epoch {epoch} and has seen {seen}")

    # ------------------------------------------------------------------ the head

    @property
    def terms(self) -> int:
        """How many terms of office there were."""
        return len(self._epochs)

    def elected(self, host: SomeHead) -> None:
        """OneHead: no two terms of office have the same epoch."""
        if host.epoch in self._epochs:
            self.world.violated(
                "OneHead", f"{host.name} serves with epoch {host.epoch}, as {self._epochs[host.epoch]} did"
            )
        self._epochs[host.epoch] = host.name
        if host.epoch == max(self._epochs):
            self.cluster.head = next(head for head in self.cluster.heads if head is host)

    def begins(self, host: SomeHead) -> None:
        """A head that was just elected is about to take the first event."""
        if host.epoch == max(self._epochs):
            self.closing.begins(host)

    def look_at_heads(self) -> None:
        """OneHead: no head goes on while a newer one could tell it; now and again."""
        now_us, network = self.world.now_us, self.cluster.network
        serving = [head for head in self.cluster.heads if head.machine is not None and head.reachable()]
        together: dict[tuple[int, int], int] = {}
        for former in serving:
            for newer in serving:
                ways = (former.name, newer.name), (newer.name, former.name)
                if former.epoch < newer.epoch and all(network.blocked_until(*way) <= now_us for way in ways):
                    pair = former.epoch, newer.epoch
                    together[pair] = self._rivals.get(pair, now_us)
                    if now_us - together[pair] > TOLD_WITHIN_MS * 1000:
                        self.world.violated(
                            "OneHead",
                            f"{former.name} leads on in epoch {pair[0]} beside {newer.name} in epoch {pair[1]}",
                        )
        self._rivals = together
        self.world.after(LOOK_AT_HEADS_US, self.look_at_heads)

    def before_head(self, machine: HeadMachine, event: HeadEvent) -> None:
        """Look before the head takes an event."""
        if isinstance(event, TimerFired) and isinstance(event.key, GraceDue | MissingDue):
            record = machine.members.records[event.key.node]
            self._was_up = record.is_up
            self._in_doubt = [job for job in machine.jobs.jobs.values() if record.node in job.node_set]
        elif isinstance(event, ClientClosed):
            for job in machine.jobs.attendance.clients.get(event.client, ()):
                self.truth.jobs[job].unwanted |= not machine.jobs.jobs[job].detached
        elif isinstance(event, FromClient) and isinstance(event.message, c.AttachJob):
            self.denials.asked(event.client, event.message)
        elif isinstance(event, FromClient) and isinstance(event.message, c.SetNodes):
            self.closing.asked(machine, event.client, event.message)
        elif isinstance(event, FromClient) and isinstance(event.message, c.Signal):
            asked = self.truth.jobs.get(event.message.job or "")
            if asked is not None:
                asked.unwanted = True

    def after_head(self, machine: HeadMachine, event: HeadEvent) -> None:
        """Look after the head took an event."""
        for job in self._in_doubt:
            self.truth.lost.update((job.id, rank) for rank, end in job.ends.items() if isinstance(end, LostRank))
        self._in_doubt = []
        if isinstance(event, TimerFired) and isinstance(event.key, GraceDue):
            record = machine.members.records[event.key.node]
            if self._was_up and not record.is_up:
                away_ms = machine.context.now_ms - record.detached_at_ms
                if record.link is not None or away_ms < machine.config.node_grace_ms:
                    self.world.violated("ExitOnce", f"n{record.node} is given up after {away_ms} ms already")
                self.truth.given_up[record.node] = self.truth.given_up.get(record.node, 0) + 1
                if self.cluster.calm and not self.cluster.hosts[record.node].retired:
                    self.world.violated("TableTrue", f"n{record.node} is given up in a network without faults")
        if machine.members.outcasts.removed:
            self._stays_out(machine)
        latest = m.job_order(machine.jobs.latest)
        for sequence in range(self._launched.get(latest[0], 0) + 1, latest[1] + 1):
            self._launch(machine, f"{latest[0]}.{sequence}")
        self._launched[latest[0]] = latest[1]

    def _stays_out(self, machine: HeadMachine) -> None:
        """StaysOut: no way to a removed node, and nobody waits for what runs there."""
        removed = machine.members.outcasts.removed
        if machine.context.below.mask & removed:
            self.world.violated("StaysOut", f"{NodeSet(machine.context.below.mask & removed)} is attached again")
        for job in machine.jobs.jobs.values():
            for node in NodeSet(job.node_set.mask & removed):
                if job.live_ranks_on(node):
                    self.world.violated("StaysOut", f"{job.id} has ranks on n{node}, which was removed")

    def _launch(self, machine: HeadMachine, job_id: str) -> None:
        job = machine.jobs.jobs[job_id]
        incarnations = {node: machine.members.records[node].incarnation or 0 for node in job.node_set}
        known = JobTruth(job.id, list(job.nodes), job.detached, incarnations, dict(self.truth.given_up), job.ticket.key)
        known.mpi = job.ticket.spec.pmi
        self.truth.jobs[job.id] = known
        self.closing.launched(job.id, known.nodes)

    def killed(self, host: SomeNode, job: str, rank: int, signal: int) -> None:
        """NoLostJob: a process is killed only if a user wants that, or because a head has told that it is lost.

        What ranks have left running is killed, and that is told, unless it is to linger.
        """
        if not self._may_be_killed(job, rank):
            self.world.violated(
                "NoLostJob", f"{job} r{rank} is killed on n{host.node} with signal {signal}: by nobody's wish"
            )

    def _may_be_killed(self, job: str, rank: int) -> bool:
        known, truth = self.truth.jobs[job], self.truth.ranks.get((job, rank))
        is_removed = known.nodes[rank] in self.cluster.removed
        if self.barriers.breaks_up(known) or (truth is not None and truth.is_out_of_time(self.world.now_us)):
            return True
        is_lost = is_removed or (job, rank) in self.truth.lost
        return known.unwanted or known.released or is_lost or self._superseded(known)

    def _superseded(self, known: JobTruth) -> bool:
        """Say whether the same launch was acknowledged as another job, without the nodes that were given up."""
        others = (job for job in self.truth.jobs.values() if job.key == known.key and job is not known)
        return not known.acknowledged and bool(known.key) and any(job.acknowledged for job in others)

    def _came_first(self, job: str, rank: int, status: int) -> bool:
        """Say whether a signal may have ended this rank before its program came: it must never run then."""
        return (job, rank) not in self.truth.ranks and 0 < status < 65 and self._may_be_killed(job, rank)

    # ------------------------------------------------------------------ what clients are told

    def spawned(self, job: str, nodes: list[int], ask: c.Spawn) -> None:
        """A launch was acknowledged."""
        known = self.truth.jobs[job]
        if not known.acknowledged and ask.again is False:
            self._left_out(job, nodes, ask)
        known.acknowledged = True
        if known.nodes != nodes:
            self.world.violated(
                "NoLostJob", f"{job} was asked for as {ask.nodes or ask.select}, its ranks are on {nodes}"
            )

    def answers(self, machine: HeadMachine, client: int, message: object) -> None:
        """A head says something to a client: that is judged by what this head knows at this moment."""
        if isinstance(message, c.Spawned):
            self._acknowledges(machine, message.job)
        elif isinstance(message, c.Result):
            self.closing.answered(machine, client, message)
        elif isinstance(message, c.Error):
            self.closing.refused(machine, client, message.request)
            self.denials.refused(machine, client, message)

    def _acknowledges(self, machine: HeadMachine, job_id: str) -> None:
        """A head acknowledges a launch: note who has the program of a detached one beside it."""
        job, known = machine.jobs.jobs.get(job_id), self.truth.jobs[job_id]
        # One whose nodes were lost may be over, and have made room for others, before this is said.
        if job is not None and job.detached and job.ticket.spec.image and job.lacks_starts:
            known.safekeeping = self._having(machine, job.ticket.spec.image)

    def _having(self, machine: HeadMachine, image: bytes) -> list[int]:
        """Return the nodes right below a head that have spoken to it and have all of an image."""
        spoken = machine.members.spoken_mask
        below = [link.peer for link in machine.context.below.by_link.values() if link.mask & spoken & 1 << link.peer]
        return [node for node in below if self.cluster.hosts[node].cache.whole(image)]

    def unavailable(self, machine: HeadMachine, message: m.Unavailable) -> None:
        """NoLostJob: no head says that nobody has a detached job's program, which was acknowledged, if a node has it.

        What was not acknowledged is repeated by its client, which has the program.
        """
        if NO_PROGRAM[1] not in message.text:
            return
        for job in [job for job in machine.jobs.jobs.values() if job.lacks_starts]:
            known = self.truth.jobs[job.id]
            if job.ticket.spec.image != message.image or known.safekeeping is None or known.unwanted:
                continue
            having = [node for node in self._having(machine, message.image) if node in known.safekeeping]
            if having or not known.safekeeping:
                self.world.violated(
                    "NoLostJob", f"{job.id} was acknowledged, n{known.safekeeping} had its program, {having} have it"
                )

    def _left_out(self, job_id: str, nodes: list[int], ask: c.Spawn) -> None:
        """NoLostJob: a launch on the nodes that are up leaves none out, unsaid, of which the head has not heard yet."""
        machine = self._serving(m.job_order(job_id)[0])
        job = machine.jobs.jobs.get(job_id) if machine is not None else None
        if machine is None or job is None or (ask.select == "list" and not ask.nodes.startswith(("up", "!down"))):
            return
        found = re.search(r"left out (n\S+), which", job.text)
        view = nodelist.NodeView(NodeSet(machine.members.known_mask))  # one that is named may be removed by now
        named = nodelist.parse(found[1], view) if found else []
        silent = machine.members.silent - NodeSet.of([*nodes, *named])
        unseen = [node for node in silent if not self.cluster.hosts[node].retired]
        if unseen and not machine.settling.given_up:
            self.world.violated("NoLostJob", f"{job_id} leaves out {unseen}, of which the head has heard nothing yet")

    def exited(self, job: str, rank: int, status: int, size_1: int, size_2: int) -> None:
        """A client was told a status."""
        truth = self.truth.ranks.get((job, rank))
        if self._came_first(job, rank, status):
            self._failed[job, rank] = f"signal {status}"
            truth = RankTruth(0, 0, 0, status=status)
        if truth is None or not truth.ended_with(status):
            self.world.violated("ExitOnce", f"{job} r{rank} is said to have ended with {status}; in truth {truth}")
        if truth.lingers:
            self.world.violated("ExitOnce", f"{job} r{rank} is said to be over, and something that it started lingers")
        if [size_1, size_2] != truth.written:
            self.world.violated("StreamExact", f"{job} r{rank} is said to have written {size_1}, {size_2}; {truth}")

    def failed(self, job: str, rank: int, text: str) -> None:
        """A client was told that a rank never ran."""
        self._failed[job, rank] = text
        excused = any(word in text for word in ("refuse", "released", *NO_PROGRAM))
        if (job, rank) not in self.truth.failures and not excused:
            self.world.violated("ExitOnce", f"{job} r{rank} is said to have failed ({text}), and nobody tried")

    def told_what_was_killed(self, job: str, ranks: set[int], text: str) -> None:
        """ExitOnce: whoever is told how these ranks have ended is told what was killed of them, once, and no more."""
        killed = {rank: truth.left_killed for rank in ranks if (truth := self.truth.ranks.get((job, rank))) is not None}
        count = sum(killed.values())
        nodes = NodeSet.of(self.truth.jobs[job].nodes[rank] for rank in killed if killed[rank])
        told = re.search(r"left running was ended: (\d+) process(?:es)? on (\S+)$", text)
        if (told is None) != (count == 0) or (told and (int(told[1]), told[2]) != (count, str(nodes))):
            self.world.violated(
                "ExitOnce", f"{job} left {count} processes on {nodes or 'no node'} that were killed: {text!r}"
            )

    def lost(self, job: str, rank: int, node: int, epoch: int) -> None:
        """A client was told by the head of this epoch that a rank is gone with its node."""
        known = self.truth.jobs[job]
        self._lost[job, rank] = epoch
        space = self.cluster.hosts[node].space
        died = space is None or space.incarnation != known.incarnations[node]
        away = self.truth.given_up.get(node, 0) > known.given_up.get(node, 0)
        interrupted = self.cluster.head.epoch > int(job.split(".")[0])
        if not (died or away or interrupted or node in self.cluster.removed):
            self.world.violated(
                "ExitOnce", f"{job} r{rank} is said to be lost with n{node}, which was there all the time"
            )

    def lost_are_dead(self) -> None:
        """NoStray: with the network healed, nothing runs any more of which this head said that it is lost.

        What a former head gave up and a new one finds alive goes on, and is in the table.
        """
        for (job, rank), epoch in self._lost.items():
            is_removed = self.truth.jobs[job].nodes[rank] in self.cluster.removed
            if epoch == self.cluster.head.epoch and self.runs(job, rank) and not is_removed:
                self.world.violated("NoStray", f"{job} r{rank} was said to be lost, and runs")

    def runs(self, job: str, rank: int) -> bool:
        """Say whether this rank's process exists."""
        truth = self.truth.ranks.get((job, rank))
        return truth is not None and (truth.status is None or truth.lingers) and not truth.lost

    def running(self, job: str) -> list[int]:
        """Return the ranks of a job that run."""
        return [rank for rank in range(len(self.truth.jobs[job].nodes)) if self.runs(job, rank)]

    def signalled(self, epoch: int, job: str, ran: list[int]) -> None:
        """A client was told by the head of this epoch that SIGKILL reached every node: what ran before must be dead."""
        for rank in ran:
            if not self._given_up(epoch, job, rank) and self.runs(job, rank):
                self.world.violated("ExitOnce", f"SIGKILL is said to have reached all of {job}; r{rank} runs on")

    def _serving(self, epoch: int) -> HeadMachine | None:
        """Return the head of an epoch, if it is there."""
        return next((head.machine for head in self.cluster.heads if head.epoch == epoch), None)

    def _given_up(self, epoch: int, job: str, rank: int) -> bool:
        machine = self._serving(epoch)
        known = machine.jobs.jobs.get(job) if machine is not None else None
        return known is None or isinstance(known.ends.get(rank), LostRank)

    def collected(self, job: str) -> None:
        """A client has every status and every byte."""
        self.truth.jobs[job].released = True

    # ------------------------------------------------------------------ bounds, now and then

    def bounds(self) -> None:
        """Bounded: queues, accumulators, tombstones and questions."""
        cluster = self.cluster
        machine = cluster.head.machine
        live = 0
        if machine is not None:
            live = sum(not job.released for job in machine.jobs.jobs.values())
            if len(machine.requests.questions.queries) > machine.config.max_questions:
                self.world.violated("Bounded", f"{len(machine.requests.questions.queries)} questions at the head")
            if len(machine.jobs.jobs) > machine.config.max_finished_jobs + live + 1:
                self.world.violated("Bounded", f"{len(machine.jobs.jobs)} jobs at the head, {live} not released")
        for host in cluster.hosts:
            if host.agent is not None and len(host.agent.reports.of_jobs.accumulators) > len(self.truth.jobs):
                self.world.violated("Bounded", f"{host.agent.reports.waiting} are merged on n{host.node}")
            if host.space is not None and len(host.space.machine.tombstones) > MAX_TOMBSTONES:
                self.world.violated("Bounded", f"too many tombstones on n{host.node}")
