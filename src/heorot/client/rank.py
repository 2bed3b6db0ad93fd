"""A rank of a job as a program holds it: to wait for, to signal, to be told of when it stops and goes on.

`RankFlows` has what each method does, but the waiting, for both forms of the library (`heorot.client.flow`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar, overload

from heorot.client.flow import Flow, Until
from heorot.client.job import JobFlows
from heorot.core.client.end import RankUsage, Status
from heorot.core.client.session import SIGKILL


class RankEvent(NamedTuple):
    """What a rank has come to, as waitpid(2) would tell it: exactly one of the three.

    Attributes
    ----------
    stopped_by:
        It has stopped, by this signal.
    continued:
        It goes on.
    status:
        It is over.
    """

    stopped_by: int | None = None
    continued: bool = False
    status: Status | None = None


class RankFlows:
    """See the module. The properties may be read at any time; only waiting moves them on.

    Attributes
    ----------
    number:
        Its number in the job.
    """

    def __init__(self, job: JobFlows, number: int) -> None:
        self.number = number
        self._job = job
        self._state = job._state
        self._told_changes = 0
        """Up to here `wait_event` has told of stops."""

    @property
    def node(self) -> int:
        """The node that it is on."""
        return self._state.nodes[self.number]

    @property
    def pid(self) -> int | None:
        """Its PID, unique in the cluster; None: it is not known to have started."""
        return self._state.pids.get(self.number)

    @property
    def status(self) -> Status | None:
        """How it ended; None: it is not known to be over."""
        return self._state.statuses.get(self.number)

    @property
    def used(self) -> RankUsage | None:
        """What it has used, CPU time and memory, once it is over; None if nobody can say."""
        return self._state.used.get(self.number)

    @property
    def stopped_by(self) -> int | None:
        """The signal that has stopped it; None: it is not known to be stopped."""
        changes, signal = self._state.stops.get(self.number, (0, 0))[:2]
        return signal if changes % 2 else None

    def __repr__(self) -> str:
        state = self.status or (f"stopped by {self.stopped_by}" if self.stopped_by else "not over")
        return f"<rank {self.number} of job {self._state.id} on n{self.node}: {state}>"

    def _wait(self, timeout_s: float | None) -> Flow[Status]:
        statuses = self._state.statuses
        if self.number not in statuses:
            self._job._readable()
        if not (yield Until(lambda: self.number in statuses, timeout_s)):
            raise TimeoutError(f"rank {self.number} of job {self._state.id} is not over after {timeout_s} s")
        self._job._release_if_collected()
        return statuses[self.number]

    def _wait_event(self, timeout_s: float | None) -> Flow[RankEvent]:
        state, number = self._state, self.number
        if number not in state.statuses:
            self._job._readable()

        def changed() -> bool:
            return number in state.statuses or state.stops.get(number, (0,))[0] > self._told_changes

        if not (yield Until(changed, timeout_s)):
            raise TimeoutError(f"rank {number} of job {state.id} did not stop, go on or end for {timeout_s} s")
        self._job._release_if_collected()
        if number in state.statuses:
            return RankEvent(status=state.statuses[number])
        self._told_changes = state.stops[number][0]
        return RankEvent(continued=True) if self.stopped_by is None else RankEvent(stopped_by=self.stopped_by)


class RankHandle(RankFlows):
    """A rank, for programs that wait by waiting."""

    def __init__(self, job: JobFlows, number: int, run: Callable[[Flow[Any]], Any]) -> None:
        super().__init__(job, number)
        self._run = run

    def wait(self, timeout_s: float | None = None) -> Status:
        """Wait until the rank is over; return how it ended. `used` then says what it has used.

        Raises
        ------
        TimeoutError
            If that takes longer. The rank runs on.
        RequestError
            If the connection is lost, or the job runs detached: then attach to it.
        """
        status: Status = self._run(self._wait(timeout_s))
        return status

    def wait_event(self, timeout_s: float | None = None) -> RankEvent:
        """Wait until the rank stops, goes on or ends, and return which; each stop and each going on is told once by
        this handle, and of several in a row perhaps the last only, as by waitpid(2) with WUNTRACED and WCONTINUED. The
        end is told each time. Raises as `wait`.
        """
        event: RankEvent = self._run(self._wait_event(timeout_s))
        return event

    def signal(self, number: int) -> int:
        """Signal the rank; return how many processes got it. See `heorot.client.blocking.Job.signal`."""
        count: int = self._run(self._job._signal(number, [self.number]))
        return count

    def kill(self) -> int:
        """Kill the rank."""
        return self.signal(SIGKILL)


class AwaitedRank(RankFlows):
    """A rank, for programs that use asyncio: the names and meanings of `RankHandle`."""

    def __init__(self, job: JobFlows, number: int, run: Callable[[Flow[Any]], Coroutine[Any, Any, Any]]) -> None:
        super().__init__(job, number)
        self._run = run

    async def wait(self, timeout_s: float | None = None) -> Status:
        """Wait until the rank is over; return how it ended. See `RankHandle.wait`."""
        status: Status = await self._run(self._wait(timeout_s))
        return status

    async def wait_event(self, timeout_s: float | None = None) -> RankEvent:
        """Wait until the rank stops, goes on or ends, and return which. See `RankHandle.wait_event`."""
        event: RankEvent = await self._run(self._wait_event(timeout_s))
        return event

    async def signal(self, number: int) -> int:
        """Signal the rank; return how many processes got it. See `heorot.client.blocking.Job.signal`."""
        count: int = await self._run(self._job._signal(number, [self.number]))
        return count

    async def kill(self) -> int:
        """Kill the rank."""
        return await self.signal(SIGKILL)


H = TypeVar("H", bound=RankFlows)


class Ranks(Sequence[H]):
    """The ranks of a job, by number; each is the same object whenever it is asked for."""

    def __init__(self, job: JobFlows, make: Callable[[int], H]) -> None:
        self._job = job
        self._make = make
        self._made: dict[int, H] = {}

    def __len__(self) -> int:
        return len(self._job._state.nodes)

    @overload
    def __getitem__(self, index: int) -> H: ...
    @overload
    def __getitem__(self, index: slice) -> list[H]: ...
    def __getitem__(self, index: int | slice) -> H | list[H]:
        numbers = range(len(self))[index]
        return self._get(numbers) if isinstance(numbers, int) else [self._get(number) for number in numbers]

    def _get(self, number: int) -> H:
        found = self._made.get(number)
        if found is None:
            found = self._made[number] = self._make(number)
        return found
