"""bphead, a head: waits until it is the active one, then serves nodes and clients."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from heorot import __version__
from heorot.core.errors import HeorotError
from heorot.core.head import HeadConfig, HeadMachine
from heorot.runtime.clients import Clients
from heorot.runtime.links import JoinSession, Links
from heorot.runtime.log import Log
from heorot.runtime.loop import EpollLoop
from heorot.runtime.shell import Shell
from heorot.runtime.sockets import bind_tcp
from heorot.security import tls
from heorot.security.signing import Signer, Verifier


class Store(Protocol):
    """The coordination port, as a head sees it."""

    def campaign(self, name: str) -> int: ...
    def resign(self) -> None: ...


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """What one head needs.

    `directory` holds the head's identity, `socket_path` is where clients come. `listener` is a bound socket to use in
    place of binding `host` and `port`. `machine` overrides fields of `HeadConfig`.
    """

    directory: Path
    socket_path: Path
    log_path: Path
    cluster: str
    name: str
    host: str
    port: int
    nodes: tuple[int, ...]
    fanout: int = 32
    listener: socket.socket | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    join: Callable[[], JoinSession | None] | None = None
    log_level: str = "info"


def run(settings: HeadSettings, store: Store) -> str:
    """Wait to become the active head, then serve until the machine ends it; return why.

    Raises
    ------
    HeorotError
        If the head cannot start.
    """
    log = Log(settings.log_path, f"bphead {settings.name}", settings.log_level)
    try:
        # Bound but not listening while on standby: nodes that try this head are refused at once and try the next.
        listener = settings.listener or bind_tcp(settings.host, settings.port)
        log("info", "on standby")
        epoch = store.campaign(settings.name)
        log("info", f"the active head, epoch {epoch}")
        return _serve(settings, log, listener, epoch)
    except HeorotError as error:
        log("error", str(error))
        raise
    except SystemExit:
        log("info", "the head ends on standby: stopped")
        raise
    except BaseException:
        log.exception("the head ends because of an error in it")
        raise


def _serve(settings: HeadSettings, log: Log, listener: socket.socket, epoch: int) -> str:
    loop = EpollLoop()
    host, port = listener.getsockname()[:2]
    config = HeadConfig(
        cluster=settings.cluster,
        name=settings.name,
        release=__version__,
        epoch=epoch,
        host=host,
        port=port,
        fanout=settings.fanout,
        nodes=settings.nodes,
        pid=os.getpid(),
        wall_offset_ms=int((time.time() - loop.time()) * 1000),
        **settings.machine,
    )
    signer = Signer.load(settings.directory / "signing.key")
    machine = HeadMachine(config, signer.sign, Verifier.load(settings.directory / "signing.pub").verify)
    shell = Shell(loop, log)
    links = Links(
        loop,
        settings.cluster,
        tls.client_context(settings.directory),
        lambda: tls.server_context(settings.directory, allow_anonymous=settings.join is not None),
        shell.feed,
        log,
        join=settings.join,
    )
    clients = Clients(loop, settings.socket_path, shell.feed, log)
    shell.attach(machine, links, clients=clients)
    shell.start()
    links.listen(listener)
    clients.listen()
    # The stand-alone daemon raises this on SIGTERM; then it ends in order.
    with contextlib.suppress(SystemExit):
        loop.run_forever()
    reason = shell.stopped or "stopped"
    log("info", f"the head ends: {reason}")
    clients.close()
    links.close()
    loop.close()
    return reason


def main() -> int:
    """Run a head on its own, under a service manager."""
    from heorot.daemons.standalone import head_main

    return head_main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
