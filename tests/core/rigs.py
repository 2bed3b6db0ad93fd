"""A head and a node driven by hand, for tests that read as transcripts: events in, instructions out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from heorot.core.head.machine import HeadConfig, HeadMachine
from heorot.core.machine import (
    ClientClosed,
    ClientOpened,
    CloseLink,
    Connect,
    FromClient,
    FromSpace,
    HeadEvent,
    HeadInstruction,
    Kept,
    LinkClosed,
    LinkOpened,
    NodeEvent,
    NodeInstruction,
    Received,
    Remember,
    Send,
    SendEncoded,
    SetTimer,
    SpaceConnected,
    TimerFired,
    ToClient,
    ToSpace,
)
from heorot.core.node.machine import NodeConfig, NodeMachine
from heorot.core.tickets import seal_placement, seal_ticket
from heorot.core.timers import AwakeDue, Due
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.launches import SPEC, changed, spawn_of

CLUSTER = "test"
HEAD = -1
LEFT, RIGHT = 51, 52
"""The links of the children of `relay`."""


def sign(data: bytes) -> bytes:
    """Stand in for Ed25519: no secret, but every byte counts."""
    return b"signed:%d" % hash_of(data)


def verify(data: bytes, signature: bytes) -> bool:
    """Check what `sign` gave."""
    return sign(data) == signature


def hash_of(data: bytes) -> int:
    """Return the same number in every process."""
    value = 0
    for byte in data:
        value = (value * 257 + byte) % ((1 << 61) - 1)
    return value


def hello(node: int, epoch: int = 0, *, peer: bool = False) -> m.Hello:
    """Return a greeting."""
    version, oldest = m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION
    return m.Hello(version, oldest, CLUSTER, node, epoch, "test", peer=peer)


def placement(node: int, path: Sequence[int], epoch: int = 1, serial: int = 1) -> bytes:
    """Return the head's word that a node belongs below these."""
    hops = [m.Hop(hop, f"host{hop}", 1) for hop in path]
    return seal_placement(sign, m.Placement(CLUSTER, node, hops, epoch, serial))


def ticket(job: str, runs: list[int], epoch: int = 1, **changes: Any) -> m.Ticket:
    """Return the ticket of a job that takes input and is read."""
    value = m.Ticket(CLUSTER, epoch, job, 0, 60_000, "alice", 1000, 1000, [], SPEC, runs, 4096, True)
    return changed(value, **changes)


class HeadRig:
    """A head; nodes attach to it by number, each as a direct child unless `below` says otherwise."""

    def __init__(self, nodes: int, fanout: int = 32, **config: Any) -> None:
        base = HeadConfig(CLUSTER, "h0", "test", 1, "head", 1, fanout=fanout, nodes=tuple(range(nodes)), settle_ms=0)
        self.machine = HeadMachine(replace(base, **config), sign, verify)
        self.now = 0
        self.links: dict[int, int] = {}
        self.orders = 0
        self.sent: list[HeadInstruction] = []
        self._tick_ms: int | None = None
        self._note_tick(self.machine.start(0))

    def give(self, event: HeadEvent) -> list[HeadInstruction]:
        """Hand over an event; what the head wants is kept until it is looked at."""
        out = self.machine.handle(event, self.now)
        self._note_tick(out)
        self.sent += out
        return out

    def _note_tick(self, out: list[HeadInstruction]) -> None:
        for item in out:
            if isinstance(item, SetTimer) and item.key == AwakeDue():
                self._tick_ms = item.at_ms

    def connect(self, node: int) -> int:
        """Open and greet a link from this node."""
        link = 100 + node + 1000 * len(self.links)
        self.links[node] = link
        self.give(LinkOpened(link, node))
        self.give(Received(link, hello(node)))
        return link

    def attach(
        self,
        node: int,
        jobs: Sequence[m.JobInventory] = (),
        *,
        below: Sequence[int] = (),
        incarnation: int = 7,
        after: str = "0.0",
        age_ms: int = 3_600_000,
        placed_in: int | None = None,
    ) -> None:
        """Let a node offer itself with what it holds, through the topmost of the nodes that it stands below.

        It was placed there in the epoch `placed_in`, this head's unless given.
        """
        top = below[0] if below else node
        link = self.links[top] if top in self.links else self.connect(top)
        parent = below[-1] if below else HEAD
        self.orders += 1
        epoch = self.machine.config.epoch if placed_in is None else placed_in
        placed = placement(node, below, epoch) if below else b""
        self.up(node, m.Attach(node, incarnation, f"host{node}", 1, placed, parent=parent, order=self.orders), link)
        self.up(node, m.Inventory(incarnation, list(jobs), after=after, age_ms=age_ms), link)

    def up(self, node: int, payload: m.Message, link: int | None = None) -> None:
        """Let a node say something."""
        self.give(Received(self.links[node] if link is None else link, m.Up(node, m.encode(payload))))

    def report(
        self, node: int, job: str, started: Sequence[int] = (), exited: Sequence[int] = (), failed: Any = ()
    ) -> None:
        """Let a node report: started is rank, pid; exited is rank, status, stdout bytes, stderr bytes."""
        flat_started = [v for i in range(0, len(started), 2) for v in (node, *started[i : i + 2])]
        flat_exited = [v for i in range(0, len(exited), 4) for v in (node, *exited[i : i + 4])]
        self.give(Received(self.links[node], m.Report(job, flat_started, flat_exited, list(failed))))

    def close(self, node: int) -> None:
        """Cut a node's link."""
        self.give(LinkClosed(self.links.pop(node), "cut"))

    def wait(self, ms: int, timer: Due) -> None:
        """Let time pass and this timer fire; the head is awake all the time."""
        self.awake(self.now + ms)
        self.give(TimerFired(timer))

    def awake(self, until_ms: int) -> None:
        """Let time pass, with the head's looks at its clock."""
        while self._tick_ms is not None and self._tick_ms <= until_ms:
            self.now, self._tick_ms = max(self.now, self._tick_ms), None
            self.give(TimerFired(AwakeDue()))
        self.now = until_ms

    def client(self, number: int = 1, hears_used: bool = False) -> None:
        """Let root connect."""
        self.give(ClientOpened(number, "root", 0, 0, ()))
        self.give(FromClient(number, c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test", hears_used)))
        self.looked()

    def ask(self, message: Any, client: int = 1) -> None:
        """Let a client say something."""
        self.give(FromClient(client, message))

    def leave(self, client: int = 1, lost: bool = False) -> None:
        """Let a client vanish."""
        self.give(ClientClosed(client, lost))

    def spawn(self, nodes: str, client: int = 1, detached: bool = False, request: int = 1) -> str:
        """Let a client start a job; return its id."""
        self.looked()
        self.ask(spawn_of(request, nodes, detached=detached), client)
        if detached:
            self.confirm()
        return next(message.job for message in self.told(client) if isinstance(message, c.Spawned))

    def confirm(self) -> None:
        """Let the first node that was asked for its copy of a launch give it."""
        where, fetch = self.commands(m.FetchLaunch)[-1]
        launch = next(launch for _, launch in self.commands(m.Launch) if launch.job == fetch.job)
        first = int(where.strip("n[").replace("-", " ").replace(",", " ").rstrip("]").split()[0])
        self.up(first, m.LaunchCopy(launch.job, launch.ticket, launch.signature))

    # ------------------------------------------------------------------ what the head wants

    def looked(self) -> None:
        """Forget what was wanted so far."""
        self.sent.clear()

    def told(self, client: int = 1) -> list[Any]:
        """Return what this client was told since it was looked at last."""
        return [item.message for item in self.sent if isinstance(item, ToClient) and item.client == client]

    def kinds(self, client: int = 1) -> list[type]:
        """Return the kinds of what this client was told, without words on its input."""
        return [type(message) for message in self.told(client) if not isinstance(message, c.ClientStdinAck)]

    def commands(self, kind: type[m.Message] | None = None) -> list[tuple[str, Any]]:
        """Return the commands that went down, with their nodes."""
        found = []
        for item in self.sent:
            if isinstance(item, Send) and isinstance(item.message, m.Down):
                command = m.decode_head_command(item.message.payload)
                if kind is None or isinstance(command, kind):
                    found.append((str(NodeSet.from_ranges(item.message.nodes)), command))
        return found


class NodeRig:
    """A node's agent whose process space answers every `Inventorize` with an empty inventory."""

    def __init__(
        self,
        node: int,
        *,
        after: str = "0.0",
        heads: int = 1,
        **config: Any,
    ) -> None:
        addresses = tuple((f"head{number}", 1) for number in range(heads))
        base = NodeConfig(CLUSTER, node, "test", f"host{node}", 1, addresses)
        self.node = node
        self.machine = NodeMachine(replace(base, **config), verify)
        self.now = 0
        self.sent: list[NodeInstruction] = []
        self.uplink = 0
        self.disk = "quick"
        """Or ``slow``: nothing is answered; or ``full``."""
        self.machine.start(0)
        self.give(SpaceConnected())
        self.give(FromSpace(m.encode(m.Inventory(7, [], after=after))))

    def give(self, event: NodeEvent) -> list[NodeInstruction]:
        """Hand over an event."""
        out = self.machine.handle(event, self.now)
        self.sent += out
        for item in list(out):
            if isinstance(item, Remember) and item.durable and self.disk != "slow":
                out += self.give(Kept(item.name, item.value, "no space" if self.disk == "full" else ""))
        return out

    def wanted(self) -> Connect:
        """Return the connection that the node wants now."""
        return [item for item in self.sent if isinstance(item, Connect)][-1]

    def attach(self, parent: int = HEAD, epoch: int = 1) -> int:
        """Give it the connection that it wants, to a parent that greets it."""
        self.uplink += 1
        self.give(LinkOpened(self.uplink, parent, self.wanted().key))
        self.give(Received(self.uplink, hello(parent, epoch)))
        return self.uplink

    def child(self, node: int, link: int) -> None:
        """Let a node below connect and greet."""
        self.give(LinkOpened(link, node))
        self.give(Received(link, hello(node)))

    def admit(self, link: int, node: int, path: Sequence[int], order: int = 1, parent: int = 0) -> None:
        """Let a node attach through the child of this link."""
        attach = m.Attach(node, 7, f"host{node}", 1, placement(node, path), parent=parent, order=order)
        self.from_child(link, m.Up(node, m.encode(attach)))

    def from_child(self, link: int, message: m.LinkMessage) -> None:
        """Let a child say something."""
        self.give(Received(link, message))

    def down(self, nodes: Sequence[int], command: m.HeadCommand, epoch: int = 1) -> None:
        """Let the head say something to these nodes."""
        self.give(Received(self.uplink, m.Down(epoch, NodeSet.of(nodes).ranges(), m.encode(command))))

    def launch(self, job: str, nodes: Sequence[int], epoch: int = 1, **changes: Any) -> None:
        """Let the head launch a job with one rank on each of these nodes."""
        runs = [value for node in nodes for value in (node, 1)]
        self.down(nodes, seal_ticket(sign, ticket(job, runs, epoch, **changes)), epoch)

    # ------------------------------------------------------------------ what the agent wants

    def looked(self) -> None:
        """Forget what was wanted so far."""
        self.sent.clear()

    def to(self, link: int) -> list[Any]:
        """Return what was sent on this link."""
        return [
            item.message if isinstance(item, Send) else m.decode_link(item.payload)
            for item in self.sent
            if isinstance(item, (Send, SendEncoded)) and item.link == link
        ]

    def closed(self, link: int) -> bool:
        """Say whether this link was closed."""
        return any(isinstance(item, CloseLink) and item.link == link for item in self.sent)

    def to_space(self, kind: type[m.Message]) -> list[Any]:
        """Return the commands of this kind that the process space was given."""
        commands = [m.decode_space_command(item.payload) for item in self.sent if isinstance(item, ToSpace)]
        return [command for command in commands if isinstance(command, kind)]

    def words(self) -> list[bool]:
        """Return what the process space was told of the head: whether there is none."""
        return [command.alone for command in self.to_space(m.Message) if isinstance(command, m.Alone | m.Inventorize)]

    def remembered(self, name: str) -> bytes | None:
        """Return the newest value that is to be kept under this name."""
        values = [item.value for item in self.sent if isinstance(item, Remember) and item.name == name]
        return values[-1] if values else None


def relay() -> NodeRig:
    """Return node 0, attached to the head, with the children 2 and 3 (over `LEFT` and `RIGHT`) and, below 2, node 6."""
    node = NodeRig(0)
    node.attach()
    node.child(2, LEFT)
    node.child(3, RIGHT)
    node.admit(LEFT, 2, [0])
    node.admit(RIGHT, 3, [0])
    node.admit(LEFT, 6, [0, 2], parent=2)
    node.looked()
    return node


def held(
    job: str,
    running: Sequence[int] = (),
    exited: Sequence[int] = (),
    failed: Sequence[m.Failure] = (),
    stdin_offset: int = 0,
) -> m.JobInventory:
    """Return what a node says that it holds of a job: running is rank, pid; exited is rank, status, two sizes."""
    return m.JobInventory(job, list(running), list(exited), list(failed), stdin_offset)


def process(pid: int, job: str = "", rank: int = -1, state: str = "S") -> m.Process:
    """Return what a node says of a process."""
    return m.Process(pid, job, rank, 0, state, 0, [b"prog"], True)
