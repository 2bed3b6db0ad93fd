"""``heorot token``: make, list and revoke join tokens, on the host of the cluster's authority."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from heorot.cli.admin.shared import (
    CLUSTER,
    JSON_LIST,
    MAX_NUMBER,
    Subcommand,
    duration_ms,
    heads_directory,
    plural,
    run_group,
)
from heorot.cli.arguments import Command, Option, Parsed
from heorot.core.errors import HeorotError

if TYPE_CHECKING:
    from heorot.security.tokens import TokenRecord


def main(argv: list[str]) -> int:
    """Run ``heorot token ARGUMENTS`` and return its exit status."""
    return run_group("token", SUBCOMMANDS, argv)


def _create(parsed: Parsed) -> int:
    from heorot.security.authority import Authority, check_node_number
    from heorot.security.tokens import TokenStore

    ttl_ms = duration_ms(parsed.get("ttl", "1h"))
    uses = parsed.integer("uses", 1, 0, MAX_NUMBER)
    number = parsed.integer("node", -1, 0, MAX_NUMBER)
    directory = heads_directory(parsed)
    authority = Authority.load(directory / "ca")
    if number != -1:
        check_node_number(number)
    token, record = TokenStore(directory).create(
        authority.fingerprint, _now_ms(), ttl_ms=ttl_ms, uses=uses, node=number
    )
    if parsed.has("json"):
        print(json.dumps({"token": token.to_text(), **_row(record)}))
        return 0
    print(token.to_text())
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.expires_at_ms / 1000))
    which = f" as node {record.node}" if record.node >= 0 else ""
    print(f"token {record.id}: {plural(record.uses_left, 'host')} may join{which} until {until}", file=sys.stderr)
    return 0


def _list(parsed: Parsed) -> int:
    from heorot.security.tokens import TokenStore

    now_ms = _now_ms()
    records = TokenStore(heads_directory(parsed)).list()
    if parsed.has("json"):
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


def _revoke(parsed: Parsed) -> int:
    from heorot.security.tokens import TokenStore

    if not TokenStore(heads_directory(parsed)).revoke(parsed.operands[0]):
        raise HeorotError(f"there is no token {parsed.operands[0]!r}; see: heorot token list")
    return 0


def _now_ms() -> int:
    return int(time.time() * 1000)


SUBCOMMANDS = {
    "create": Subcommand(
        Command(
            "heorot token create",
            "[OPTION]...",
            "Make a join token and print it alone on standard output. It is a secret: it is shown only once.",
            [
                CLUSTER,
                Option("--ttl", "how long it can be used: 30s, 15m, 1h, 2d (default: 1h)", "DURATION"),
                Option("--uses", "how many hosts may join with it (default: 1)", "N"),
                Option("--node", "give this number, even if a node has it, which is replaced then", "N"),
                Option("--json", "print an object: token, id, uses_left, expires_at_ms, node"),
            ],
        ),
        _create,
    ),
    "list": Subcommand(
        Command("heorot token list", "[OPTION]...", "List the tokens, without their secrets.", [CLUSTER, JSON_LIST]),
        _list,
    ),
    "revoke": Subcommand(
        Command(
            "heorot token revoke",
            "[OPTION]... ID",
            "Make a token useless at once. `heorot token list` shows its id.",
            [CLUSTER],
        ),
        _revoke,
        ("ID",),
    ),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
