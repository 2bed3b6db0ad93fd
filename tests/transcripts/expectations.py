"""What a transcript may expect, which is true or its end: by the simulator's knowledge of what has really happened."""

from __future__ import annotations

from signal import Signals
from typing import TYPE_CHECKING

from heorot.core.client.job import JobState
from tests.transcripts.words import status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heorot.core.client.end import Status
    from heorot.sim.cluster import SimulatedCluster
    from tests.transcripts.user import User


class Expectations:
    """Each method returns what is the case instead, or nothing. Its first line shows how it is written."""

    def __init__(self, cluster: SimulatedCluster, users: Mapping[str, User]) -> None:
        self._cluster = cluster
        self._users = users

    def leads(self, name: str, *, epoch: str) -> str:
        """``expect head2 leads epoch=2``: the store and the head itself say so, and nobody else serves."""
        serving = [(host.name, host.epoch) for host in self._cluster.heads if host.machine is not None]
        leader = self._cluster.leader()
        named = leader.name if leader is not None else "nobody"
        is_so = serving == [(name, int(epoch))] and named == name
        return "" if is_so else f"{serving} serve, and the store names {named}"

    def ran(self, job: str, *nodes: str) -> str:
        """``expect 1.1 ran n0 n1``: rank 0 was started on n0, rank 1 on n1, each once, and nothing else of the job."""
        ran = {rank: f"n{truth.node}" for (of, rank), truth in self._cluster.truth.ranks.items() if of == job}
        return "" if ran == dict(enumerate(nodes)) else f"it ran on {ran}"

    def runs(self, job: str, *nodes: str) -> str:
        """``expect 1.1 runs n0 n1``: processes of the job live on these nodes, by rank; without one: nowhere."""
        ranks = sorted(rank for of, rank in self._cluster.truth.ranks if of == job)
        alive = [rank for rank in ranks if self._cluster.checks.runs(job, rank)]
        on = [f"n{self._cluster.truth.ranks[job, rank].node}" for rank in alive]
        return "" if on == list(nodes) else f"it runs on {on}"

    def has(self, name: str, job: str, *ends: str) -> str:
        """``expect user1 has 1.1 0 SIGTERM lost``: every status, by rank, and every byte; and they are true."""
        state = self._users[name].job
        if state is None or state.id != job or not state.complete or not state.all_consumed:
            return "it has not all of it"
        had = [self._end(state, rank, end) for rank, end in sorted(state.statuses.items())]
        return "" if had == list(ends) else f"it has {had}"

    def _end(self, state: JobState, rank: int, end: Status) -> str:
        """Return a status that a user has, and what is wrong with it."""
        truth = self._cluster.truth.ranks.get((state.id, rank))
        if end.lost or end.error is not None or truth is None or truth.status is None:
            return "lost" if end.lost else "failed" if end.error is not None else "an invented status"
        said = f"{end.code}" if end.signal is None else Signals(end.signal).name
        read = [state.streams[rank, stream].consumed if (rank, stream) in state.streams else 0 for stream in (1, 2)]
        wrong = f", and not {status(truth.status)}" if said != status(truth.status) else ""
        return said + wrong + (f", and {read} of {truth.written} bytes" if read != truth.written else "")

    def read(self, job: str, *sizes: str) -> str:
        """``expect 1.1 read 200 200``: so much of its input each rank has read, and its end; every byte was right."""
        ranks = sorted((rank, truth) for (of, rank), truth in self._cluster.truth.ranks.items() if of == job)
        had = [f"{truth.read}" if truth.read_end else f"{truth.read} without the end" for _, truth in ranks]
        return "" if had == list(sizes) else f"they read {had}"

    def told(self, name: str, code: str) -> str:
        """``expect user1 told connection-lost``: so its last signal was answered."""
        asked = self._users[name].asked
        error = asked.error if asked is not None else None
        return "" if error is not None and error.code == code else f"it was told {error}"

    def lists(self, name: str, job: str, state: str) -> str:
        """``expect head2 lists 1.1 running``: so says the head's table."""
        machine = next(host.machine for host in self._cluster.heads if host.name == name)
        known = machine.jobs.jobs.get(job) if machine is not None else None
        said = "unknown" if known is None else known.state
        return "" if said == state else f"it says {said}"

    def hold(self, nodes: str, nothing: str) -> str:
        """``expect nodes hold nothing``: no process is left, and no job."""
        assert (nodes, nothing) == ("nodes", "nothing")
        hosts = [host for host in self._cluster.hosts if host.space is not None]
        held = {host.name: list(host.space.machine.jobs) for host in hosts if host.space is not None}
        left = {name: jobs for name, jobs in held.items() if jobs or self._cluster.hosts[int(name[1:])].table_alive}
        return f"{left}" if left else ""
