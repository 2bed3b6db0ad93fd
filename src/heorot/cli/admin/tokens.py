"""``heorot token``: make, list and revoke join tokens, on the host of the cluster's authority."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from heorot.cli.admin.shared import add_directory, duration_ms, heads_directory, plural, run_reporting
from heorot.core.errors import HeorotError

if TYPE_CHECKING:
    from heorot.security.tokens import TokenRecord


def main(argv: list[str]) -> int:
    """Run ``heorot token ARGUMENTS`` and return its exit status."""
    parser = argparse.ArgumentParser(prog="heorot token", description="Tokens with which hosts join the cluster.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    create = commands.add_parser(
        "create",
        help="make a token and print it",
        description="Make a join token and print it alone on standard output. It is a secret: it is shown only once.",
    )
    add_directory(create)
    create.add_argument(
        "--ttl",
        type=duration_ms,
        default="1h",
        metavar="DURATION",
        help="how long it can be used: 30s, 15m, 1h, 2d (default: 1h)",
    )
    create.add_argument("--uses", type=int, default=1, metavar="N", help="how many hosts may join with it (default: 1)")
    create.add_argument(
        "--node",
        type=int,
        default=-1,
        metavar="N",
        help="give this number, even if a node has it, which is replaced then",
    )
    create.add_argument(
        "--json", action="store_true", help="print an object: token, id, uses_left, expires_at_ms, node"
    )
    create.set_defaults(command=_create)
    listing = commands.add_parser("list", help="list the tokens, without their secrets")
    add_directory(listing)
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    listing.set_defaults(command=_list)
    revoke = commands.add_parser("revoke", help="make a token useless at once")
    add_directory(revoke)
    revoke.add_argument("id", help="the id that `heorot token list` shows")
    revoke.set_defaults(command=_revoke)
    arguments = parser.parse_args(argv)
    return run_reporting(arguments.command, arguments)


def _create(arguments: argparse.Namespace) -> int:
    from heorot.security.authority import Authority, check_node_number
    from heorot.security.tokens import TokenStore

    directory = heads_directory(arguments.dir)
    authority = Authority.load(directory / "ca")
    if arguments.node != -1:
        check_node_number(arguments.node)
    token, record = TokenStore(directory).create(
        authority.fingerprint, _now_ms(), ttl_ms=arguments.ttl, uses=arguments.uses, node=arguments.node
    )
    if arguments.json:
        print(json.dumps({"token": token.to_text(), **_row(record)}))
        return 0
    print(token.to_text())
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.expires_at_ms / 1000))
    which = f" as node {record.node}" if record.node >= 0 else ""
    print(f"token {record.id}: {plural(record.uses_left, 'host')} may join{which} until {until}", file=sys.stderr)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from heorot.security.tokens import TokenStore

    now_ms = _now_ms()
    records = TokenStore(heads_directory(arguments.dir)).list()
    if arguments.json:
        print(json.dumps([_row(record) for record in records]))
        return 0
    print(f"{'ID':<16}  {'USES':>5}  {'NODE':>5}  EXPIRES")
    for record in records:
        node = str(record.node) if record.node >= 0 else "any"
        left_s = (record.expires_at_ms - now_ms) // 1000
        state = f"in {left_s // 3600}:{left_s // 60 % 60:02}:{left_s % 60:02}" if left_s >= 0 else "expired"
        print(f"{record.id:<16}  {record.uses_left:>5}  {node:>5}  {state if record.uses_left else 'used up'}")
    return 0


def _row(record: TokenRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "uses_left": record.uses_left,
        "expires_at_ms": record.expires_at_ms,
        "node": record.node,
    }


def _revoke(arguments: argparse.Namespace) -> int:
    from heorot.security.tokens import TokenStore

    if not TokenStore(heads_directory(arguments.dir)).revoke(arguments.id):
        raise HeorotError(f"there is no token {arguments.id!r}; see: heorot token list")
    return 0


def _now_ms() -> int:
    return int(time.time() * 1000)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
