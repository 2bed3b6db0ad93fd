"""``heorot node join``, ``list`` and ``remove``: the nodes of a cluster of many machines."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from heorot.cli.admin.shared import (
    CLUSTER,
    JSON_LIST,
    MAX_NUMBER,
    PLACE,
    SOCKET,
    Subcommand,
    configuration,
    heads_directory,
    make_places,
    place,
    run_group,
)
from heorot.cli.arguments import Command, Option, Parsed, UsageError
from heorot.config.files import (
    DEFAULT_HEAD_PATH,
    DEFAULT_HEAD_PORT,
    DEFAULT_NODE_PATH,
    DEFAULT_NODE_PORT,
    DEFAULT_SOCKET,
    Address,
    ConfigError,
    load_head,
    load_node,
    parse_address,
)
from heorot.config.text import render_node
from heorot.core.errors import HeorotError

if TYPE_CHECKING:
    from heorot.security.authority import Identity
    from heorot.security.registry import NodeRecord

CONFIG_MODE = 0o644
TOKEN_VARIABLE = "HEOROT_TOKEN"


def main(argv: list[str]) -> int:
    """Run ``heorot node ARGUMENTS`` (it begins with ``join``, ``list`` or ``remove``), return its exit status."""
    return run_group("node", SUBCOMMANDS, argv)


def _join(parsed: Parsed) -> int:
    from heorot.security.files import make_private_directory, write_atomically
    from heorot.security.join_client import join
    from heorot.security.tokens import Token

    directory = place(parsed)
    config = Path(parsed.get("config") or DEFAULT_NODE_PATH).absolute()
    number = parsed.integer("number", -1, 0, MAX_NUMBER)
    head = parse_address(parsed.operands[0], DEFAULT_HEAD_PORT)
    listen = _listen_address(parsed.values.get("listen"))
    if config.exists() and not parsed.has("force"):
        raise ConfigError(f"this host is a node already: {config} exists; use --force to join anew")
    # All that can fail for a local reason fails before the token is spent.
    make_places(config, directory)
    make_private_directory(directory / "nodes")
    for needed in (config.parent, directory / "nodes"):
        if not os.access(needed, os.W_OK):
            raise HeorotError(f"cannot write into {needed}; joining needs root")
    token = Token.from_text(_token_text(parsed))
    own = _own_head(parsed.values.get("head-config"), token.fingerprint)
    identity, accepted, address = join(head.host, head.port, token, node=number, name=socket.gethostname(), head=own)
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
        # Commands on a head's host need nobody who passes them on.
        socket=parsed.get("socket", DEFAULT_SOCKET if own is None else ""),
    )
    write_atomically(config, text.encode(), mode=CONFIG_MODE, durable=True)
    load_node(config)
    print(f"This host is node n{accepted.node} of cluster {accepted.cluster}.")
    if accepted.head:
        print(f"While its head {accepted.head} leads, node lists know it as master.")
    print(f"Configuration: {config}")
    print("Next:")
    print("  systemctl enable --now heorot-init heorot-node heorot-renew.timer")
    return 0


def _own_head(given: str | None, authority: bytes) -> Identity | None:
    """Return the identity of this host's head, if it has one of the cluster with this authority (SHA-256).

    Raises HeorotError: another one was named, or its files cannot be used.
    """
    import hashlib
    import ssl

    from heorot.config.layout import Layout
    from heorot.security.authority import Identity

    path = Path(given) if given is not None else DEFAULT_HEAD_PATH
    if given is None and not path.exists():
        return None
    config = load_head(path)
    identity = Identity.load(Path(Layout(config.cluster.directory).head(config.head.name)))
    try:
        found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(identity.ca_pem.decode("ascii"))).digest()
    except ValueError:
        found = b""
    if found == authority:
        return identity
    if given is not None:
        raise ConfigError(f"{path} is of a head of another cluster, {config.cluster.id}, than the token")
    return None


def _list(parsed: Parsed) -> int:
    from heorot.security.registry import Registry

    records = Registry(heads_directory(parsed)).nodes().values()
    if parsed.has("json"):
        print(json.dumps([_row(record) for record in records]))
        return 0
    print(f"{'NODE':<7}{'JOINED':<21}{'CERTIFICATE':<13}HOST")
    for record in records:
        joined = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.joined_at_ms / 1000))
        # The host chose this text; a terminal must not obey it.
        host = "".join(c if c.isprintable() else "?" for c in record.host)
        master = f" (host of the head {record.head})" if record.head else ""
        print(f"n{record.number:<6}{joined:<21}{_end(record.certificate_ends_at_ms):<13}{host}{master}")
    return 0


def _row(record: NodeRecord) -> dict[str, object]:
    return {
        "id": record.number,
        "host": record.host,
        "joined_at_ms": record.joined_at_ms,
        "certificate_ends_at_ms": record.certificate_ends_at_ms or None,
        "head": record.head,
    }


def _end(ends_at_ms: int) -> str:
    """Return until when a certificate is valid, in words that fit into a column."""
    if not ends_at_ms:
        return "-"
    return time.strftime("%Y-%m-%d", time.localtime(ends_at_ms / 1000)) if ends_at_ms > time.time() * 1000 else "ended"


def _remove(parsed: Parsed) -> int:
    from heorot.security.registry import Registry
    from heorot.security.tokens import TokenStore

    number = _node_number(parsed.operands[0])
    directory = heads_directory(parsed)
    if not Registry(directory).nodes():
        raise HeorotError(f"no node has joined the cluster in {directory}")
    with TokenStore(directory).lock():
        record = Registry(directory).remove(number, int(time.time() * 1000))
    if record is None:
        raise HeorotError(f"there is no node n{number}; see: heorot node list")
    print(
        f"node n{record.number} ({record.host!a}) is removed: the active head ends its ranks and refuses it from now on"
    )
    return 0


def _node_number(text: str) -> int:
    number = text.removeprefix("n")
    if not number.isascii() or not number.isdigit():
        raise UsageError(f"{text!r} is no node: give its number or name, such as 7 or n7")
    return int(number)


def _listen_address(text: str | None) -> Address:
    """Return where to listen; an empty host means the address from which the head is reached."""
    if text is None:
        return Address("", DEFAULT_NODE_PORT)
    if text.startswith(":"):
        return Address("", parse_address(f"any{text}").port)
    return parse_address(text, DEFAULT_NODE_PORT)


def _token_text(parsed: Parsed) -> str:
    file = parsed.values.get("token-file")
    if parsed.has("token") and file is not None:
        raise HeorotError("give --token or --token-file, not both")
    if parsed.has("token"):
        return parsed.get("token")
    if file is not None:
        return sys.stdin.readline(1024) if file == "-" else Path(file).read_text(errors="replace")[:1024]
    if TOKEN_VARIABLE in os.environ:
        # Not for any child of ours.
        return os.environ.pop(TOKEN_VARIABLE)
    token = getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline(1024)
    if not token.strip():
        raise HeorotError(f"no token: give one with --token-file, {TOKEN_VARIABLE} or standard input")
    return token


SUBCOMMANDS = {
    "join": Subcommand(
        Command(
            "heorot node join",
            "[OPTION]... HEAD[:PORT]",
            "Make this host a node: get a number and a certificate from a head, and write a configuration. The\n"
            "private key is made here and stays here. Without --token and --token-file, the token is taken from\n"
            f"{TOKEN_VARIABLE} or asked for: other users of this host can read arguments, but neither of these.\n"
            f"HEAD is any head of the cluster (default port: {DEFAULT_HEAD_PORT}). The host of a head may be a node,\n"
            "too: it proves what it is with the head's key, and node lists know it as master while that head leads.",
            [
                Option("--token", "the token that `heorot token create` printed", "TOKEN"),
                Option("--token-file", "read the token from a file; - is standard input", "PATH"),
                Option("--number", "the number to ask for (default: the next free one)", "N"),
                Option(
                    "--listen",
                    "where other nodes reach this one (default: the address from which it reaches the head, port"
                    f" {DEFAULT_NODE_PORT})",
                    "[HOST]:PORT",
                ),
                PLACE,
                SOCKET,
                configuration("to write", DEFAULT_NODE_PATH),
                Option(
                    "--head-config", f"the configuration of this host's own head (default: {DEFAULT_HEAD_PATH})", "PATH"
                ),
                Option("--force", "replace a configuration that exists"),
            ],
        ),
        _join,
        ("HEAD",),
    ),
    "list": Subcommand(
        Command(
            "heorot node list",
            "[OPTION]...",
            "List the nodes that have joined, on the host of any head.",
            [CLUSTER, JSON_LIST],
        ),
        _list,
    ),
    "remove": Subcommand(
        Command(
            "heorot node remove",
            "[OPTION]... NODE",
            "Take a node out of the cluster, 7 or n7, on the host of any head, at once: its ranks end as lost, its\n"
            "link is closed, and heads and nodes refuse it from then on, for good: it can join again under another\n"
            "certificate only. Its number is given anew when no other one is left, or by a token that was made for it.",
            [CLUSTER],
        ),
        _remove,
        ("NODE",),
    ),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
