"""``heorot node join``, ``list`` and ``remove``: the nodes of a cluster of many machines."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import socket
import sys
import time
from pathlib import Path

from heorot.cli.admin.shared import add_directory, heads_directory, make_places, run_reporting
from heorot.config.files import (
    DEFAULT_DIRECTORY,
    DEFAULT_HEAD_PORT,
    DEFAULT_NODE_PATH,
    DEFAULT_NODE_PORT,
    Address,
    ConfigError,
    load_node,
    parse_address,
)
from heorot.config.text import render_node
from heorot.core.errors import HeorotError

CONFIG_MODE = 0o644
TOKEN_VARIABLE = "HEOROT_TOKEN"


def main(argv: list[str]) -> int:
    """Run ``heorot node ARGUMENTS`` (it begins with ``join``, ``list`` or ``remove``), return its exit status."""
    parser = argparse.ArgumentParser(prog="heorot node", description="The nodes of a cluster of many machines.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    join = commands.add_parser(
        "join",
        help="make this host a node of a cluster",
        description="Make this host a node: get a number and a certificate from a head, and write a configuration. The "
        "private key is made here and stays here. Without --token and --token-file, the token is taken from "
        f"${TOKEN_VARIABLE} or asked for: other users of this host can read arguments, but neither of these.",
    )
    join.add_argument(
        "head", metavar="HEAD[:PORT]", help=f"any head of the cluster (default port: {DEFAULT_HEAD_PORT})"
    )
    join.add_argument("--token", help="the token that `heorot token create` printed")
    join.add_argument("--token-file", type=Path, metavar="PATH", help="read the token from a file; - is standard input")
    join.add_argument(
        "--number", type=int, default=-1, metavar="N", help="the number to ask for (default: the next free one)"
    )
    join.add_argument(
        "--listen",
        metavar="[HOST]:PORT",
        help="where other nodes reach this one (default: the address from which it reaches the head, "
        f"port {DEFAULT_NODE_PORT})",
    )
    join.add_argument(
        "--dir",
        type=Path,
        default=Path(os.environ.get("HEOROT_DIR") or DEFAULT_DIRECTORY),
        metavar="DIR",
        help=f"where keys and state go (default: $HEOROT_DIR, else {DEFAULT_DIRECTORY})",
    )
    join.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_NODE_PATH,
        metavar="PATH",
        help=f"the configuration to write (default: {DEFAULT_NODE_PATH})",
    )
    join.add_argument("--force", action="store_true", help="replace a configuration that exists")
    join.set_defaults(command=_join)
    listing = commands.add_parser("list", help="list the nodes that have joined, on the host of any head")
    add_directory(listing)
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    listing.set_defaults(command=_list)
    remove = commands.add_parser(
        "remove",
        help="take a node out of the cluster, on the host of any head",
        description="Take a node out of the cluster, at once: its ranks end as lost, its link is closed, and heads and "
        "nodes refuse it from then on, for good: it can join again under another certificate only. Its number is given "
        "anew when no other one is left, or by a token that was made for it.",
    )
    add_directory(remove)
    remove.add_argument("number", type=_node_number, metavar="NODE", help="its number or name: 7 or n7")
    remove.set_defaults(command=_remove)
    arguments = parser.parse_args(argv)
    return run_reporting(arguments.command, arguments)


def _join(arguments: argparse.Namespace) -> int:
    from heorot.security.files import make_private_directory, write_atomically
    from heorot.security.join_client import join
    from heorot.security.tokens import Token

    directory: Path = arguments.dir.absolute()
    config: Path = arguments.config.absolute()
    head = parse_address(arguments.head, DEFAULT_HEAD_PORT)
    listen = _listen_address(arguments.listen)
    if config.exists() and not arguments.force:
        raise ConfigError(f"this host is a node already: {config} exists; use --force to join anew")
    # All that can fail for a local reason fails before the token is spent.
    make_places(config, directory)
    make_private_directory(directory / "nodes")
    for place in (config.parent, directory / "nodes"):
        if not os.access(place, os.W_OK):
            raise HeorotError(f"cannot write into {place}; joining needs root")
    token = Token.from_text(_token_text(arguments))
    identity, accepted, address = join(head.host, head.port, token, node=arguments.number, name=socket.gethostname())
    home = directory / "nodes" / f"n{accepted.node}"
    identity.write(home, durable=True)
    # A place that this host had under its former certificate is none for this one.
    (home / "state" / "placement").unlink(missing_ok=True)
    # The head that just answered comes first: it is known to be reachable under this name.
    heads = list(dict.fromkeys([head, *(parse_address(text, DEFAULT_HEAD_PORT) for text in accepted.heads)]))
    text = render_node(
        cluster=accepted.cluster,
        directory=str(directory),
        number=accepted.node,
        listen=Address(listen.host or address, listen.port),
        heads=heads,
        capacity=accepted.capacity,
    )
    write_atomically(config, text.encode(), mode=CONFIG_MODE, durable=True)
    load_node(config)
    print(f"This host is node n{accepted.node} of cluster {accepted.cluster}.")
    print(f"Configuration: {config}")
    print("Next:")
    print("  systemctl enable --now heorot-init heorot-node")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from heorot.security.registry import Registry

    records = Registry(heads_directory(arguments.dir)).nodes().values()
    if arguments.json:
        print(json.dumps([{"id": r.number, "host": r.host, "joined_at_ms": r.joined_at_ms} for r in records]))
        return 0
    print(f"{'NODE':<7}{'JOINED':<21}HOST")
    for record in records:
        joined = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.joined_at_ms / 1000))
        # The host chose this text; a terminal must not obey it.
        host = "".join(c if c.isprintable() else "?" for c in record.host)
        print(f"n{record.number:<6}{joined:<21}{host}")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from heorot.security.registry import Registry
    from heorot.security.tokens import TokenStore

    directory = heads_directory(arguments.dir)
    if not Registry(directory).nodes():
        raise HeorotError(f"no node has joined the cluster in {directory}")
    with TokenStore(directory).lock():
        record = Registry(directory).remove(arguments.number, int(time.time() * 1000))
    if record is None:
        raise HeorotError(f"there is no node n{arguments.number}; see: heorot node list")
    print(
        f"node n{record.number} ({record.host!a}) is removed: the active head ends its ranks and refuses it from now on"
    )
    return 0


def _node_number(text: str) -> int:
    number = text.removeprefix("n")
    if not number.isascii() or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no node: give its number or name, such as 7 or n7")
    return int(number)


def _listen_address(text: str | None) -> Address:
    """Return where to listen; an empty host means the address from which the head is reached."""
    if text is None:
        return Address("", DEFAULT_NODE_PORT)
    if text.startswith(":"):
        return Address("", parse_address(f"any{text}").port)
    return parse_address(text, DEFAULT_NODE_PORT)


def _token_text(arguments: argparse.Namespace) -> str:
    if arguments.token is not None and arguments.token_file is not None:
        raise HeorotError("give --token or --token-file, not both")
    if arguments.token is not None:
        return str(arguments.token)
    if arguments.token_file is not None:
        if str(arguments.token_file) == "-":
            return sys.stdin.readline(1024)
        return str(arguments.token_file.read_text(errors="replace")[:1024])
    if TOKEN_VARIABLE in os.environ:
        # Not for any child of ours.
        return os.environ.pop(TOKEN_VARIABLE)
    token = getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline(1024)
    if not token.strip():
        raise HeorotError(f"no token: give one with --token-file, {TOKEN_VARIABLE} or standard input")
    return token


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
