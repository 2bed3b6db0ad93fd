"""A virtual user: spawns a job, reads its output, feeds its input, signals it, leaves, comes back, checks it all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.images.offer import Upload
from heorot.sim.feeding import Feeding
from heorot.sim.images import PROGRAM, VirtualImage
from heorot.sim.network import End
from heorot.sim.processes import SIGKILL
from heorot.sim.reading import Reading

if TYPE_CHECKING:
    from heorot.sim.run import Run

_decoder = msgspec.msgpack.Decoder(c.HeadMessage)


@dataclass(slots=True)
class UserPlan:
    """What a user is going to do; times in milliseconds after the job was acknowledged, -1: never."""

    nodes: str
    select: str
    argv: list[bytes]
    detached: bool
    stdin: bytes | None
    input_size: int = 0
    input_to: str = "all"
    """``all`` or ``ranks``."""
    leave_ms: int = -1
    """Close the connection without a word."""
    detach_ms: int = -1
    signal_ms: int = -1
    signal: int = 15
    attach_ms: int = -1
    """Come back and attach (for one who detached or left a detached job)."""
    stall_ms: int = 0
    """Acknowledge nothing for so long."""
    query_ms: int = -1
    image: VirtualImage | None = None
    """What the job is started from; None: what the nodes have."""
    always_send: bool = False
    linger: bool = False


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
        self.end: End | None = None
        self.reading: Reading | None = None
        self.job = ""
        self.finished = False
        """It has nothing more to do."""
        self.pending: dict[int, m.Message] = {}
        self.resumed = 0
        """How often it has gone on with its job under another head."""
        self.asked_again = 0
        """How often it has asked for its launch again."""
        self._launch: c.Spawn | None = None
        """What was asked for and not answered yet ..."""
        self._receipted: c.Spawn | None = None
        """How to hand the job over to a head that does not know it."""
        self.handed_over = 0
        """How often it did so."""
        self._asked_us = 0
        """... and when it was first."""
        self._epoch = 0
        """Of the head that it is connected to."""
        self._requests = 0
        self._upload: Upload | None = None
        self._killed: dict[int, tuple[str, list[int]]] = {}
        """By request: the job that is to end, and the ranks that ran when it was asked for."""
        self._feeding = Feeding(cluster, plan.input_size if plan is not None else 0, self._send)

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
        self._send(c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "sim"))
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
        self._launch = c.Spawn(
            self._request(), plan.nodes, plan.select, plan.argv, [b"A=b"], b"/", 18, [], plan.stdin, b"", b"", [],
            plan.detached, key=self.world.random.randbytes(16), linger=plan.linger,
        )  # fmt: skip
        if plan.image is not None:
            self._upload = Upload(plan.image.offer(), plan.image.chunk)
            program_id = b"" if plan.always_send else plan.image.program_id
            self._launch = replace(self._launch, image=plan.image.image, program=PROGRAM, program_id=program_id)
        self._asked_us = self.world.now_us
        self.ask(self._launch)

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
        if self._upload is not None:
            self._upload.reset()
        self.pending.clear()

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
        if not self.job and self._launch is None:
            self.finished = True
        elif not self.connect():
            self.world.after(300_000, self.come_back)
        elif self._launch is not None:
            self._launch = replace(self._launch, request=self._request(), again=True)
            self.asked_again += 1
        elif self.reading is not None:
            self._resume(self.reading)
        else:
            self.attach(self.job)

    def _resume(self, reading: Reading) -> None:
        if self._receipted is not None and not reading.has_news and self._feeding.is_whole:
            self._hand_over(self._receipted)
            return
        self.ask(c.AttachJob(self._request(), reading.job, False, True, self._feeding.acknowledged(), False))

    def _hand_over(self, launch: c.Spawn) -> None:
        self.handed_over += 1
        self.ask(replace(launch, request=self._request()))

    def attach(self, job: str) -> None:
        """Read this job as somebody new, from what is kept."""
        self.job = job
        self.ask(c.AttachJob(self._request(), job, True))

    def _request(self) -> int:
        self._requests += 1
        return self._requests

    def ask(self, message: m.Message) -> None:
        """Send a request; its answer is waited for."""
        if self.end is not None:
            self.pending[message.request] = message  # type: ignore[attr-defined]
            self._send(message)

    def _send(self, message: m.Message) -> None:
        if self.end is not None:
            self.cluster.network.send(self.end, m.encode(message))

    # ------------------------------------------------------------------ messages

    def _received(self, end: End, payload: bytes) -> None:
        if end is not self.end:
            return
        message = _decoder.decode(payload)
        self.world.tell_message(self.name, "<- %s", message, payload)
        if isinstance(message, c.Welcome):
            self._epoch = message.epoch
            if self._launch is not None and self._launch.again:
                age_ms = -(-(self.world.now_us - self._asked_us) // 1000)
                self._launch = replace(self._launch, asked_at_ms=message.at_ms - age_ms)
                self.ask(self._launch)
            return
        if isinstance(message, (c.Rows, c.Notice)):
            return
        if isinstance(message, (c.ImageWanted, c.ImageTook)):
            self._send_image(message)
            return
        if isinstance(message, (c.Spawned, c.Error, c.Result, c.Signalled)):
            self._answered(message)
            return
        reading = self.reading
        if reading is None or reading.job != message.job:
            return
        if isinstance(message, c.ClientOutput):
            reading.output(message)
        elif isinstance(message, c.Started):
            reading.started(message)
        elif isinstance(message, (c.Exited, c.ExitedAlike, c.Failed, c.Lost)):
            reading.ended(message, self._epoch)
        elif isinstance(message, c.ClientStdinAck):
            self._feeding.taken(message)
        else:
            reading.all_told(message.text)
        self._maybe_release(reading)

    def _send_image(self, message: c.ImageWanted | c.ImageTook) -> None:
        assert self._upload is not None
        if isinstance(message, c.ImageTook):
            answers = self._upload.took(message.size_bytes)
        else:
            answers = self._upload.wanted(message.manifest, message.chunks)
        for answer in answers:
            if self.end is not None:
                self.cluster.network.send(self.end, msgspec.msgpack.encode(answer))

    def _answered(self, message: c.Spawned | c.Error | c.Result | c.Signalled) -> None:
        asked = self.pending.pop(message.request, None)
        if asked is None:
            self.world.violated("OneAnswer", f"{self.name} got an answer that it does not wait for: {message}")
        if isinstance(message, c.Spawned):
            self._spawned(asked, message)
        elif isinstance(message, c.Result):
            # What a command prints as JSON must be JSON, whatever the bytes in it.
            json.dumps(message.value, default=lambda value: value.decode("latin-1"))
        elif isinstance(message, c.Signalled):
            job, ran = self._killed.pop(message.request, ("", []))
            if not message.missing:
                self.cluster.checks.signalled(self._epoch, job, ran)
        elif isinstance(asked, (c.Spawn, c.AttachJob)):
            self._refused(asked, message)

    def _refused(self, asked: c.Spawn | c.AttachJob, error: c.Error) -> None:
        if self._may_hand_over(asked, error) and self._receipted is not None:
            self._hand_over(self._receipted)
            return
        number = self.end.other.number if self.end is not None else 0
        if isinstance(asked, c.AttachJob) and self.cluster.checks.denials.heard(number, asked, error):
            # A former reader may not be noticed to be gone, or the nodes may still be on their way to a new head.
            self.world.after(500_000, self._attach_again, asked.job)
            return
        self.finished = True
        self.world.tell(self.name, "is refused: %s %s", error.code, error.message)
        self.leave("gives up")

    def _may_hand_over(self, asked: c.Spawn | c.AttachJob, error: c.Error) -> bool:
        unknown = isinstance(asked, c.AttachJob) and asked.resume and error.code == "no-such-job"
        return unknown and self._feeding.is_whole

    def _attach_again(self, job: str) -> None:
        if self.end is None:
            return
        if self.reading is None:
            self.attach(job)
        else:
            self._resume(self.reading)

    def _spawned(self, asked: m.Message, message: c.Spawned) -> None:
        nodes = [
            node
            for i in range(0, len(message.runs), 2)
            for node in range(message.runs[i], sum(message.runs[i : i + 2]))
        ]
        self.job = message.job
        first = isinstance(asked, c.Spawn)
        plan = self.plan
        if isinstance(asked, c.Spawn):
            self._launch = None
            self.cluster.checks.spawned(message.job, nodes, asked)
            if message.receipt:
                self._receipted = replace(
                    asked, again=True, job=message.job, runs=message.runs, receipt=message.receipt
                )
        if isinstance(asked, c.Spawn) and asked.detached:
            self._detached_now()
            return
        if isinstance(asked, c.AttachJob) and asked.resume:
            self._resumed(asked.stdin, message, nodes)
            return
        if isinstance(asked, c.Spawn) and asked.receipt:
            self._resumed(self._feeding.acknowledged(), message, nodes)
            return
        reading = self.reading = Reading(self.cluster, self._send, message.job, nodes, message.window_bytes, first)
        self._feeding.go_on_with_the_slowest()
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
            self.world.after(plan.stall_ms * 1000, self._if_there, self._ack_all)
        if plan.stdin is not None:
            self._feeding.begin(message.job, [-1] if plan.input_to == "all" else list(range(len(nodes))))

    def _resumed(self, stdin: list[int], message: c.Spawned, nodes: list[int]) -> None:
        reading = self.reading
        if reading is None or (reading.job, reading.nodes) != (message.job, nodes):
            self.world.violated("NoLostJob", f"{self.name} goes on with {reading}, and is given {message}")
        reading.go_on()
        reading.window_bytes = message.window_bytes
        self.resumed += 1
        self._feeding.resume(stdin)

    def _if_there(self, act: Any) -> None:
        """Do what was planned, if the head that it is to be asked of is there."""
        if self.end is not None and not self.finished:
            act()

    def _maybe_release(self, reading: Reading) -> None:
        if not reading.is_complete or self.reading is not reading:
            return
        self.cluster.checks.collected(reading.job)
        self._send(c.ClientRelease(reading.job))
        self.finished = True
        self.leave("has everything and leaves")

    # ------------------------------------------------------------------ as planned

    def _ack_all(self) -> None:
        if self.reading is not None:
            self.reading.ack_all()

    def _leave_as_planned(self) -> None:
        if not self.finished and self.reading is not None:
            self.finished = True
            self.leave()

    def _detach(self) -> None:
        assert self.plan is not None
        if self.reading is None or any(isinstance(asked, c.AttachJob) for asked in self.pending.values()):
            return
        self.ask(c.Detach(self._request(), self.job))
        self.cluster.truth.jobs[self.job].detached = True
        self.reading = None
        self._detached_now()

    def _detached_now(self) -> None:
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
        if self.reading is None:
            self.attach(self.job)

    def _signal(self) -> None:
        assert self.plan is not None
        if self.plan.signal == SIGKILL:
            self.kill_job(self.job)
        else:
            self.ask(c.Signal(self._request(), self.job, None, None, self.plan.signal))

    def kill_job(self, job: str) -> None:
        """End a job, and look whether it is true what the answer says."""
        request = self._request()
        self._killed[request] = job, self.cluster.checks.running(job)
        self.ask(c.Signal(request, job, None, None, SIGKILL))

    def _query(self) -> None:
        self.ask(c.ListProcesses(self._request(), "", None))
        self.ask(c.ShowStatus(self._request()))
        self.ask(c.ShowJob(self._request(), self.job))
        self.ask(c.ListJobs(self._request()))
        self.ask(c.Wait(self._request(), self.job))
