"""The daemons' shells: real sockets with TLS, real files, and the head's socket for clients."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

from heorot.core.machine import FromSpace, LinkClosed, LinkOpened, Received, Remember
from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.wire import tree as m
from heorot.core.wire.framing import FrameDecoder, encode_frame
from heorot.daemons.kept_wishes import KeptWishes
from heorot.images.cache import Cache
from heorot.runtime import state
from heorot.runtime.channel import Channel
from heorot.runtime.clients import Clients
from heorot.runtime.images import Images
from heorot.runtime.links import Links
from heorot.runtime.log import LogFile
from heorot.runtime.loop import EpollLoop
from heorot.runtime.shell import HeadDaemonShell, NodeDaemonShell
from heorot.runtime.sockets import bind_tcp
from heorot.security import tls
from tests.core.test_streams import MemorySpool
from tests.shells.rigs import Client, Neighbour, Rig
from tests.support.waiting import DEADLINE_S


class RealNeighbour(Neighbour):
    """Links of another daemon, on the same loop. `port` of a listening one."""

    def __init__(self, loop: EpollLoop, identity: Path, listens: bool = False) -> None:
        super().__init__()
        self.port = 0
        self._link = 0
        self.links = Links(
            loop,
            "test",
            tls.client_context(identity),
            lambda: tls.server_context(identity),
            self._told,
            lambda level, text: None,
        )
        if listens:
            listener = bind_tcp("127.0.0.1", 0)
            self.port = listener.getsockname()[1]
            self.links.listen(listener)

    def _told(self, event: Any) -> None:
        if type(event) is LinkOpened:
            self._link = event.link
            self.connected = True
        elif type(event) is Received:
            self.received.append(event.message)
        elif type(event) is LinkClosed:
            self.ended = True

    def say(self, message: m.LinkMessage) -> None:
        self.links.send(self._link, message, False)

    def close(self) -> None:
        self.links.close_link(self._link, "")


class RealRig(Rig):
    """A daemon's shell, with all that it works with."""

    shell: Any

    def __init__(self, loop: EpollLoop, directory: Path, identities: Path, identity: str) -> None:
        super().__init__()
        self.loop = loop
        self.directory = directory
        self._identities = identities
        self._neighbours: list[RealNeighbour] = []
        self._log = LogFile(directory / "log", identity)
        shell_class = HeadDaemonShell if identity == "h0" else NodeDaemonShell
        self.shell = shell_class(loop, self._log)
        own = identities / identity
        self.links = Links(
            loop, "test", tls.client_context(own), lambda: tls.server_context(own), self.shell.feed, self._log
        )
        self.images_at = directory / "images"
        self.cache = Cache(str(self.images_at), 1 << 30, identity)
        self.images = Images(loop, self.cache, self.shell.feed, self._log)
        listener = bind_tcp("127.0.0.1", 0)
        self.port: int = listener.getsockname()[1]
        self.links.listen(listener)

    def feed(self, event: Any) -> None:
        self.shell.feed(event)

    def now_ms(self) -> int:
        return int(self.shell.now_ms())

    def until(self, condition: Callable[[], object]) -> None:
        deadline = self.loop.time() + DEADLINE_S
        while not condition():
            assert self.loop.time() < deadline, "the condition did not come true in time"
            self.loop.run_once(0.05)

    def settle(self) -> None:
        # What has been on its way before is there when two others, who begin now, have said everything to each other.
        first, second = self._another(listens=True), self._another()
        second.links.connect("up", "127.0.0.1", first.port, 60_000)
        self.until(lambda: first.connected and second.connected)
        for _ in range(3):
            second.say(m.Ping())
            self.until(lambda: first.received)
            first.received.clear()
        first.links.close()
        second.links.close()

    def _another(self, listens: bool = False) -> RealNeighbour:
        made = RealNeighbour(self.loop, self._identities / "n1", listens)
        self._neighbours.append(made)
        return made

    def connect(self) -> Neighbour:
        made = self._another()
        made.links.connect("up", "127.0.0.1", self.port, 60_000)
        return made

    def listening(self) -> tuple[Neighbour, str, int]:
        made = self._another(listens=True)
        return made, "127.0.0.1", made.port

    def nobody(self) -> tuple[str, int]:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            return "127.0.0.1", sock.getsockname()[1]

    def fill_disk(self) -> None:
        self.cache._room.limit_bytes = 0

    def close(self) -> None:
        for neighbour in self._neighbours:
            neighbour.links.close()
        self.links.close()
        self.images.close()
        self._log.close()


class RealClient(Client):
    """A client on the head's socket that never blocks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX)
        directory = os.open(path.parent, os.O_PATH)
        self._socket.connect(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
        self._socket.setblocking(False)
        self._decoder = FrameDecoder()

    def say(self, request: int) -> None:
        self._socket.sendall(encode_frame(msgpack.packb(["status", request])))

    def close(self) -> None:
        self._socket.close()
        self.ended = True

    def take(self) -> None:
        """Take what has come."""
        while not self.ended:
            try:
                data = self._socket.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:
                # What it has said last was not read.
                data = b""
            if not data:
                self.close()
            self.received += [msgpack.unpackb(frame)[2] for frame in self._decoder.feed(data)]


class RealHeadRig(RealRig):
    """A head."""

    is_head = True

    def __init__(self, loop: EpollLoop, directory: Path, identities: Path) -> None:
        super().__init__(loop, directory, identities, "h0")
        self._connected: list[RealClient] = []
        self._path = directory / "head.sock"
        self._clients = Clients(loop, self._path, self.shell.feed, self._log)
        wishes = KeptWishes(loop, directory, None, self.shell.feed)
        self.shell.attach(
            self.machine,
            self.links,
            self._clients,
            self.images,
            wishes.keep,
            lambda item: None,
            wishes.keep_events,
            lambda item: None,
        )
        self._clients.listen()
        self.shell.start()

    def client(self) -> Client:
        made = RealClient(self._path)
        self._connected.append(made)
        return made

    def until(self, condition: Callable[[], object]) -> None:
        def looked() -> object:
            for client in self._connected:
                client.take()
            return condition()

        super().until(looked)

    def close(self) -> None:
        for client in self._connected:
            client.close()
        self._clients.close()
        super().close()


class RealNodeRig(RealRig):
    """A node's agent, with a process space at the other end of a pair of sockets."""

    def __init__(self, loop: EpollLoop, directory: Path, identities: Path) -> None:
        super().__init__(loop, directory, identities, "n0")
        ours, theirs = socket.socketpair()
        self._space = Space(e.SpaceConfig(node=0, incarnation=7, init_pid=5), MemorySpool(1 << 20))
        self._agent = Channel(
            loop, ours, on_frame=lambda payload: self.feed(FromSpace(payload)), on_closed=lambda reason: None
        )
        self._bpinit = Channel(loop, theirs, on_frame=self._asked, on_closed=lambda reason: None)
        self._state = directory / "state"
        self._state.mkdir()
        self.shell.attach(
            self.machine,
            self.links,
            self.images,
            to_space=lambda payload, newest_of: self._agent.send(payload, newest_of=newest_of),
            remember=self._remember,
        )
        self._space.handle(e.AgentConnected(), 0)
        self._agent.start()
        self._bpinit.start()
        self.shell.start()

    def _asked(self, payload: bytes) -> None:
        for item in self._space.handle(e.FromAgent(m.decode_space_command(payload)), 0):
            if isinstance(item, e.ToAgent):
                self._bpinit.send(m.encode(item.message))

    def _remember(self, item: Remember) -> str:
        if item.durable:
            state.remember_durably(self._state, item.name, item.value)
        else:
            state.remember(self._state, item.name, item.value, self._log)
        return ""

    def restarted(self, name: str) -> bytes:
        return state.recall(self._state, name)

    def close(self) -> None:
        self._agent.close()
        self._bpinit.close()
        super().close()
