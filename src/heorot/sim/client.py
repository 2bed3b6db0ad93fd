"""A virtual user: spawns a job, reads its output, feeds its input, signals it, leaves, comes back, checks it all."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from heorot.core import client_messages as c
from heorot.core import messages as m
from heorot.core.streams import EVERYTHING
from heorot.images.offer import Upload
from heorot.sim.images import PROGRAM, VirtualImage
from heorot.sim.network import End
from heorot.sim.processes import SIGKILL
from heorot.sim.truth import CLOCKS, JobTruth, content

if TYPE_CHECKING:
    from heorot.sim.cluster import Cluster

_decoder = msgspec.msgpack.Decoder(c.HeadMessage)
CHUNK_BYTES = 30_000
WINDOW_BYTES = 1024 * 1024


@dataclass(slots=True)
class Reading:
    """What a client has heard of the job that it reads, since it attached."""

    job: str
    nodes: list[int]
    window_bytes: int
    first: bool
    """It is read from the start of its life."""
    from_start: bool = True
    offsets: dict[tuple[int, int], int] = field(default_factory=dict)
    acked: dict[tuple[int, int], int] = field(default_factory=dict)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    pids: dict[int, int] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    cut_off: set[int] = field(default_factory=set)
    """Ended ranks whose remaining output is gone with their node; only looked up."""
    told_started: set[int] = field(default_factory=set)
    """Over the present connection; only looked up."""
    told_ended: set[int] = field(default_factory=set)
    """The same."""
    told_cut_off: set[int] = field(default_factory=set)
    """The same."""
    done: bool = False

    def go_on(self) -> None:
        """Another head tells everything again, once."""
        self.told_started.clear()
        self.told_ended.clear()
        self.told_cut_off.clear()
        self.done = False


@dataclass(slots=True)
class Plan:
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


class Client:
    """See the module."""

    def __init__(self, cluster: Cluster, number: int, plan: Plan | None) -> None:
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
        self._asked_us = 0
        """... and when it was first."""
        self.stalled_until_us = 0
        self._epoch = 0
        """Of the head that it is connected to."""
        self._requests = 0
        self._upload: Upload | None = None
        self._killed: dict[int, tuple[str, list[int]]] = {}
        """By request: the job that is to end, and the ranks that ran when it was asked for."""
        self._input: dict[int, tuple[int, int]] = {}
        """By rank (-1: all): sent, acknowledged."""
        self._resuming: set[int] = set()
        self._end_repeated: set[int] = set()
        """Where the end of the input was sent once more to the head that is there now."""
        """Input that is to go on over a new connection; only looked up."""

    # ------------------------------------------------------------------ connection

    def connect(self) -> bool:
        """Connect to the head, if there is one."""
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
            plan.detached, key=self.world.random.randbytes(16),
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
        stdin = [value for to, (_, acked) in self._input.items() for value in (to, acked)]
        self.ask(c.AttachJob(self._request(), reading.job, False, True, stdin, False))

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
        if isinstance(message, c.Rows):
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
            self._output(reading, message)
        elif isinstance(message, c.Started):
            self._started(reading, message)
        elif isinstance(message, (c.Exited, c.ExitedAlike, c.Failed, c.Lost)):
            self._ended(reading, message)
        elif isinstance(message, c.ClientStdinAck):
            self._input_taken(message)
        else:
            self._done(reading)
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
                self.cluster.checks.signalled(job, ran)
        elif isinstance(asked, (c.Spawn, c.AttachJob)):
            self._refused(asked, message)

    def _refused(self, asked: c.Spawn | c.AttachJob, error: c.Error) -> None:
        if isinstance(asked, c.AttachJob) and self.cluster.checks.attach_refused(asked, error):
            # A former reader may not be noticed to be gone, or the nodes may still be on their way to a new head.
            self.world.after(500_000, self._attach_again, asked.job)
            return
        self.finished = True
        self.world.tell(self.name, "is refused: %s %s", error.code, error.message)
        self.leave("gives up")

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
        truth = self.cluster.truth
        first = isinstance(asked, c.Spawn)
        plan = self.plan
        if isinstance(asked, c.Spawn):
            self._launch = None
            self.cluster.checks.spawned(message.job, nodes, asked)
        if isinstance(asked, c.Spawn) and asked.detached:
            self._detached_now()
            return
        if isinstance(asked, c.AttachJob) and asked.resume:
            self._resumed(asked, message, nodes)
            return
        self.reading = Reading(message.job, nodes, message.window_bytes, first)
        self._resuming = set() if first else set(self._input)
        self.stalled_until_us = 0
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
        self.stalled_until_us = self.world.now_us + plan.stall_ms * 1000
        if plan.stall_ms:
            self.world.after(plan.stall_ms * 1000, self._if_there, self._ack_all)
        if plan.stdin is not None:
            known = truth.jobs[message.job]
            for to in [-1] if plan.input_to == "all" else range(len(nodes)):
                self._input[to] = (0, 0)
                known.inputs[to] = 0
                known.inputs_ended[to] = False
                self._feed(to)

    def _resumed(self, asked: c.AttachJob, message: c.Spawned, nodes: list[int]) -> None:
        reading = self.reading
        if reading is None or (reading.job, reading.nodes) != (message.job, nodes):
            self.world.violated("NoLostJob", f"{self.name} goes on with {reading}, and is given {message}")
        reading.go_on()
        reading.window_bytes = message.window_bytes
        self.resumed += 1
        # All that was not acknowledged is sent again.
        told = dict(zip(asked.stdin[0::2], asked.stdin[1::2], strict=True))
        self._input = {to: (told[to], told[to]) for to in self._input}
        self._end_repeated.clear()
        for to in list(self._input):
            self._feed(to)

    def _if_there(self, act: Any) -> None:
        """Do what was planned, if the head that it is to be asked of is there."""
        if self.end is not None and not self.finished:
            act()

    # ------------------------------------------------------------------ states

    def _started(self, reading: Reading, message: c.Started) -> None:
        for rank, pid in zip(message.ranks[0::2], message.ranks[1::2], strict=True):
            truth = self.cluster.truth.ranks.get((reading.job, rank))
            if truth is None or truth.pid != pid:
                self.world.violated("ExitOnce", f"{reading.job} r{rank} is said to run as {pid}, in truth {truth}")
            if rank in reading.told_started:
                self.world.violated("ExitOnce", f"{reading.job} r{rank} was said to be started twice")
            reading.told_started.add(rank)
            reading.pids[rank] = pid

    def _ended(self, reading: Reading, message: c.Exited | c.ExitedAlike | c.Failed | c.Lost) -> None:
        checks = self.cluster.checks
        if isinstance(message, c.Exited):
            for i in range(0, len(message.ranks), 4):
                rank, status, size_1, size_2 = message.ranks[i : i + 4]
                self._one_exit(reading, rank, status, size_1, size_2)
        elif isinstance(message, c.ExitedAlike):
            for first, count in zip(message.runs[0::2], message.runs[1::2], strict=True):
                for rank in range(first, first + count):
                    self._one_exit(reading, rank, message.wait_status, message.stdout_bytes, message.stderr_bytes)
        elif isinstance(message, c.Failed):
            for rank, _, text in message.ranks:
                checks.failed(reading.job, rank, text)
                self._one_end(reading, rank, "refused" if CLOCKS in text else "failed")
        else:
            for rank, node, _ in message.ranks:
                checks.lost(reading.job, rank, node, self._epoch)
                if rank in reading.told_ended and rank not in reading.told_cut_off and _has_status(reading, rank):
                    reading.told_cut_off.add(rank)
                    reading.cut_off.add(rank)
                else:
                    self._one_end(reading, rank, "lost")

    def _one_exit(self, reading: Reading, rank: int, status: int, size_1: int, size_2: int) -> None:
        self.cluster.checks.exited(reading.job, rank, status, size_1, size_2)
        reading.sizes[rank, 1], reading.sizes[rank, 2] = size_1, size_2
        self._one_end(reading, rank, f"status {status}")

    def _one_end(self, reading: Reading, rank: int, what: str) -> None:
        before = reading.ends.get(rank)
        if rank in reading.told_ended:
            self.world.violated("ExitOnce", f"{reading.job} r{rank}: told {before} and then {what}")
        if reading.done:
            self.world.violated("ExitOnce", f"{reading.job} r{rank}: told {what} after Done")
        reading.told_ended.add(rank)
        if before is not None and what == "lost":
            # The node is gone meanwhile: the client knows already what became of the rank, and a new head cannot.
            if before.startswith("status"):
                reading.cut_off.add(rank)
            return
        if before is not None and before != what and before not in ("lost", "refused"):
            self.world.violated("ExitOnce", f"{reading.job} r{rank}: told {before}, and by another head {what}")
        # What a former head has given up may have been found alive by the next one, and what a node refused to a head
        # whose clock was wrong may have been started by one whose clock is right.
        reading.ends[rank] = what

    def _done(self, reading: Reading) -> None:
        if reading.done:
            self.world.violated("ExitOnce", f"{reading.job} was said to be done twice")
        if len(reading.told_ended) != len(reading.nodes):
            told = len(reading.told_ended)
            self.world.violated("ExitOnce", f"{reading.job} is said to be done with {told} statuses only")
        reading.done = True

    def _maybe_release(self, reading: Reading) -> None:
        if not reading.done or self.reading is not reading:
            return
        for (rank, stream), size in reading.sizes.items():
            if rank not in reading.cut_off and reading.offsets.get((rank, stream), 0) < size:
                return
        self.cluster.checks.collected(reading.job)
        self._send(c.ClientRelease(reading.job))
        self.finished = True
        self.leave("has everything and leaves")

    # ------------------------------------------------------------------ output

    def _output(self, reading: Reading, message: c.ClientOutput) -> None:
        key = (message.rank, message.stream)
        known = self.cluster.truth.jobs[reading.job]
        if message.kept_from > known.acked.get(key, 0):
            text = f"bytes up to {message.kept_from} are forgotten, which nobody has"
            self.world.violated("StreamExact", f"{reading.job} r{key[0]}/{key[1]}: {text}")
        have = reading.offsets.get(key)
        if have is None:
            have = 0 if reading.first else message.kept_from
            if have > known.acked.get(key, 0):
                self.world.violated(
                    "StreamExact", f"{reading.job} r{key[0]}/{key[1]} begins at {have}, which nobody read"
                )
            reading.offsets[key] = reading.acked[key] = have
        data = message.data
        truth = self.cluster.truth.ranks.get((reading.job, message.rank))
        end = message.offset + len(data)
        if truth is None or end > truth.written[message.stream - 1]:
            self.world.violated("StreamExact", f"{reading.job} r{key[0]}/{key[1]}: bytes that nobody wrote, to {end}")
        if data != content(reading.job, message.rank, message.stream, message.offset, len(data)):
            self.world.violated("StreamExact", f"{reading.job} r{key[0]}/{key[1]}: wrong bytes at {message.offset}")
        if end - reading.acked.get(key, 0) > reading.window_bytes:
            self.world.violated("Bounded", f"{reading.job} r{key[0]}/{key[1]}: more than the window is on its way")
        if message.offset < reading.acked.get(key, 0):
            # The node has not heard of our acknowledgement: it was on a way that is no more.
            self._send(c.ClientAck(reading.job, key[0], key[1], reading.acked[key]))
        if message.offset > have:
            return  # a gap: all of it is on its way again
        reading.offsets[key] = max(have, end)
        if self.world.now_us >= self.stalled_until_us:
            self._ack(reading, key, reading.window_bytes // 2)

    def _ack(self, reading: Reading, key: tuple[int, int], at_least: int) -> None:
        offset = reading.offsets[key]
        before = reading.acked.get(key, 0)
        whole = reading.sizes.get((key[0], key[1]), EVERYTHING)
        if offset > before and (offset - before >= at_least or offset >= whole or self.world.chance(0.2)):
            reading.acked[key] = offset
            known = self.cluster.truth.jobs[reading.job]
            known.acked[key] = max(known.acked.get(key, 0), offset)
            self._send(c.ClientAck(reading.job, key[0], key[1], offset))

    def _ack_all(self) -> None:
        if self.reading is not None:
            for key in list(self.reading.offsets):
                self._ack(self.reading, key, 1)

    # ------------------------------------------------------------------ input

    def _feed(self, to: int) -> None:
        """Send what the window allows."""
        assert self.plan is not None
        known: JobTruth = self.cluster.truth.jobs[self.job]
        sent, acked = self._input[to]
        total = self.plan.input_size
        while sent < total and sent - acked < WINDOW_BYTES:
            size = min(CHUNK_BYTES, total - sent, WINDOW_BYTES - (sent - acked))
            known.inputs[to] = max(known.inputs[to], sent + size)
            end = sent + size == total and self.world.chance(0.5)
            known.inputs_ended[to] |= end
            self._send(c.ClientStdin(self.job, to, sent, content(self.job, to, 0, sent, size), end))
            sent += size
        self._input[to] = (sent, acked)
        if sent == total and (not known.inputs_ended[to] or (self.resumed and to not in self._end_repeated)):
            known.inputs_ended[to] = True
            self._end_repeated.add(to)
            self._send(c.ClientStdin(self.job, to, sent, b"", True))

    def _input_taken(self, message: c.ClientStdinAck) -> None:
        state = self._input.get(message.rank)
        if state is None:
            return
        sent, acked = state
        if message.offset > self.cluster.truth.jobs[message.job].inputs[message.rank]:
            text = f"{message.offset} bytes of input of {message.job} are acknowledged, but only {sent} were sent"
            self.world.violated("StreamExact", text)
        if message.rank in self._resuming:
            # Another head goes on from where the slowest node stands.
            self._resuming.discard(message.rank)
            sent = acked = message.offset
        self._input[message.rank] = (max(sent, message.offset), max(acked, message.offset))
        self._feed(message.rank)

    # ------------------------------------------------------------------ as planned

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
        if plan is not None and plan.attach_ms >= 0:
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
        self.ask(c.Status(self._request()))
        self.ask(c.ShowJob(self._request(), self.job))
        self.ask(c.ListJobs(self._request()))
        self.ask(c.Wait(self._request(), self.job))


def _has_status(reading: Reading, rank: int) -> bool:
    return reading.ends.get(rank, "").startswith("status")
