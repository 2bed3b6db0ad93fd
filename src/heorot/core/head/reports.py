"""What nodes report of a job: which of it is news, and what its client is told.

A merged report brings the ranks of a whole subtree. What is usual is taken as a whole, at the same cost for a thousand
ranks as for one; only what is unusual in any way is looked at rank by rank.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from heorot.core.errors import ProtocolError
from heorot.core.head.context import HeadContext
from heorot.core.head.ends import ExitedRank, LostRank, exits_alike, exits_of
from heorot.core.head.input import JobInput
from heorot.core.head.job import HeadJob
from heorot.core.head.states import OVER
from heorot.core.tree.nodeset import MAX_NODES, NodeSet
from heorot.core.tree.runs import check_runs, flat
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.reports import STOP_NUMBERS

MAX_SPEAKERS = 256
ESTALE = 116
"""The error of a rank whose job was released on its node before: it was collected, perhaps under an earlier head."""


class MisplacedError(ProtocolError):
    """Nodes report ranks that do not belong there. `nodes`: which ones."""

    def __init__(self, text: str, nodes: NodeSet) -> None:
        super().__init__(text)
        self.nodes = nodes


class JobReports:
    """Takes reports of the head's jobs.

    Parameters
    ----------
    over
        Called when the last rank of a job is over, after its client was told how.
    collected
        Called when a node has released a job of an earlier head already.
    kill_lost
        Called when a node has started a rank that was given up for lost.
    aborted
        Called when a rank says that the whole job has to end.
    """

    def __init__(
        self,
        context: HeadContext,
        stdin: JobInput,
        over: Callable[[HeadJob], None],
        collected: Callable[[HeadJob, int], None],
        kill_lost: Callable[[HeadJob, int, int], None],
        aborted: Callable[[HeadJob, m.Failure], None],
    ) -> None:
        self._context = context
        self._input = stdin
        self._over = over
        self._collected = collected
        self._kill_lost = kill_lost
        self._aborted = aborted
        self._speakers: dict[int, frozenset[int]] = {}
        """The nodes of the masks of links, which seldom change."""

    def take(self, job: HeadJob, mask: int, report: m.Report) -> None:
        """Take a merged report; `mask` says for which nodes its sender may speak.

        Raises
        ------
        ProtocolError
            If anything in it cannot be true. Nothing of it is taken then: what was taken and not told to the client
            would be lost, because it is no news when the nodes say it again.
        """
        check_runs(report)
        self._require_valid(job, report)
        for note in report.notes:
            job.add_note(note.text)
        for abort in report.aborts:
            if _may_tell(mask, abort.node, 1) and job.places.has(abort.node, abort.rank):
                self._aborted(job, abort)
        for index in range(0, len(report.killed), 3):
            node, rank, count = report.killed[index : index + 3]
            if _may_tell(mask, node, 1):
                # Said again, it is the same number again.
                job.left(rank, count)
        if report.used_runs:
            self._take_used(job, mask, report)
        if report.started_runs or report.exited_runs:
            report = self._take_runs(job, mask, report)
        failed_news: list[tuple[int, int, str]] = []
        started_news = self._started(job, mask, report.started)
        stopped_news = self._stopped(job, mask, report.stops) if report.stops else []
        exited_news = self._exited(job, mask, report.exited)
        for failure in report.failed:
            if not _may_tell(mask, failure.node, 1):
                continue
            if failure.error == ESTALE and job.adopted:
                self._collected(job, failure.node)
                return
            if job.fail(failure):
                failed_news.append((failure.rank, failure.error, failure.text))
                self._input.read_no_more(job, [failure.node], [failure.rank])
        self._tell(job, started_news, stopped_news, exited_news, failed_news)

    def _take_used(self, job: HeadJob, mask: int, report: m.Report) -> None:
        """Note what ranks have used, and tell it before their ends: then all is told of them."""
        tell = job.client in self._context.hear_used
        news: list[int] = []
        position = 0
        for index in range(0, len(report.used_runs), 3):
            node, rank, count = report.used_runs[index : index + 3]
            numbers = report.used[3 * position : 3 * (position + count)]
            position += count
            if not tell and _may_tell(mask, node, count):
                job.use(rank, numbers)
                continue
            for step in range(count):
                if _may_tell(mask, node + step, 1):
                    used = numbers[3 * step : 3 * step + 3]
                    job.use(rank + step, used)
                    if tell and not job.given_up(rank + step):
                        news += (rank + step, *used)
        if news and job.client is not None:
            self._context.to_client(job.client, c.Used(job.id, news))

    def _take_runs(self, job: HeadJob, mask: int, report: m.Report) -> m.Report:
        """Take the runs of a merged report, each as a whole; return what is left of it, without runs.

        What is unusual in any way is left, for a look at each rank. All the rest costs the head as much for a thousand
        ranks as for one, unless the client wants to know of each start.
        """
        left = replace(report, started_runs=[], pids=[], exited_runs=[])
        tell_started = job.tell_started and job.client is not None
        news: list[int] = []
        runs, position = report.started_runs, 0
        for index in range(0, len(runs), 3):
            node, rank, count = runs[index : index + 3]
            pids = report.pids[position : position + count]
            position += count
            if not (_may_tell(mask, node, count) and job.start_run(rank, pids)):
                left.started_runs.extend((node, rank, count))
                left.pids.extend(pids)
            elif tell_started:
                news += [value for step, pid in enumerate(pids) for value in (rank + step, pid)]
        runs = report.exited_runs
        alike: dict[tuple[int, int, int], list[int]] = {}
        for index in range(0, len(runs), 6):
            node, rank, count, *ending = runs[index : index + 6]
            if not (_may_tell(mask, node, count) and job.end_run(rank, count, ExitedRank(*ending))):
                left.exited_runs.extend(runs[index : index + 6])
                continue
            alike.setdefault((ending[0], ending[1], ending[2]), []).extend((rank, count))
            self._input.read_no_more(job, range(node, node + count), range(rank, rank + count))
        if news and job.client is not None:
            self._context.to_client(job.client, c.Started(job.id, news))
        if alike and job.client is not None:
            for message in exits_alike(job.id, alike):
                self._context.to_client(job.client, message)
        if alike and job.done:
            self._over(job)
        return flat(left)

    @staticmethod
    def _require_valid(job: HeadJob, report: m.Report) -> None:
        """See that all ranks are where the report says. Raises MisplacedError."""
        nodes = report.started[0::3] + report.exited[0::5] + report.killed[0::3] + report.stops[0::STOP_NUMBERS]
        ranks = report.started[1::3] + report.exited[1::5] + report.killed[1::3] + report.stops[1::STOP_NUMBERS]
        nodes += [failure.node for failure in report.failed]
        ranks += [failure.rank for failure in report.failed]
        runs = [(node, rank, 1) for node, rank in zip(nodes, ranks, strict=True)]
        for size, flat_runs in ((3, report.started_runs), (6, report.exited_runs), (3, report.used_runs)):
            runs += zip(flat_runs[0::size], flat_runs[1::size], flat_runs[2::size], strict=True)
        wrong = [run for run in runs if not job.places.has_run(*run)]
        if wrong:
            # Who puts runs together knows nothing of places: of a run that is wrong some nodes may be right.
            liars = NodeSet.of(
                first + step
                for first, rank, count in wrong
                for step in range(count)
                if 0 <= first + step < MAX_NODES and not job.places.has(first + step, rank + step)
            )
            node, rank, _ = wrong[0]
            text = f"a report of rank {rank} of job {job.id} on n{node}, where it does not belong"
            raise MisplacedError(text, liars)

    def _started(self, job: HeadJob, mask: int, started: list[int]) -> list[int]:
        """Take flat (node, rank, pid); return what is news, flat (rank, pid).

        A merged report brings the ranks of a whole subtree: slices and one comparison for all of them, and a look at
        each only when something is unusual. The head's share of a launch would otherwise grow with the ranks.
        """
        if self._may_tell_all(mask, started[0::3]) and job.start_all(started[1::3], started[2::3]):
            news = started[:]
            del news[0::3]
            return news
        news = []
        for index in range(0, len(started), 3):
            node, rank, pid = started[index : index + 3]
            if not _may_tell(mask, node, 1):
                continue
            if job.start(rank, pid):
                news += (rank, pid)
            elif job.states[rank] == OVER and job.released:
                self._context.send_down(NodeSet(1 << node), m.Release(job.id))
            elif isinstance(job.ends.get(rank), LostRank):
                self._kill_lost(job, node, rank)
        return news

    @staticmethod
    def _stopped(job: HeadJob, mask: int, stops: list[int]) -> list[int]:
        """Take how ranks stand that have stopped or go on; return what is news, without the nodes."""
        news: list[int] = []
        for index in range(0, len(stops), STOP_NUMBERS):
            node, rank, *stands = stops[index : index + STOP_NUMBERS]
            if _may_tell(mask, node, 1) and job.stop(rank, tuple(stands)):
                news += (rank, *stands)
        return news

    def _exited(self, job: HeadJob, mask: int, exited: list[int]) -> list[int]:
        """Take flat (node, rank, wait status, stdout bytes, stderr bytes); return what is news, without the nodes."""
        news: list[int] = []
        nodes, ranks = exited[0::5], exited[1::5]
        if self._may_tell_all(mask, nodes) and job.end_all(ranks, exited):
            news = exited[:]
            del news[0::5]
            self._input.read_no_more(job, nodes, ranks)
            return news
        for index in range(0, len(exited), 5):
            node, rank, wait_status, stdout_bytes, stderr_bytes = exited[index : index + 5]
            if _may_tell(mask, node, 1) and job.end(rank, ExitedRank(wait_status, stdout_bytes, stderr_bytes)):
                news += (rank, wait_status, stdout_bytes, stderr_bytes)
                self._input.read_no_more(job, [node], [rank])
        return news

    def _may_tell_all(self, mask: int, nodes: list[int]) -> bool:
        """Say whether the sender of a report may speak for all of these nodes, and there are any."""
        if not nodes:
            return False
        speakers = self._speakers.get(mask)
        if speakers is None:
            if len(self._speakers) >= MAX_SPEAKERS:
                self._speakers.clear()
            speakers = self._speakers[mask] = frozenset(NodeSet(mask).numbers())
        return speakers.issuperset(nodes)

    def _tell(
        self,
        job: HeadJob,
        started: list[int],
        stopped: list[int],
        exited: list[int],
        failed: list[tuple[int, int, str]],
    ) -> None:
        client = job.client
        if client is not None:
            if started and job.tell_started:
                self._context.to_client(client, c.Started(job.id, started))
            if stopped:
                self._context.to_client(client, c.Stopped(job.id, stopped))
            if exited:
                self._context.to_client(client, exits_of(job.id, exited))
            if failed:
                self._context.to_client(client, c.Failed(job.id, failed))
        if (exited or failed) and job.done:
            self._over(job)


def _may_tell(mask: int, node: int, count: int) -> bool:
    """Say whether the sender of a report may speak for these consecutive nodes; one may just have moved elsewhere."""
    span = (1 << count) - 1
    return mask >> node & span == span


def listed(node: int, item: m.JobInventory) -> tuple[m.Report, set[int]]:
    """Return what a node's inventory says of a job as a report, and of which ranks it says anything.

    Raises
    ------
    ProtocolError
        If a record is incomplete.
    """
    if len(item.running) % 2 or len(item.exited) % 4 or len(item.killed) % 2 or len(item.used) % 4:
        raise ProtocolError("an inventory with an incomplete record")
    report = m.Report(
        item.job,
        started=[value for i in range(0, len(item.running), 2) for value in (node, *item.running[i : i + 2])],
        exited=[value for i in range(0, len(item.exited), 4) for value in (node, *item.exited[i : i + 4])],
        failed=item.failed,
        killed=[value for i in range(0, len(item.killed), 2) for value in (node, *item.killed[i : i + 2])],
        used_runs=[value for rank in item.used[0::4] for value in (node, rank, 1)],
        used=[value for i in range(0, len(item.used), 4) for value in item.used[i + 1 : i + 4]],
        aborts=item.aborts,
        stops=[value for i in range(0, len(item.stops), 5) for value in (node, *item.stops[i : i + 5])],
    )
    return report, {*item.running[0::2], *item.exited[0::4], *(failure.rank for failure in item.failed)}
