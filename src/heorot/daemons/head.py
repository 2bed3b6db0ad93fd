"""bphead, a head: its keeper waits until it is the active one, and then its process serves nodes and clients."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from heorot import __version__
from heorot.coord.port import Store
from heorot.core.errors import HeorotError
from heorot.core.head.machine import HeadConfig, HeadMachine
from heorot.core.keeper.election import Term
from heorot.core.machine import HeadsKnown
from heorot.core.wire.events import ClusterEvent
from heorot.core.wire.heads import HeadAddress
from heorot.daemons.group_files import GroupFiles
from heorot.daemons.health import HealthChecks, HealthSettings
from heorot.daemons.hooks import Hooks, HookSettings
from heorot.daemons.keeper import STATE_NAME, Keeper
from heorot.daemons.keeper_control import SOCKET_NAME
from heorot.daemons.kept_wishes import KeptWishes
from heorot.daemons.listed_heads import ListedHeads
from heorot.daemons.node_up import NO_NODE_UP, NodeUps, NodeUpSettings
from heorot.daemons.registered_nodes import RegisteredNodes
from heorot.daemons.single import hold
from heorot.daemons.watchdog import say_alive
from heorot.images.cache import DEFAULT_LIMIT_BYTES, Cache
from heorot.images.reclaim import Reclaimer
from heorot.linux.keyring import leave_session_keyring
from heorot.linux.process import fork_daemon
from heorot.linux.slot_file import with_room
from heorot.runtime import state
from heorot.runtime.callers import MAX_CLIENT_BYTES, MAX_CLIENTS, ClientQuotas
from heorot.runtime.clients import Clients
from heorot.runtime.images import Images
from heorot.runtime.links import JoinConversation, Links
from heorot.runtime.log import LogFile
from heorot.runtime.loop import EpollLoop
from heorot.runtime.passing import Passing
from heorot.runtime.shared_page import SharedPage
from heorot.runtime.shell import HeadDaemonShell
from heorot.runtime.sockets import bind_tcp, connect_unix
from heorot.runtime.standby_port import StandbyPort
from heorot.security import tls
from heorot.security.events import EventFile
from heorot.security.head_identity import check_head_identity
from heorot.security.head_registry import HeadRegistry
from heorot.security.registry import Registry
from heorot.security.signing import Signer, Verifier
from heorot.security.wishes import WishFile


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """What one head needs. `directory` holds its identity, `socket_path` is where clients come. `listener` is a bound
    socket to use in place of binding `host` and `port`. `machine` overrides fields of `HeadConfig`.
    """

    directory: Path
    socket_path: Path
    log_path: Path
    cluster: str
    name: str
    host: str
    port: int
    nodes: Callable[[], tuple[int, ...]]
    """The nodes that are known when this head is elected."""
    fanout: int = 32
    listener: socket.socket | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    join: Callable[[str], JoinConversation | None] | None = None
    registry: Registry | None = None
    """Says which nodes have joined and which were removed, from then on; None: that never changes."""
    wishes: WishFile | None = None
    """What is wanted of nodes, in the cluster's directory; None: nothing of it outlives a head."""
    asks_keeper: bool = False
    """Heads on other hosts learn of it through the store: the keeper brings it there."""
    node_up: NodeUpSettings | None = None
    """The site's script for nodes that come; None: it has none, and they are up at once."""
    hook: HookSettings | None = None
    """The site's program that is told what nodes are shown as; None: it has none."""
    health: HealthSettings | None = None
    """The site's check of nodes; None: it has none."""
    hang_ms: int = 10_000
    """The keeper ends a head whose event loop gives no sign of life for so long."""
    log_level: str = "info"
    log_in_json: bool = False
    image_cache_bytes: int = DEFAULT_LIMIT_BYTES
    shared_content: str = ""
    """Where the caches of this host share what they have; empty: nowhere."""
    heads: HeadRegistry | None = None
    """Which heads the cluster is to have, and where; None: that never changes."""
    configuration: Path | None = None
    """Beside this file are the groups of nodes, in it some more; None: they never change."""
    passes_on: bool = False
    """Pass this host's clients on while on standby, to one of `heads`; not where another head on this host may listen
    on `socket_path`."""
    page: SharedPage | None = None
    """Where the process that has forked this one reads how it is."""


def run_head(
    settings: HeadSettings,
    open_store: Callable[[Callable[[], bool]], Store],
    read_again: Callable[[], tuple[HeadSettings, tuple[str, ...]]] | None = None,
) -> None:
    """Keep this head: whenever the store elects it, run its process. Returns after SIGTERM. `open_store` gives the
    store, and is given what to ask for room. `read_again` returns the settings as they are now, and what has changed.

    Raises
    ------
    HeorotError
        If the keeper cannot start.
    """
    log = LogFile.of_service(settings.log_path, f"bphead {settings.name}", settings.log_level, settings.log_in_json)
    leave_session_keyring(log)
    try:
        check_head_identity(settings.directory, settings.cluster, settings.name)
        # A second keeper would take the first one's socket and its clients. What it forks has the lock, too: when a
        # keeper is killed, the next one waits until they have ended, and the port is free.
        lock = hold(settings.directory, "keeper", f"the head {settings.name}")
        start = _Starter(settings, log, lock)
        start_passing = _passing_starter(start, log, lock) if settings.passes_on else None
        make_room = _reclaimer(settings, log)
        store = open_store(make_room)
        name, directory, hang_ms = settings.name, settings.directory, settings.hang_ms
        listed = ListedHeads(settings.heads, log) if settings.heads is not None else None
        publish = settings.page.write if settings.page is not None else None
        read_settings = partial(start.change_settings, read_again) if read_again is not None else tuple
        Keeper(
            name, directory, store, start, log, start_passing, hang_ms, make_room, listed, publish, start.last_words,
            read_settings,
        ).run()  # fmt: skip
        _remove_left(settings.socket_path)
        log("info", "the keeper ends: stopped")
    except HeorotError as error:
        log("error", str(error))
        _say(settings.page, str(error))
        raise
    except BaseException as error:
        log.exception("the keeper ends because of an error in it")
        _say(settings.page, f"the keeper ends because of an error in it: {type(error).__name__}: {error}")
        raise


def _say(page: SharedPage | None, problem: str) -> None:
    if page is not None:
        page.say(problem)


def _reclaimer(settings: HeadSettings, log: LogFile) -> Reclaimer:
    # Of the whole cluster's directory, in which this is ``heads/NAME``.
    return Reclaimer(settings.directory.parent.parent, log)


def _remove_left(path: Path) -> None:
    """Remove the clients' socket, which a head leaves for what passes clients on, unless somebody serves it."""
    try:
        connect_unix(path).close()
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # gone, or full: somebody serves it


class _Starter:
    """Starts the head's process. The keeper must not hold the listening socket: it would outlive the process."""

    def __init__(self, settings: HeadSettings, log: LogFile, lock: int) -> None:
        self.settings = settings
        self._log = log
        self._lock = lock
        # Bound but not listening while on standby: nodes that try this head are refused at once and try the next. Where
        # other hosts have heads, `heorot.runtime.standby_port` listens here meanwhile, and refuses them as quickly.
        self._listener: socket.socket | None = settings.listener or bind_tcp(settings.host, settings.port)
        self._address = self._listener.getsockname()[:2]
        self._page = SharedPage()

    def __call__(self, term: Term, news: int, pulse: int) -> int:
        # It may have expired since; then another head shall lead.
        check_head_identity(self.settings.directory, self.settings.cluster, self.settings.name)
        listener, self._listener = self._listener, None
        self._page.say("")
        with listener or bind_tcp(*self._address) as listener:
            keep = {listener.fileno(), news, pulse, term.lock, self._lock} - {-1}
            return fork_daemon(
                f"bphead {self.settings.name}",
                keep,
                lambda: _head(self.settings, self._log, listener, term, news, pulse, self._page),
            )

    def last_words(self) -> str:
        """Return why the process that was started last has ended, if it has said so."""
        return self._page.problem

    def change_settings(self, read_again: Callable[[], tuple[HeadSettings, tuple[str, ...]]]) -> tuple[str, ...]:
        """Let the next process begin with settings as they are now; return what has changed. Raises HeorotError."""
        self.settings, changed = read_again()
        return changed


def _head(
    settings: HeadSettings, log: LogFile, listener: socket.socket, term: Term, news: int, pulse: int, page: SharedPage
) -> None:
    """The head's process. It says on `page` why it ends."""
    log.forget()
    log.epoch = term.epoch
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        log("info", f"the active head, epoch {term.epoch}")
        _serve(settings, log, listener, term, news, pulse)
    except HeorotError as error:
        log("error", str(error))
        page.say(str(error))
        sys.exit(1)
    except SystemExit:
        raise
    except BaseException as error:
        log.exception("the head ends because of an error in it")
        page.say(f"an error in it: {type(error).__name__}: {error}")
        raise


def _serve(settings: HeadSettings, log: LogFile, listener: socket.socket, term: Term, news: int, pulse: int) -> str:
    loop = EpollLoop()
    say_alive(loop, pulse)
    host, port = listener.getsockname()[:2]
    config = HeadConfig(
        cluster=settings.cluster,
        name=settings.name,
        release=__version__,
        epoch=term.epoch,
        host=host,
        port=port,
        fanout=settings.fanout,
        nodes=settings.nodes(),
        wishes=tuple(settings.wishes.content().values()) if settings.wishes is not None else (),
        node_up=settings.node_up is not None,
        hook=settings.hook is not None,
        events=_events(settings, log),
        pid=os.getpid(),
        owner=os.geteuid(),
        wall_offset_ms=int((time.time() - loop.time()) * 1000),
        **settings.machine,
    )
    signer = Signer.load(settings.directory / "signing.key")
    machine = HeadMachine(config, signer.sign, Verifier.load(settings.directory / "signing.pub").verify)
    shell = HeadDaemonShell(loop, log)
    quotas = ClientQuotas(config.owner, config.max_clients, config.max_client_bytes)
    clients = Clients(loop, settings.socket_path, shell.feed, log, settings.name, term.epoch, settings.cluster, quotas)
    links = Links(
        loop,
        settings.cluster,
        tls.client_context(settings.directory),
        lambda: tls.server_context(settings.directory, allow_anonymous=settings.join is not None, takes_clients=True),
        shell.feed,
        log,
        join=settings.join,
        take_head=clients.passed_on,
    )
    owner, make_room = f"the head {settings.name}", _reclaimer(settings, log)
    images_at, limit_bytes = str(settings.directory / "images"), settings.image_cache_bytes
    cache = Cache(images_at, limit_bytes, owner, log, make_room, settings.shared_content)
    images = Images(loop, cache, shell.feed, log)
    wishes = _kept_wishes(settings, loop, shell)
    scripts = NodeUps(loop, settings.node_up or NO_NODE_UP, shell.feed)
    hooks = Hooks(loop, settings.hook, log)
    shell.attach(machine, links, clients, images, wishes.keep, scripts.prepare, wishes.keep_events, hooks.tell)
    shell.start()
    registered: RegisteredNodes | None = None
    if settings.registry is not None:
        registered = RegisteredNodes(loop, settings.registry, shell.feed, log)
    groups = GroupFiles(loop, settings.configuration, shell.feed, log) if settings.configuration is not None else None
    images.begin()
    links.listen(listener)
    with_room(clients.listen, make_room)
    checks = HealthChecks(loop, settings.health, shell.feed, log)
    loop.add_reader(news, _News(loop, news, shell).read)
    # SIGTERM raises this; then the head ends in order.
    with contextlib.suppress(SystemExit):
        loop.run_forever()
    reason = shell.stopped or "stopped"
    log("info", f"the head ends: {reason}")
    # What passes clients on comes next.
    clients.close(leave_path=settings.passes_on)
    links.close()
    images.end()
    for watching in (registered, groups):
        if watching is not None:
            watching.close()
    wishes.close()
    scripts.close()
    hooks.close()
    checks.close()
    loop.close()
    return reason


def _events(settings: HeadSettings, log: LogFile) -> tuple[ClusterEvent, ...]:
    """Return what earlier heads have told. A list that is damaged is no reason not to lead."""
    if settings.wishes is None:
        return ()
    try:
        return tuple(EventFile(settings.wishes.path.parent).content().values())
    except HeorotError as error:
        log("error", str(error))
        return ()


def _kept_wishes(settings: HeadSettings, loop: EpollLoop, shell: HeadDaemonShell) -> KeptWishes:
    directory = settings.wishes.path.parent if settings.wishes is not None else None
    return KeptWishes(loop, directory, settings.directory / SOCKET_NAME if settings.asks_keeper else None, shell.feed)


def _passing_starter(start: _Starter, log: LogFile, lock: int) -> Callable[[str], int]:
    name = f"bphead-pass {start.settings.name}"
    return lambda leader: fork_daemon(name, {lock}, lambda: _pass_on(start.settings, log, leader))


def _pass_on(settings: HeadSettings, log: LogFile, leader: str) -> None:
    """The process that serves this host's clients while its head is on standby."""
    log.forget()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        loop = EpollLoop()
        context = tls.client_context(settings.directory)
        limits = settings.machine
        quotas = ClientQuotas(
            os.geteuid(),
            limits.get("max_clients", MAX_CLIENTS),
            limits.get("max_client_bytes", MAX_CLIENT_BYTES),
        )
        assert settings.heads is not None
        heads = ListedHeads(settings.heads, log)
        passing = Passing(loop, settings.socket_path, settings.cluster, heads.addresses, leader, context, log, quotas)
        passing.listen()
        port = StandbyPort(loop, (settings.host, settings.port), lambda: _active_address(settings, heads), log)
        log("info", f"passing clients of this host on to {leader or 'the active head'}")
        with contextlib.suppress(SystemExit):
            loop.run_forever()
        passing.close()
        port.close()
        loop.close()
    except HeorotError as error:
        log("error", f"cannot pass clients on: {error}")
        sys.exit(1)
    except SystemExit:
        raise
    except BaseException:
        log.exception("passing clients on ends because of an error in it")
        raise


def _active_address(settings: HeadSettings, heads: ListedHeads) -> tuple[str, int] | None:
    """Return where the active head is, as this head's keeper has seen last; None: nobody knows, or it is this one."""
    with contextlib.suppress(ValueError):
        leader = json.loads(state.recall(settings.directory, STATE_NAME) or b"{}").get("leader", "")
        return heads.address_of(leader) if leader != settings.name else None
    return None


class _News:
    """What the keeper says: a line of JSON each time something has changed."""

    def __init__(self, loop: EpollLoop, fd: int, shell: HeadDaemonShell) -> None:
        self._loop = loop
        self._fd = fd
        self._shell = shell
        self._buffer = b""

    def read(self) -> None:
        """Read what there is."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._fd)
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            news = json.loads(line)
            heads = tuple((head["name"], head["role"]) for head in news["heads"])
            store = news["store"]
            lease = news["lease_until_ms"]
            listed = tuple(HeadAddress(*head) for head in news["listed"])
            self._shell.feed(
                HeadsKnown(heads, store["kind"], store["reachable"], store["since_ms"], lease, store["problem"], listed)
            )
