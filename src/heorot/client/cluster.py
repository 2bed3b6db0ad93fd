"""A connection to a cluster as both forms of the library have it: what each of their methods does, but the waiting.

`_name` is the flow of the method `name` (`heorot.client.flow`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from heorot.client.copies import Copied
from heorot.client.flow import NOTICE, Aside, Flow, Until, answer
from heorot.client.get import Get
from heorot.client.job import Completed, JobFlows
from heorot.client.launch import DEVNULL, Nodes, SpawnOptions, node_list, spawn_fields
from heorot.client.put import Put
from heorot.core.client import messages
from heorot.core.client.job import JobState
from heorot.core.client.session import RELEASE_TIMEOUT_S, NewOutput, Session
from heorot.core.client.watching import WatchRequest, begin_watch
from heorot.core.errors import RequestError
from heorot.images.offer import Offer, Upload
from heorot.linux.clock import now_ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.client.watched import Watched

UNCHANGED = {"state": "", "reason": "", "mode": -1, "uid": -1, "gid": -1, "power": False}
"""Of nodes, in the order of the message; what is given takes its place."""
ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRESS_S = 0.1
"""How often a copy says how far it is."""
Progress: TypeAlias = Callable[[int, int, int], object]
"""Called with the bytes that have left or reached this host, how many nodes are done, and how many there are."""
Row: TypeAlias = dict[str, Any]
J = TypeVar("J", bound=JobFlows)


class ClusterFlows(Generic[J]):
    """See the module."""

    def __init__(self, directory: str, session: Session) -> None:
        self.directory = directory
        self._session = session
        self._jobs: dict[int, J] = {}

    def _new_job(self, state: JobState, detached: bool) -> J:
        raise NotImplementedError

    def _received(self, happened: list[Any]) -> None:
        """Give new output to the jobs whose it is."""
        for event in happened:
            if isinstance(event, NewOutput) and (job := self._jobs.get(id(event.job))) is not None:
                job._received(event)

    def _forget(self, state: JobState) -> None:
        self._jobs.pop(id(state), None)

    def _close(self) -> Flow[None]:
        session = self._session
        with suppress(RequestError):
            yield Until(lambda: not session.owes_releases and not session.outgoing, RELEASE_TIMEOUT_S)

    # -------------------------------------------------- jobs

    def _spawn(self, fields: dict[str, Any], offer: Offer | None) -> Flow[J]:
        if offer is not None:
            self._session.offer(Upload(offer), offer.image)
            if fields["detached"]:
                # This program may be gone when a node asks for it.
                yield from answer(self._session.stage(offer.image))
        return (yield from self._launch(fields))

    def _launch(self, fields: dict[str, Any]) -> Flow[J]:
        return (yield from self._job_of(self._session.spawn(now_ms(), **fields), fields["detached"]))

    def _job_of(self, state: JobState, detached: bool) -> Flow[J]:
        # Before its first output can arrive.
        job = self._jobs[id(state)] = self._new_job(state, detached)
        try:
            yield Until(lambda: state.launched or state.error is not None)
            if state.error is not None:
                raise state.error
        except BaseException:
            self._forget(state)
            self._session.give_up(state)
            raise
        return job

    def _run_job(self, fields: dict[str, Any], offer: Offer | None, input: bytes) -> Flow[Completed]:
        job = yield from self._spawn(fields, offer)
        try:
            return (yield from job._communicate(input, None))
        finally:
            yield from job._close()

    def _attach(self, job: str, from_start: bool) -> Flow[J]:
        return (yield from self._job_of(self._session.attach(job, from_start), False))

    def _wait(self, job: str, timeout_s: float | None) -> Flow[Row]:
        return dict((yield from answer(self._session.ask(messages.wait, job), timeout_s))[0])

    # -------------------------------------------------- copies

    def _copy_to(self, put: Put, nodes: Nodes, progress: Progress | None) -> Flow[Copied]:
        if put.empty:
            return Copied([], put.problems, 0)
        if put.has_to_look(node_list(nodes)):
            look = yield from self._launch(put.look_fields(node_list(nodes)))
            try:
                yield from look._wait(None)
                put.looked(look._state)
            finally:
                yield from look._close()
        self._session.offer(put.upload, put.offer.image)
        job = yield from self._launch(put.fields(node_list(nodes)))
        try:
            return (yield from _follow_copy(put, job, progress))
        finally:
            yield from job._close()

    def _copy_from(self, get: Get, nodes: Nodes, progress: Progress | None) -> Flow[Copied]:
        job = yield from self._launch(get.fields(node_list(nodes)))
        try:
            get.begin(job.nodes)
            return (yield from _follow_copy(get, job, progress))
        finally:
            get.close()
            yield from job._close()

    # -------------------------------------------------- questions

    def _ask(self, build: Any, *fields: Any) -> Flow[Any]:
        return (yield from answer(self._session.ask(build, *fields)))[0]

    def _status(self) -> Flow[Row]:
        return dict((yield from self._ask(messages.status)))

    def _nodes(self, nodes: Nodes) -> Flow[list[Row]]:
        return list((yield from self._ask(messages.list_nodes, node_list(nodes))))

    def _processes(self, nodes: Nodes, job: str | None) -> Flow[list[Row]]:
        return list((yield from self._ask(messages.list_processes, node_list(nodes), job))["processes"])

    def _set_nodes(self, nodes: Nodes, fields: dict[str, Any]) -> Flow[Row]:
        asked = {**UNCHANGED, **fields}
        answer = dict((yield from self._ask(messages.set_nodes, node_list(nodes), *asked.values())))
        command = answer.pop("command", [])
        if not asked["power"]:
            return answer
        # It ends the node, and with it the job.
        options: SpawnOptions = {"image": "path", "detached": True, "directory": "/", "umask": 0o022, "stdout": DEVNULL}
        options |= {"stderr": DEVNULL, "environment": {"PATH": ROOT_PATH}}
        job = yield from self._spawn(*spawn_fields(command, sorted(set(answer["nodes"])), **options))
        return {**answer, "job": job.id}

    def _list_jobs(self) -> Flow[list[Row]]:
        return list((yield from self._ask(messages.list_jobs)))

    def _job(self, job: str) -> Flow[Row]:
        return dict((yield from self._ask(messages.show_job, job)))

    def _begin_watch(
        self, topics: Sequence[str], interval_s: float, nodes: Nodes, job: str | None
    ) -> Flow[WatchRequest]:
        named = [topics] if isinstance(topics, str) else list(topics)
        interval_ms = max(0, round(1000 * interval_s))
        request = begin_watch(self._session, named, interval_ms, node_list(nodes), job)
        yield NOTICE
        return request

    def _next_update(self, request: WatchRequest, watched: Watched) -> Flow[None]:
        request.go_on()
        yield Until(lambda: request.has_news or request.finished)
        if request.error is not None:
            raise request.error
        watched.take(request)

    def _end_watch(self, request: WatchRequest) -> Flow[None]:
        if self._session.closed is None:
            request.end()
            yield NOTICE

    def _resolve(self, nodes: Nodes) -> Flow[list[int]]:
        return list((yield from self._ask(messages.resolve, node_list(nodes), "list")))

    def _signal(self, pids: Sequence[int], number: int) -> Flow[int]:
        yield NOTICE
        return int((yield from answer(self._session.signal_processes(list(pids), int(number))))[0])


def _follow_copy(copy: Put | Get, job: JobFlows, progress: Progress | None) -> Flow[Copied]:
    more = True
    while more:
        try:
            chunk = yield from job._read(None if progress is None else PROGRESS_S)
        except TimeoutError:
            pass  # there is something to say all the same
        else:
            more = chunk is not None
            if chunk is not None:
                yield Aside(partial(copy.take, *chunk))
        if progress is not None:
            yield Aside(partial(progress, copy.done_bytes, len(job.statuses), len(job.nodes)))
    return copy.finish(job._state)
