"""A virtual user: spawns a job, reads its output, feeds its input, signals it, leaves, comes back, checks it all.

What it says to heads, and what it makes of what they say, is the client's real session; here is only what a person or a
program decides: what to ask for, when to read, when to leave, and when to look for the next head.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from heorot.core.client import messages
from heorot.core.client.job import JobRequest
from heorot.core.client.session import NewOutput, Session
from heorot.core.errors import ProtocolError
from heorot.core.wire import clients as c
from heorot.core.wire.framing import HEADER_BYTES, encode_frame
from heorot.images.offer import Upload
from heorot.sim.feeding import Feeding
from heorot.sim.network import End
from heorot.sim.processes import SIGKILL
from heorot.sim.reading import Reading

if TYPE_CHECKING:
    from heorot.core.client.conversation import Request
    from heorot.core.client.job import JobState
    from heorot.sim.plans import UserPlan
    from heorot.sim.run import Run

_decoder = msgspec.msgpack.Decoder(c.HeadMessage)
_WATCHED = (b"\xa3ack", b"\xa6signal")
"""How those of our messages begin that are looked at before they go, behind the byte that counts their fields."""


class VirtualUser:
    """See the module."""

    def __init__(self, cluster: Run, number: int, plan: UserPlan | None) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.number = number
        self.name = f"user{number}"
        self.home = cluster.heads[self.world.between(0, len(cluster.heads) - 1)]
        """The head host that it works on: active, or on standby and passing it on."""
        self.plan = plan
        self.session = cluster.mutate(Session(hears_used=True))
        self.end: End | None = None
        self.state: JobState | None = None
        """The job that it has asked for, as its session knows it; None: it follows none."""
        self.reading: Reading | None = None
        self.job = ""
        self._leaving: Request | None = None
        """What it has asked for to leave its job running, until that is answered."""
        self.finished = False
        """It has nothing more to do."""
        self.resumed = 0
        """How often it has gone on with its job under another head."""
        self.asked_again = 0
        """How often it has asked for its launch again."""
        self._killed: dict[int, tuple[str, list[int]]] = {}
        """By request: the job that is to end, and the ranks that ran when it was asked for."""
        self._signalled: dict[int, int] = {}
        """By request: the connection over which a signal went of which two are not as good as one."""
        self._feeding = Feeding(cluster, plan.input_size if plan is not None else 0, self.session)

    @property
    def pending(self) -> list[list[Any]]:
        """What it has asked and has no answer to."""
        return [request.message for request in self.session.unanswered.values()]

    # ------------------------------------------------------------------ connection

    def connect(self) -> bool:
        """Connect to the head, if there is one."""
        if self.home.retired:
            # The user has nothing left there, and logs in elsewhere.
            homes = [head for head in self.cluster.heads if not head.retired]
            self.home = homes[self.world.between(0, len(homes) - 1)]
        if not self.home.up or self.home.paused is not None:
            return False
        head = self.home
        if head.machine is None:
            # A standby passes it on to the head that it knows from the store.
            head = self.cluster.leader() or head
        self.end = head.open_client(self.name, 0, self._received, self._closed, self.home)
        if self.end is None:
            return False
        if not self.session.connected:
            self.session.reconnected()
        self.flush()
        return True

    def begin(self) -> None:
        """Connect and spawn the planned job; later if there is no head."""
        plan = self.plan
        assert plan is not None
        if self.finished:
            return
        if not self.connect():
            self.world.after(300_000, self.begin)
            return
        if plan.image is not None:
            self.session.offer(Upload(plan.image.offer(), plan.image.chunk), plan.image.image)
        self.state = self.session.spawn(
            self.world.now_ms, nodes=plan.nodes, select=plan.select, argv=plan.argv, environment=[b"A=b"],
            directory=b"/", umask=18, limits=[], stdin=plan.stdin, stdout=b"", stderr=b"", terminal=[],
            detached=plan.detached, max_processes=0, key=self.world.random.randbytes(16), **plan.fields(),
        )  # fmt: skip
        self.flush()

    def leave(self, why: str = "leaves") -> None:
        """Close the connection without a word."""
        if self.end is not None:
            self.world.tell(self.name, why)
            self.cluster.network.close(self.end)
            self._gone()

    def _closed(self, end: End, reason: str) -> None:
        if end is self.end:
            self.world.tell(self.name, "connection closed: %s", reason)
            self._gone()
            # The head is gone: go on with the job under the next one, as bpsh does.
            if not self.finished:
                self.world.after(self.world.between(50_000, 1_000_000), self.come_back)

    def _gone(self) -> None:
        self.end = None
        self.session.connection_lost()

    def die_with_host(self) -> None:
        """The host is lost and the client with it."""
        if self.plan is not None and not self.finished:
            self.finished = True
            if self.end is not None:
                self.world.tell(self.name, "is lost with its host")
                self.end.open = False
                self.cluster.network.cut(self.end.link, (None, self.world.between(10, 3_000_000)))
                self._gone()

    def come_back(self) -> None:
        """Go on where the lost connection has ended."""
        if self.end is not None or self.finished:
            return
        if not self.job and self.state is None:
            self.finished = True
        elif not self.connect():
            self.world.after(300_000, self.come_back)
        elif self._leaving is not None:
            pass  # its session says so again
        elif self.state is None:
            self.attach(self.job)
        elif not self.state.id and not self.state.from_attach:
            self.asked_again += 1

    def attach(self, job: str) -> None:
        """Read this job as somebody new, from what is kept."""
        self.job = job
        self.state = self.session.attach(job, True)
        self.flush()

    def ask(self, build: Any, *fields: Any) -> Request:
        """Put a question; its answer is waited for."""
        request = self.session.ask(build, *fields)
        self.flush()
        return request

    def flush(self) -> None:
        """Send what the session wants to say, and look at it."""
        said, at = bytes(self.session.outgoing), 0
        self.session.outgoing.clear()
        while at < len(said):
            begin = at + HEADER_BYTES
            at = begin + int.from_bytes(said[at:begin], "big")
            payload = said[begin:at]
            if payload.startswith(_WATCHED, 1):
                self._says(c.decode_client(payload))
            if self.end is not None:
                self.cluster.network.send(self.end, payload)

    def _says(self, message: c.ClientMessage) -> None:
        if isinstance(message, c.ClientAck):
            if self.reading is not None and self.reading.job == message.job:
                self.reading.acknowledges(message)
        elif isinstance(message, c.Signal) and message.signal not in (0, SIGKILL) and self.end is not None:
            first = self._signalled.setdefault(message.request, self.end.number)
            if first != self.end.number:
                self.world.violated("OneAnswer", f"{self.name} repeats a signal that may have arrived: {message}")

    # ------------------------------------------------------------------ messages

    def _received(self, end: End, payload: bytes) -> None:
        if end is not self.end:
            return
        message = _decoder.decode(payload)
        self.world.tell_message(self.name, "<- %s", message, payload)
        request, asked = None, None
        if isinstance(message, (c.Spawned, c.Error, c.Result, c.Signalled)):
            request = self.session.unanswered.get(message.request)
            if request is None:
                self.world.violated("OneAnswer", f"{self.name} got an answer that it does not wait for: {message}")
            asked = c.decode_client(messages.encode(request.message)[HEADER_BYTES:])
        elif not isinstance(message, (c.Welcome, c.Rows, c.Notice, c.ImageWanted, c.ImageTook)):
            self._told(message)
        try:
            events = self.session.receive(encode_frame(payload), self.world.now_ms)
        except ProtocolError as error:
            self.world.violated("Peace", f"{self.name} takes {message} for a breach of the protocol: {error}")
        reading = self.reading
        for event in events:
            if isinstance(event, NewOutput) and reading is not None and reading.job == event.job.id:
                reading.take(event)
        if request is not None and asked is not None:
            self._answered(request, asked, message)
        if self.reading is not None:
            self.reading.consume(self.session)
        self._feeding.feed()
        self._look()
        self.flush()

    def _told(self, message: Any) -> None:
        reading = self.reading
        if reading is None or reading.job != message.job:
            return
        if isinstance(message, c.ClientOutput):
            known = self.state.streams.get((message.rank, message.stream)) if self.state is not None else None
            reading.output(message, known)
        elif isinstance(message, (c.Started, c.Stopped)):
            reading.runs(message)
        elif isinstance(message, (c.Exited, c.ExitedAlike, c.Failed, c.Lost)):
            reading.ended(message, self.session.epoch)
        elif isinstance(message, c.ClientStdinAck):
            self._feeding.told(message)
        elif isinstance(message, c.Done):
            reading.all_told(message.text)

    def _answered(self, request: Request, asked: c.ClientMessage, message: Any) -> None:
        if request is self._leaving:
            self._leaving = None
            self._detached_now()
        elif isinstance(message, c.Spawned):
            assert isinstance(request, JobRequest)
            self._spawned(request.job, asked, message)
        elif isinstance(message, c.Result):
            # What a command prints as JSON must be JSON, whatever the bytes in it.
            json.dumps(message.value, default=lambda value: value.decode("latin-1"))
        elif isinstance(message, c.Signalled):
            job, ran = self._killed.pop(message.request, ("", []))
            if not message.missing:
                self.cluster.checks.signalled(self.session.epoch, job, ran)
        elif isinstance(asked, (c.Spawn, c.AttachJob)) and request.finished:
            # Else the session hands the job over, or waits for a head that knows better.
            self._refused(asked, message)

    def _refused(self, asked: c.Spawn | c.AttachJob, error: c.Error) -> None:
        number = self.end.other.number if self.end is not None else 0
        if isinstance(asked, c.AttachJob):
            may_ask_again = self.cluster.checks.denials.heard(number, asked, error)
            if may_ask_again and not asked.resume:
                # A former reader may not be noticed to be gone, or the nodes may still be on their way to a new head.
                self.state = None
                self.world.after(500_000, self._attach_again, asked.job)
                return
            if asked.resume and error.code == "in-doubt":
                self.world.violated("NoLostJob", f"{self.name} gives {asked.job} up, of which a head is in doubt")
        self.finished = True
        self.world.tell(self.name, "is refused: %s %s", error.code, error.message)
        self.leave("gives up")

    def _attach_again(self, job: str) -> None:
        if self.end is not None and self.state is None and not self.finished:
            self.attach(job)

    def _spawned(self, state: JobState, asked: c.ClientMessage, message: c.Spawned) -> None:
        self.job, nodes = state.id, state.nodes
        plan = self.plan
        if isinstance(asked, c.Spawn):
            self.cluster.checks.spawned(message.job, nodes, asked)
        if state is not self.state or state.detached:
            return
        if (isinstance(asked, c.AttachJob) and asked.resume) or (isinstance(asked, c.Spawn) and asked.receipt):
            self._resumed(message, nodes)
            return
        first = isinstance(asked, c.Spawn)
        reading = self.reading = Reading(
            self.cluster, message.job, nodes, message.window_bytes, message.spare_bytes, first
        )
        if not first:
            self._feeding.go_on(state)
        if plan is None or not first:
            return
        for at_ms, act in (
            (plan.detach_ms, self._detach),
            (plan.signal_ms, self._signal),
            (plan.query_ms, self._query),
        ):
            if at_ms >= 0:
                self.world.after(at_ms * 1000, self._if_there, act)
        if plan.leave_ms >= 0:
            self.world.after(plan.leave_ms * 1000, self._leave_as_planned)
        reading.stalled_until_us = self.world.now_us + plan.stall_ms * 1000
        if plan.stall_ms:
            self.world.after(plan.stall_ms * 1000, self._stall_ends)
        if plan.stdin is not None:
            self._feeding.begin(state, [-1] if plan.input_to == "all" else list(range(len(nodes))))

    def _resumed(self, message: c.Spawned, nodes: list[int]) -> None:
        reading = self.reading
        if reading is None or (reading.job, reading.nodes) != (message.job, nodes):
            self.world.violated("NoLostJob", f"{self.name} goes on with {reading}, and is given {message}")
        reading.go_on()
        reading.window_bytes, reading.spare_bytes = message.window_bytes, message.spare_bytes
        self.resumed += 1

    def _if_there(self, act: Any) -> None:
        """Do what was planned, if the head that it is to be asked of is there."""
        if self.end is not None and not self.finished:
            act()

    def _look(self) -> None:
        """See whether there is something to do now."""
        state, reading = self.state, self.reading
        if state is None or self.finished:
            return
        if state.detached:
            if state.launched:
                self.state = None
                self._detached_now()
        elif reading is not None and state.complete and state.all_consumed:
            reading.compare(state)
            self.cluster.checks.collected(state.id)
            self.session.release(state)
            self.flush()
            self.finished = True
            self.leave("has everything and leaves")

    # ------------------------------------------------------------------ as planned

    def _stall_ends(self) -> None:
        if self.reading is not None and not self.finished:
            self.reading.consume(self.session, all_of_it=True)
            self._look()
            self.flush()

    def _leave_as_planned(self) -> None:
        if not self.finished and self.reading is not None:
            self.finished = True
            self.leave()

    def _detach(self) -> None:
        state = self.state
        if self.reading is None or state is None or state.resuming:
            return
        self.cluster.truth.jobs[self.job].detached = True
        self.state = self.reading = None
        self._feeding.rest()
        self._leaving = self.ask(messages.detach, self.job)

    def _detached_now(self) -> None:
        """The head's word is there: until now the session goes on with the job from head to head."""
        self.session.jobs.pop(self.job, None)
        plan = self.plan
        if plan is not None and plan.detached and plan.image is not None:
            # It has printed the job's number and ends: nobody has its program from it any more.
            self.finished = True
            self.leave()
        elif plan is not None and plan.attach_ms >= 0:
            self.world.after(plan.attach_ms * 1000, self._if_there, self._attach_own)
        else:
            self.finished = True
            self.world.after(3_000_000, self.leave)

    def _attach_own(self) -> None:
        if self.state is None:
            self.attach(self.job)

    def _signal(self) -> None:
        assert self.plan is not None
        if self.plan.signal == SIGKILL:
            self.kill_job(self.job)
        elif self.state is not None and self.state.id:
            self.session.signal(self.state, self.plan.signal)
            self.flush()

    def kill_job(self, job: str) -> None:
        """End a job, and look whether it is true what the answer says."""
        request = self.ask(messages.signal, job, None, None, SIGKILL)
        self._killed[request.message[1]] = job, self.cluster.checks.running(job)

    def _query(self) -> None:
        self.ask(messages.list_processes, "", None)
        self.ask(messages.status)
        self.ask(messages.show_job, self.job)
        self.ask(messages.list_jobs)
        self.ask(messages.wait, self.job)
