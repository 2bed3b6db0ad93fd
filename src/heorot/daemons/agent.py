"""bpnode, a node's agent: its hop of the tree, between the node's bpinit and the rest of the cluster."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heorot import __version__
from heorot.config.layout import HOSTS_NAME
from heorot.core.errors import HeorotError, SecurityError
from heorot.core.machine import FromSpace, Remember, SpaceClosed, SpaceConnected
from heorot.core.node.known_names import NAMES_NAME
from heorot.core.node.machine import NodeConfig, NodeMachine
from heorot.core.wire.framing import MAX_FRAME_BYTES
from heorot.core.wire.tree import decode_name_list
from heorot.daemons.clients_of_node import ClientsOfNode
from heorot.daemons.single import hold
from heorot.images.cache import DEFAULT_LIMIT_BYTES, Cache
from heorot.images.reclaim import Reclaimer
from heorot.linux.keyring import leave_session_keyring
from heorot.runtime import state
from heorot.runtime.channel import Channel
from heorot.runtime.hosts_file import HostsFile
from heorot.runtime.images import Images
from heorot.runtime.links import Links
from heorot.runtime.log import LogFile
from heorot.runtime.loop import EpollLoop
from heorot.runtime.shared_page import SharedPage
from heorot.runtime.shell import NodeDaemonShell
from heorot.runtime.sockets import bind_tcp, connect_unix, peer_credentials
from heorot.security import tls
from heorot.security.signing import Verifier

INIT_END_TIMEOUT_S = 0.5
"""How long a bpinit that has closed its connection may take to end; if it takes longer, the head notices by itself."""
KEPT = ("epoch", "placement", "heads")
"""What an agent keeps on disk: it must be able to when that is full."""
SPACE_TIMEOUT_S = 10.0
"""How long a starting agent waits for its bpinit to listen."""
LAST_WORDS_S = 1.0
"""How long an agent that ends waits for its last words to leave."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What one agent needs.

    `directory` is the node's: identity, ``init.sock``, ``state/``. `port` 0 takes any; `listener` is a bound socket
    to use in place of binding `host` and `port`. `init_pid` 0: ask the kernel who serves ``init.sock``.
    """

    directory: Path
    log_path: Path
    cluster: str
    node: int
    host: str
    port: int
    heads: tuple[tuple[str, int], ...]
    listener: socket.socket | None = None
    init_pid: int = 0
    machine: dict[str, Any] = field(default_factory=dict)
    """Overrides fields of `NodeConfig`."""
    image_cache_bytes: int = DEFAULT_LIMIT_BYTES
    shared_content: str = ""
    """Where the caches of this host share what they have; empty: nowhere."""
    log_level: str = "info"
    host_name: str = ""
    """What this host calls itself, for the head; empty: that is nobody's business."""
    shows_names: bool = False
    """Keep the names of all nodes in the hosts file that bpinit shows."""
    log_in_json: bool = False
    client_socket: Path | None = None
    """Where commands on this host look for a head; None: nobody passes them on."""
    page: SharedPage = field(default_factory=SharedPage)
    """Where the process that has forked this one reads what is wrong."""


def run_agent(settings: NodeSettings) -> str:
    """Serve until the machine ends the agent; return why.

    Raises
    ------
    HeorotError
        If the agent cannot start.
    """
    log = LogFile.of_service(settings.log_path, f"bpnode n{settings.node}", settings.log_level, settings.log_in_json)
    leave_session_keyring(log)
    try:
        return _serve(settings, log)
    except (HeorotError, OSError) as error:
        log("error", str(error))
        settings.page.say(str(error))
        raise
    except BaseException as error:
        log.exception("the agent ends because of an error in it")
        settings.page.say(f"the agent ends because of an error in it: {type(error).__name__}: {error}")
        raise


def _serve(settings: NodeSettings, log: LogFile) -> str:
    directory = settings.directory
    # Held until the process ends: two agents would take the node's bpinit from each other for ever.
    hold(directory, "bpnode", f"the agent of n{settings.node}")
    loop = EpollLoop()
    space_socket = _connect_space(directory / "init.sock", loop, settings.init_pid)
    init_pid = settings.init_pid or peer_credentials(space_socket)[0]
    init_process = os.pidfd_open(init_pid)
    listener = settings.listener or _bind(settings)
    # Of the whole cluster's directory, in which this is ``nodes/nN``.
    make_room = Reclaimer(directory.parent.parent, log)
    for name in KEPT:
        state.reserve(directory / "state", name, log, make_room)
    config = _configure(settings, listener, init_pid, wall_offset_ms=int((time.time() - loop.time()) * 1000))
    machine = NodeMachine(config, Verifier.load(directory / "signing.pub").verify)
    shell = NodeDaemonShell(loop, log)
    images_at, owner = str(directory / "images"), f"n{settings.node}"
    cache = Cache(images_at, settings.image_cache_bytes, owner, log, make_room, settings.shared_content)
    images = Images(loop, cache, shell.feed, log, init_pid)
    links = Links(
        loop,
        settings.cluster,
        tls.client_context(directory),
        lambda: tls.server_context(directory),
        shell.feed,
        log,
        make_passing_context=lambda: tls.client_context(directory, passed_on=True),
    )
    space = _channel_to_space(loop, space_socket, init_process, shell, log)
    hosts = HostsFile(directory / HOSTS_NAME, log, loop if settings.shows_names else None)
    shell.attach(
        machine,
        links,
        images,
        to_space=lambda payload, newest_of: space.send(payload, newest_of=newest_of),
        remember=_Memory(directory / "state", log, make_room, settings.page, hosts).keep,
    )
    links.listen(listener)
    space.start()
    clients = _clients(settings, loop, log)
    settings.page.say("")
    shell.start()
    images.begin()
    shell.feed(SpaceConnected())
    # SIGTERM raises this; then the agent ends in order, and a second one changes nothing.
    with contextlib.suppress(SystemExit):
        loop.run_forever()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if clients is not None:
        clients.close()
    reason = shell.stopped or "stopped"
    log("info", f"the agent ends: {reason}")
    _say_the_last(loop, links)
    links.close()
    images.close()
    hosts.close()
    space.close()
    loop.close()
    os.close(init_process)
    return reason


def _clients(settings: NodeSettings, loop: EpollLoop, log: LogFile) -> ClientsOfNode | None:
    """Listen for commands on this host. That this cannot be is no reason for a node not to be one."""
    path = settings.client_socket
    if path is None:
        return None
    directory, cluster = settings.directory, settings.cluster

    def heads() -> tuple[tuple[str, int], ...]:
        from heorot.security.kept_heads import kept_heads

        kept = tuple((address.host, address.port) for address in kept_heads(directory, cluster))
        return tuple(dict.fromkeys((*kept, *settings.heads)))

    try:
        return ClientsOfNode(loop, path, directory, cluster, f"n{settings.node}", heads, log)
    except (HeorotError, OSError) as error:
        log("warning", f"commands on this host reach no head: {error}")
        return None


def _bind(settings: NodeSettings) -> socket.socket:
    try:
        return bind_tcp(settings.host, settings.port)
    except HeorotError:
        # Somebody took our port while no agent was here. Any other will do: attaching tells the head which.
        if not settings.port:
            raise
        return bind_tcp(settings.host, 0)


def _configure(settings: NodeSettings, listener: socket.socket, init_pid: int, wall_offset_ms: int) -> NodeConfig:
    host, port = listener.getsockname()[:2]
    kept = settings.directory / "state"
    return NodeConfig(
        cluster=settings.cluster,
        node=settings.node,
        release=__version__,
        host=host,
        port=port,
        heads=settings.heads,
        placement=state.recall(kept, "placement"),
        epoch=state.recall_epoch(kept),
        head_list=state.recall(kept, "heads"),
        host_name=settings.host_name,
        hears_names=settings.shows_names,
        agent_pid=os.getpid(),
        init_pid=init_pid,
        wall_offset_ms=wall_offset_ms,
        jitter_seed=int.from_bytes(os.urandom(4), "big"),
        **settings.machine,
    )


def _channel_to_space(
    loop: EpollLoop, space_socket: socket.socket, init_process: int, shell: NodeDaemonShell, log: LogFile
) -> Channel:
    def closed(reason: str) -> None:
        if _has_ended(init_process):
            shell.feed(SpaceClosed())
            return
        # It makes room for another agent, or found a mistake of ours. Its processes live: say nothing to the head.
        log("warning", f"bpinit lives and has closed the connection ({reason}); the agent ends")
        loop.stop()

    channel = Channel(
        loop,
        space_socket,
        on_frame=lambda payload: shell.feed(FromSpace(payload)),
        on_large_frame=lambda payload: shell.feed(FromSpace(payload)),
        on_closed=closed,
        # It belongs to this node alone. Stopped in the middle of a frame, it goes on with it when it goes on.
        progress_ms=None,
    )
    channel.allow_frames_of(MAX_FRAME_BYTES)
    return channel


def _say_the_last(loop: EpollLoop, links: Links) -> None:
    """Let leave what the machine has said last."""
    deadline = loop.time() + LAST_WORDS_S
    while links.closing and loop.time() < deadline:
        loop.run_once(deadline - loop.time())


class _Memory:
    """Keeps what the machine wants to be given back after a restart, and says on the page what cannot be kept."""

    def __init__(
        self, directory: Path, log: LogFile, make_room: Callable[[], bool], page: SharedPage, hosts: HostsFile
    ) -> None:
        self._hosts = hosts
        self._directory = directory
        self._log = log
        self._make_room = make_room
        self._page = page
        self._problems: dict[str, str] = {}

    def keep(self, item: Remember) -> str:
        """Keep a value; return what went wrong with one that must survive a power cut."""
        if item.name == NAMES_NAME:
            self._hosts.show(decode_name_list(item.value).hosts)
            return ""
        if not item.durable:
            state.remember(self._directory, item.name, item.value, self._log, self._make_room)
            return ""
        self._problems.pop(item.name, None)
        try:
            state.remember_durably(self._directory, item.name, item.value, self._make_room)
        except OSError as error:
            self._problems[item.name] = f"{self._directory / item.name}: {error.strerror or error}"
        why = next(iter(self._problems.values()), "")
        self._page.say(f"cannot keep what a head says, and so obeys none: {why}" if why else "")
        return self._problems.get(item.name, "")


def _has_ended(process: int) -> bool:
    # A dying bpinit closes its sockets first; its PID namespace is emptied before it is seen to have ended.
    return bool(select.select([process], [], [], INIT_END_TIMEOUT_S)[0])


def _connect_space(path: Path, loop: EpollLoop, init_pid: int) -> socket.socket:
    deadline = loop.time() + SPACE_TIMEOUT_S
    while True:
        try:
            sock = connect_unix(path)
            uid = peer_credentials(sock)[1]
            if uid in (0, os.geteuid()):
                return sock
            sock.close()
            raise SecurityError(f"{path} is served by uid {uid}, which is neither root nor this agent's user")
        except OSError as error:
            # Waiting for a bpinit that is dead would keep the nodes below on our listening socket.
            if loop.time() > deadline or (init_pid and not _is_running(init_pid)):
                raise HeorotError(
                    f"bpinit does not answer on {path}: {error.strerror or error}; is it running?"
                ) from error
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not select.select([process], [], [], 0)[0]
    finally:
        os.close(process)
