"""``heorot head``: make a cluster of many machines, on the host of its first head; hand over to another head."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from heorot.cli.admin.shared import add_directory, heads_directory, make_places, run_reporting
from heorot.config.files import (
    DEFAULT_CAPACITY,
    DEFAULT_DIRECTORY,
    DEFAULT_HEAD_PATH,
    DEFAULT_HEAD_PORT,
    DEFAULT_SOCKET,
    MAX_CAPACITY,
    Address,
    ConfigError,
    load_head,
    parse_address,
)
from heorot.config.text import render_head
from heorot.core.errors import HeorotError
from heorot.embedded import control

CONFIG_MODE = 0o644
SWITCH_TIMEOUT_S = 10.0
SWITCH_POLL_S = 0.005


def main(argv: list[str]) -> int:
    """Run ``heorot head ARGUMENTS`` and return its exit status."""
    parser = argparse.ArgumentParser(prog="heorot head", description="Set up the heads of a cluster of many machines.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    init = commands.add_parser(
        "init",
        help="make a new cluster with its first head on this host",
        description="Make a new cluster: its certificate authority, its first head's identity, and a configuration.",
    )
    init.add_argument(
        "--dir",
        type=Path,
        default=Path(os.environ.get("HEOROT_DIR") or DEFAULT_DIRECTORY),
        metavar="DIR",
        help=f"where keys and state go (default: $HEOROT_DIR, else {DEFAULT_DIRECTORY})",
    )
    init.add_argument("--name", default="h0", help="the head's name (default: h0)")
    init.add_argument(
        "--listen",
        default=f"0.0.0.0:{DEFAULT_HEAD_PORT}",
        metavar="HOST:PORT",
        help=f"where to accept nodes (default: 0.0.0.0:{DEFAULT_HEAD_PORT})",
    )
    init.add_argument(
        "--address",
        action="append",
        metavar="HOST[:PORT]",
        help="how nodes reach a head; repeat it for several heads (default: the address of this host)",
    )
    init.add_argument(
        "--capacity",
        type=int,
        default=DEFAULT_CAPACITY,
        metavar="N",
        help=f"how many nodes there may be; the PIDs of Linux are divided among them (default: {DEFAULT_CAPACITY})",
    )
    init.add_argument("--cluster", metavar="ID", help="the cluster's id (default: 16 random hex digits)")
    init.add_argument("--socket", default=DEFAULT_SOCKET, help=f"where commands connect to (default: {DEFAULT_SOCKET})")
    init.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_HEAD_PATH,
        metavar="PATH",
        help=f"the configuration to write (default: {DEFAULT_HEAD_PATH})",
    )
    init.set_defaults(command=_init)
    switch = commands.add_parser(
        "switch",
        help="hand over from the active head, which runs on this host, to a standby head",
        description="Hand over on purpose, to the standby head NAME or to any. Running jobs do not notice.",
    )
    add_directory(switch)
    switch.add_argument("name", metavar="NAME", nargs="?", default="", help="the head that shall be the active one")
    switch.set_defaults(command=_switch)
    arguments = parser.parse_args(argv)
    return run_reporting(arguments.command, arguments)


def _init(arguments: argparse.Namespace) -> int:
    from heorot.security.authority import Authority, check_head_name

    directory: Path = arguments.dir.absolute()
    config: Path = arguments.config.absolute()
    listen = parse_address(arguments.listen, DEFAULT_HEAD_PORT)
    check_head_name(arguments.name)
    if not 1 <= arguments.capacity <= MAX_CAPACITY:
        raise ConfigError(f"--capacity {arguments.capacity} is out of range: use 1 to {MAX_CAPACITY}")
    addresses = [parse_address(text, listen.port) for text in arguments.address or []] or [_own_address(listen)]
    if config.exists():
        raise ConfigError(f"{config} exists already; remove it, or name another with --config")
    make_places(config, directory)
    authority = Authority.create(directory / "ca", arguments.cluster)
    authority.issue_head(arguments.name).write(directory / "heads" / arguments.name, durable=True)
    _write_config(
        config,
        render_head(
            cluster=authority.cluster,
            directory=str(directory),
            name=arguments.name,
            listen=listen,
            addresses=addresses,
            socket=arguments.socket,
            capacity=arguments.capacity,
        ),
    )
    load_head(config)
    print(f"Cluster {authority.cluster} is made. Keep a safe copy of its authority, {directory / 'ca'}.")
    print(f"Configuration: {config}")
    print("Next:")
    print("  systemctl enable --now heorot-head")
    join = f"heorot node join {addresses[0]}"
    print(f"  {'heorot token create --uses 16':<{len(join)}}   # here")
    print(f"  {join:<29}   # on each node; asks for the token")
    return 0


def _switch(arguments: argparse.Namespace) -> int:
    began_s = time.monotonic()
    directory = heads_directory(arguments.dir)
    keepers = _keepers(directory)
    active = [name for name, status in keepers.items() if status["role"] == "active"]
    if not active:
        others = [head["name"] for head in next(iter(keepers.values()))["heads"] if head["role"] == "active"]
        where = f"the active head is {others[0]}: run this command on its host" if others else "no head is active now"
        raise HeorotError(f"no head on this host is active; {where}")
    answer = control.ask_keeper(str(directory / "heads" / active[0]), {"do": "switch", "name": arguments.name})
    while time.monotonic() < began_s + SWITCH_TIMEOUT_S:
        for status in _keepers(directory).values():
            now = [head["name"] for head in status["heads"] if head["role"] == "active"]
            if now and status["epoch"] > answer["epoch"]:
                print(f"{now[0]} is the active head, epoch {status['epoch']}, {_since(began_s)}")
                return 0 if now[0] == answer["to"] else 1
        time.sleep(SWITCH_POLL_S)
    raise HeorotError(f"{answer['to']} was asked to take over, and no head is active after {SWITCH_TIMEOUT_S:g} s")


def _since(began_s: float) -> str:
    return f"after {(time.monotonic() - began_s) * 1000:.0f} ms"


def _keepers(directory: Path) -> dict[str, dict[str, Any]]:
    """Return what the keepers of this host's heads say. Raises HeorotError if there is none."""
    found: dict[str, dict[str, Any]] = {}
    try:
        names = sorted(os.listdir(directory / "heads"))
    except FileNotFoundError:
        names = []
    for name in names:
        with contextlib.suppress(control.NoKeeper):
            found[name] = control.ask_keeper(str(directory / "heads" / name), {"do": "status"})
    if not found:
        raise HeorotError(f"no head of the cluster in {directory} runs on this host")
    return found


def _write_config(path: Path, text: str) -> None:
    from heorot.security.files import write_atomically

    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise HeorotError("a path or name is not valid UTF-8 and cannot be written into a configuration") from None
    write_atomically(path, data, mode=CONFIG_MODE, durable=True)


def _own_address(listen: Address) -> Address:
    """Return how others probably reach this host."""
    if listen.host not in ("0.0.0.0", "::"):
        return listen
    # Connecting a datagram socket sends nothing; the kernel says which of our addresses it would use.
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                return Address(str(probe.getsockname()[0]), listen.port)
        except OSError:
            continue
    raise ConfigError("this host has no route from which to tell its address; say it with --address HOST")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
