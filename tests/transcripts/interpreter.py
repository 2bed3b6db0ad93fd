"""Plays transcripts: text files of verbs, with the machines' answers below them, and a comment on top that says why.

A block is one or more lines of verbs, ``----``, and what they made happen, up to an empty line::

    spawn user1 n[0-1] sleep 10 0
    deliver head1
    ----
    user1 -> head1: Spawn sleep 10 0 on n[0-1]

Nothing moves between two hosts unless a verb says so. ``deliver`` is for what is on its way to somebody at that moment;
``stabilize`` lets time and messages go on until nothing has happened for two seconds, ``advance`` for a given time.
What ``expect`` says is true (`tests.transcripts.expectations`), or the transcript has failed, also while it is
rewritten. A verb is a method of `Stage`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from signal import Signals
from typing import Any

from heorot.core.client.messages import BROADCAST
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m
from heorot.images.offer import Upload
from heorot.sim.cluster import SimulatedCluster
from heorot.sim.head_host import HeadHost
from heorot.sim.hosts import NodeHost
from heorot.sim.images import PROGRAM, VirtualImage
from heorot.sim.settings import Settings
from heorot.sim.truth import content
from tests.transcripts.answers import Answer
from tests.transcripts.expectations import Expectations
from tests.transcripts.still import StillNetwork, StillWorld
from tests.transcripts.user import User
from tests.transcripts.words import say, status

BEAT_US = 5_000
"""What a host does with what it was given takes less, and no timer is as short."""
QUIET_US = 2_000_000
LONGEST_US = 120_000_000
LEASE_MS, GRACE_MS = 3_000, 5_000
IMAGE_SEED = 7
"""Of a program of some chunks."""
RULE = "----"
VERBS = (
    "cluster", "spawn", "attach", "feed", "signal", "leave", "deliver", "stabilize", "advance", "wait", "expect",
    "drop", "cut", "mend", "kill", "lose", "start", "pause", "wake", "switch", "haunt",
)  # fmt: skip


class Unexpected(AssertionError):
    """A transcript does not go as it says."""


def play(text: str, mutate: Callable[[object], None] | None = None) -> str:
    """Return a transcript with the answers that the machines give now; `mutate` gets each new machine first.

    Raises
    ------
    Unexpected
        If a verb cannot be obeyed, or what is expected is not true.
    Violation
        If an invariant of the simulator is broken.
    """
    stage = Stage(mutate)
    played: list[str] = []
    verbs: list[str] = []
    is_answer = False
    for line in [*text.splitlines(), ""]:
        if line == RULE:
            answer = stage.play(verbs, played)
            played += [line, *(answer or ["ok"])]
            verbs, is_answer = [], True
            continue
        if not line:
            if verbs:
                raise Unexpected(f"{RULE} is missing after {verbs[-1]!r}")
            is_answer = False
        elif is_answer:
            if line != "ok" and ": " not in line:
                raise Unexpected(f"an empty line is missing before {line!r}")
            continue
        elif not line.startswith("#"):
            verbs.append(line)
        played.append(line)
    return "\n".join(played)


def _us(time: str) -> int:
    return round(float(time.removesuffix("s")) * 1_000_000)


class Stage:
    """One transcript's cluster and its users."""

    def __init__(self, mutate: Callable[[object], None] | None) -> None:
        self.answer = Answer()
        self.users: dict[str, User] = {}
        self.world = StillWorld(self._happened)
        self.network = StillNetwork(self.world, self._heard)
        self.cluster: SimulatedCluster
        self._mutate = mutate

    def play(self, lines: list[str], before: list[str]) -> list[str]:
        """Obey the lines of a block; return what that made happen."""
        self.answer.clear()
        for line in lines:
            try:
                self._do(line)
            except Exception as error:
                error.add_note("\n".join([f"by: {line}", "so far it went like this:", *before, RULE]))
                error.add_note("\n".join(self.answer.lines()))
                raise
        return self.answer.lines()

    def _do(self, line: str) -> None:
        verb, *words = line.split()
        if verb not in VERBS:
            raise Unexpected("there is no such verb")
        options = dict(word.split("=", 1) for word in words if "=" in word)
        getattr(self, f"_{verb}")(*(word for word in words if "=" not in word), **options)

    # ------------------------------------------------------------------ what is told

    def _tell(self, source: str, to: str, text: str) -> None:
        self.answer.tell(self.world.now_us, source, to, text)

    def _heard(self, source: str, to: str, message: object) -> None:
        text = say(source, to, message)
        if text:
            self._tell(source, to, text)

    def _happened(self, who: str, text: str, args: tuple[Any, ...]) -> None:
        if text == "starts, epoch %d":
            self._tell(who, "", f"leads in epoch {args[0]}")
        elif text in ("its head is ended", "ends: %s"):
            self._tell(who, "", "ends")
        elif text == "%s r%d starts as %d":
            self._tell(who.replace("procs", "n"), "", f"{args[0]} r{args[1]} starts")
        elif text == "%s r%d ends with %d":
            self._tell(who.replace("procs", "n"), "", f"{args[0]} r{args[1]} ends: {status(args[2])}")
        elif text == "lease %d expires" and self.cluster.store.leader is not None:
            name, lease, _ = self.cluster.store.leader
            if lease == args[0]:
                self._tell(who, "", f"ends the lease of {name}")

    # ------------------------------------------------------------------ time

    def _run(self, for_us: int) -> None:
        self.world.run_until(self.world.now_us + for_us, lambda: None)

    def _advance(self, time: str) -> None:
        """Let time and messages go on."""
        self.network.flow()
        self._run(_us(time))
        self.network.hold()

    def _wait(self, time: str) -> None:
        """Let time go on, and no message move."""
        self._run(_us(time))

    def _stabilize(self) -> None:
        """Let time and messages go on until nothing has happened for two seconds."""
        began_us = self.world.now_us
        self.network.flow()
        while self.world.now_us < max(began_us, self.answer.told_us) + QUIET_US:
            self._run(QUIET_US // 10)
            if self.world.now_us > began_us + LONGEST_US:
                raise Unexpected("it does not come to rest")
        self.network.hold()

    def _deliver(self, *to: str, **options: str) -> None:
        """Let arrive what is on its way to these now: ``deliver n0 n1 then head1 from=n0``."""
        for name in (*to, "then"):
            if name == "then":
                self._run(BEAT_US)
            elif not self.network.deliver(name, options.get("from", "")):
                raise Unexpected(f"nothing is on its way to {name}")

    # ------------------------------------------------------------------ the cluster

    def _cluster(self, heads: str, nodes: str, fanout: str = "8") -> None:
        """Build one, and have all nodes join: ``cluster heads=2 nodes=3``."""
        settings = Settings(
            heads=int(heads),
            nodes=int(nodes),
            fanout=int(fanout),
            lease_ms=LEASE_MS,
            node_grace_ms=GRACE_MS,
            delay_us=self.network.delay_us,
            drift_ppm=0,
            wall_skew_ms=0,
            disk_full_rate=0.0,
            same_program_rate=0.0,
        )
        self.cluster = SimulatedCluster(0, settings, self._mutate, network=self.network)
        for host in self.cluster.heads:
            host.boot()
        for node in self.cluster.hosts:
            node.start_space()
        self._advance("5s")
        head = self.cluster.heads[0]
        if head.machine is None or head.machine.context.below.mask.bit_count() != settings.nodes:
            raise Unexpected("the cluster does not come up")
        self.answer.clear()
        others = " ".join(host.name for host in self.cluster.heads[1:])
        standby = f"; {others} on standby" if others else ""
        self._tell(head.name, "", f"leads in epoch 1; {NodeSet.of(range(settings.nodes))} up{standby}")

    def _head(self, name: str) -> HeadHost:
        return next(host for host in self.cluster.heads if host.name == name)

    def _node(self, name: str) -> NodeHost:
        return self.cluster.hosts[int(name.removeprefix("n"))]

    # ------------------------------------------------------------------ users

    def _spawn(
        self, name: str, nodes: str, *words: str, at: str = "head1", headless: str = "0", image: str = ""
    ) -> None:
        """Have a user launch a job: ``spawn user1 n0,n1 sleep 10 0 detached headless=5s``."""
        argv = [word.encode() for word in words if word != "detached"]
        user = self._user(name, at)
        fields: dict[str, Any] = {}
        if image:
            virtual = VirtualImage(Random(IMAGE_SEED), False)
            self.cluster.images[virtual.image] = virtual
            user.session.offer(Upload(virtual.offer(), virtual.chunk), virtual.image)
            fields = {"image": virtual.image, "program": PROGRAM}
        user.job = user.session.spawn(
            self.world.now_ms,
            nodes=nodes,
            select="list",
            argv=argv + [b"0"] * (3 - len(argv)),
            environment=[],
            directory=b"/",
            umask=18,
            limits=[],
            stdin=b"" if words[0] == "read" else None,
            stdout=b"",
            stderr=b"",
            terminal=[],
            detached="detached" in words,
            max_processes=0,
            key=name.encode().ljust(16),
            headless_ms=int(headless.removesuffix("s")) * 1000,
            **fields,
        )
        user.limits_headless_time = headless != "0"
        user.begin()

    def _attach(self, name: str, job: str, at: str = "head1") -> None:
        """Have a user attach to a job, and read it from what is kept."""
        user = self._user(name, at)
        user.job = user.session.attach(job, True)
        user.begin()

    def _user(self, name: str, at: str) -> User:
        self.users[name] = User(self.cluster, name, self._head(at))
        return self.users[name]

    def _signal(self, name: str, word: str) -> None:
        """Have a user send a signal to its job."""
        user = self.users[name]
        assert user.job is not None
        user.asked = user.session.signal(user.job, Signals[word].value)
        user.flush()

    def _feed(self, name: str, size: str, *end: str) -> None:
        """Have a user give its job input: ``feed user1 100 end``."""
        user = self.users[name]
        assert user.job is not None
        known, sent = self.cluster.truth.jobs[user.job.id], user.job.stdin_stream().sent
        known.inputs[BROADCAST], known.inputs_ended[BROADCAST] = sent + int(size), bool(end)
        user.session.send_stdin(user.job, content(user.job.id, BROADCAST, 0, sent, int(size)), end=bool(end))
        user.flush()

    def _leave(self, name: str) -> None:
        """Have a user hang up."""
        self.users[name].leave()

    # ------------------------------------------------------------------ faults

    def _drop(self, one: str, other: str) -> None:
        """Break the connection between two, with all that is on its way."""
        if not self.network.drop(one, other):
            raise Unexpected("they have no connection")

    def _cut(self, one: str, *others: str) -> None:
        """Let nothing pass between one and the others, until it is mended: ``cut head1 store nodes``."""
        nodes = [host.name for host in self.cluster.hosts]
        for name in others:
            for other in nodes if name == "nodes" else [name]:
                self.network.separate(one, other)
                self.network.separate(other, one)

    def _mend(self) -> None:
        """Let everything pass again."""
        self.network.mend()

    def _kill(self, name: str) -> None:
        """Kill a head's process, or a node's agent."""
        if name.startswith("head"):
            self._head(name).kill()
        else:
            self._node(name).kill_agent()

    def _lose(self, name: str) -> None:
        """Switch a host off, or the store."""
        if name == "store":
            self.cluster.store.fail()
        elif name.startswith("head"):
            host = self._head(name)
            host.lose()
            for user in self.users.values():
                if user.home is host:
                    user.die_with_host()
        else:
            self._node(name).kill()

    def _start(self, name: str) -> None:
        """Switch on what was lost, or start the agent that was killed."""
        if name == "store":
            self.cluster.store.recover()
        elif name.startswith("head"):
            self._head(name).boot()
        elif self._node(name).space is None:
            self._node(name).start_space()
        else:
            self._node(name).start_agent()

    def _pause(self, name: str) -> None:
        """Stop a head's host, or a node's agent."""
        self.network.asleep.add(name)
        if name.startswith("head"):
            self._head(name).pause()
        else:
            self._node(name).doze()

    def _wake(self, name: str) -> None:
        """Let it go on."""
        self.network.asleep.discard(name)
        if name.startswith("head"):
            self._head(name).wake()
        else:
            self._node(name).wake()

    def _haunt(self, name: str, word: str) -> None:
        """Have a command of a former head, which a relay has held back, reach a node late: ``haunt n0 Launch``."""
        node = self._node(name)
        for epoch, payload in reversed(node.overheard):
            late = m.Down(epoch, [node.node, node.node], payload)
            if epoch < node.seen_epoch and (said := say("", name, late)).startswith(word):
                self._tell("a relay", name, f"{said}, of epoch {epoch}")
                node.haunt(late)
                self._run(BEAT_US)
                return
        raise Unexpected("it was never given such a command")

    def _switch(self, name: str) -> None:
        """Have a head hand over."""
        self._head(name).hand_over()

    def _expect(self, subject: str, what: str, *words: str, **options: str) -> None:
        """Fail unless this is true: see `Expectations`."""
        instead = getattr(Expectations(self.cluster, self.users), what)(subject, *words, **options)
        if instead:
            raise Unexpected(instead)
