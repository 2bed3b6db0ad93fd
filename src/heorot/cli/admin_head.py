"""``heorot head``: make a cluster of many machines, on the host of its first head."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from heorot.cli.admin import run
from heorot.config import (
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
    render_head,
)
from heorot.core.errors import HeorotError

CONFIG_MODE = 0o644
CLUSTER_DIRECTORY_MODE = 0o711


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
    arguments = parser.parse_args(argv)
    return run(arguments.command, arguments)


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
    config.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    # Users must get through to head.sock if it is in here; what is private has its own 0700 below.
    directory.chmod(CLUSTER_DIRECTORY_MODE)
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
