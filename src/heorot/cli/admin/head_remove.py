"""``heorot head remove``: take a head out of a cluster of many machines."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from heorot.cli.admin.shared import Subcommand, configuration, run_group
from heorot.cli.arguments import NO_DIRECTORY, Command, Option, Parsed
from heorot.cli.request import Head
from heorot.cli.table import fold_nodes
from heorot.config.files import DEFAULT_HEAD_PATH, Address, HeadFile, load_head
from heorot.core.errors import HeorotError, RequestError
from heorot.linux.trusted_path import check_directory

TIMEOUT_S = 10.0


def main(argv: list[str]) -> int:
    """Run ``heorot head ARGUMENTS`` (it begins with ``remove``) and return its exit status."""
    return run_group("head", SUBCOMMANDS, argv)


def _remove(parsed: Parsed) -> int:
    from heorot.daemons.listed_heads import open_registry
    from heorot.security.tokens import TokenStore

    called = parsed.operands[0]
    config = load_head(Path(parsed.get("config") or DEFAULT_HEAD_PATH))
    check_directory(config.cluster.directory)
    heads = open_registry(config)
    by_address = {str(Address(head.host, head.port)): head.name for head in heads.listed()}
    named = {address: name for address, name in by_address.items() if called in (name, address)}
    notes = [] if parsed.has("force") or not named else check_rest(_ask(config, called), named, called)
    with TokenStore(Path(config.cluster.directory)).lock():
        gone = heads.remove(called, int(time.time() * 1000))
    print(f"{gone.name or 'the head'} at {gone.address} is removed: it does not stand for head any more.")
    print("The active head tells the nodes; 'heorot status' names those that have not heard it yet.")
    for note in notes:
        print(note)
    print(f"Next, on the host of {gone.name or gone.address}:")
    print("  systemctl disable --now heorot-head heorot-renew.timer")
    print(f"  rm -r {config.cluster.directory}/ca {config.cluster.directory}/heads      # the cluster's keys")
    return 0


def _ask(config: HeadFile, name: str) -> dict[str, Any]:
    try:
        head = Head(str(Path(config.head.socket).parent), TIMEOUT_S, patient=False)
        status: dict[str, Any] = head.ask("status")
        head.close()
    except RequestError as error:
        raise HeorotError(
            f"nobody can say whether all nodes know another head than {name}: {error}; try again, or use --force"
        ) from error
    return status


def check_rest(status: dict[str, Any], named: dict[str, str], name: str) -> list[str]:
    """Return what there is to say about the nodes when heads are removed.

    Parameters
    ----------
    status
        What ``heorot status --json`` shows.
    named
        The heads that go: by address, their names, which may be empty.
    name
        What the administrator calls them.

    Raises
    ------
    HeorotError
        If one of them leads, or the removal could lose nodes.
    """
    active = {row["name"] for row in status["heads"] if row["role"] == "active"}
    if active.intersection(named.values()):
        raise HeorotError(f"{name} is the active head; first, on its host: heorot head switch")
    known = status.get("head_list", {"heads": [], "others": []})
    stranded = [
        node
        for group in known["others"]
        if group["heads"] is None or not [row for row in group["heads"] if row["address"] not in named]
        for node in group["nodes"]
    ]
    if stranded:
        raise HeorotError(
            f"{fold_nodes(sorted(stranded))} may know no other head than {name} (see heorot status): wait until they "
            "have heard of one, or use --force"
        )
    down = sorted(row["id"] for row in status["nodes"] if row["state"] == "down")
    if not down:
        return []
    return [
        f"{fold_nodes(down)} cannot be told now. Who knows no other head than {name} needs one in heads of node.toml "
        "when it comes back."
    ]


SUBCOMMANDS = {
    "remove": Subcommand(
        Command(
            "heorot head remove",
            "[OPTION]... NAME",
            "Take a head out of the cluster, on the host of any head, by its name or its address (HOST:PORT): it does\n"
            "not stand for head any more, and all nodes are told. Its certificate, and the cluster's keys on its\n"
            "host, stay valid.",
            [
                Option("--force", "even if nodes know no other head, or nobody can say"),
                configuration("of the head on this host", DEFAULT_HEAD_PATH),
            ],
            common=NO_DIRECTORY,
        ),
        _remove,
        ("NAME",),
    ),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
