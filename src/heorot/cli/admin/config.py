"""``heorot config check``: whether this host's configuration can be used, before a daemon is to use it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from heorot.cli.admin.shared import JSON_LIST, Subcommand, run_group
from heorot.cli.arguments import NO_DIRECTORY, Command, Option, Parsed
from heorot.config.files import DEFAULT_HEAD_PATH, DEFAULT_NODE_PATH, load_head, load_node
from heorot.core.errors import HeorotError
from heorot.linux.trusted_path import check_directory, check_file


def main(argv: list[str]) -> int:
    """Run ``heorot config ARGUMENTS`` and return its exit status."""
    return run_group("config", SUBCOMMANDS, argv)


def _check(parsed: Parsed) -> int:
    head_path = Path(parsed.get("head-config") or DEFAULT_HEAD_PATH)
    node_path = Path(parsed.get("node-config") or DEFAULT_NODE_PATH)
    checks: list[tuple[Path, Callable[[Path], None]]] = []
    if head_path.exists() or parsed.has("head-config"):
        checks.append((head_path, _check_head))
    if node_path.exists() or parsed.has("node-config"):
        checks.append((node_path, _check_node))
    if not checks:
        raise HeorotError(f"this host is neither a head nor a node: there is no {head_path} and no {node_path}")
    rows = [{"path": str(path), "problem": _problem(path, check)} for path, check in checks]
    if parsed.has("json"):
        print(json.dumps(rows))
    else:
        for row in rows:
            if row["problem"]:
                print(f"heorot: {row['problem']}", file=sys.stderr)
            else:
                print(f"{row['path']}: good")
    return 1 if any(row["problem"] for row in rows) else 0


def _problem(path: Path, check: Callable[[Path], None]) -> str:
    try:
        check_file(path)
        check(path)
    except HeorotError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or path}: {error.strerror or error}"
    return ""


def _check_head(path: Path) -> None:
    from heorot.security.head_identity import check_head_identity

    config = load_head(path)
    check_directory(config.cluster.directory)
    name = config.head.name
    check_head_identity(Path(config.cluster.directory) / "heads" / name, config.cluster.id, name)


def _check_node(path: Path) -> None:
    from heorot.security.authority import Identity

    config = load_node(path)
    check_directory(config.cluster.directory)
    directory = Path(config.cluster.directory) / "nodes" / f"n{config.node.number}"
    identity = Identity.load(directory)
    wanted = f"node:{config.node.number}"
    if (identity.name, identity.cluster) != (wanted, config.cluster.id):
        raise HeorotError(
            f"{directory / 'cert.pem'} is of {identity.name} of the cluster {identity.cluster!r}, "
            f"not of {wanted} of {config.cluster.id!r}, as {path} says: 'heorot node join' makes another"
        )


SUBCOMMANDS = {
    "check": Subcommand(
        Command(
            "heorot config check",
            "[OPTION]...",
            "Say whether this host's configuration can be used: that of a head, of a node, or both.\n"
            "Nothing is changed. Exit status 1 if something is wrong.",
            [
                Option("--head-config", f"the head's (default: {DEFAULT_HEAD_PATH})", "PATH"),
                Option("--node-config", f"the node's (default: {DEFAULT_NODE_PATH})", "PATH"),
                JSON_LIST,
            ],
            common=NO_DIRECTORY,
        ),
        _check,
    ),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
