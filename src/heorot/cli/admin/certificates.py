"""``heorot certificate``: show when this host's certificates end, and renew them."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from heorot.cli.admin.shared import JSON_LIST, Subcommand, duration_ms, run_group
from heorot.cli.arguments import NO_DIRECTORY, Command, Option, Parsed
from heorot.config.files import DEFAULT_HEAD_PATH, DEFAULT_NODE_PATH, HeadFile, NodeFile, load_head, load_node
from heorot.core.errors import HeorotError, SecurityError
from heorot.linux.trusted_path import check_directory

if TYPE_CHECKING:
    from heorot.security.authority import Identity

RESTART_TIMEOUT_SECONDS = 120


def main(argv: list[str]) -> int:
    """Run ``heorot certificate ARGUMENTS`` and return its exit status."""
    return run_group("certificate", SUBCOMMANDS, argv)


def _roles(parsed: Parsed) -> list[tuple[HeadFile | NodeFile, Path]]:
    """Return this host's configurations, and where the identity of each is."""
    roles: list[tuple[HeadFile | NodeFile, Path]] = []
    head_config = Path(parsed.get("head-config") or DEFAULT_HEAD_PATH)
    node_config = Path(parsed.get("node-config") or DEFAULT_NODE_PATH)
    if head_config.exists():
        head = load_head(head_config)
        roles.append((head, Path(head.cluster.directory) / "heads" / head.head.name))
    if node_config.exists():
        node = load_node(node_config)
        roles.append((node, Path(node.cluster.directory) / "nodes" / f"n{node.node.number}"))
    for config, _ in roles:
        check_directory(config.cluster.directory)
    if not roles:
        missing = f"there is no {head_config} and no {node_config}"
        raise HeorotError(f"this host is neither a head nor a node: {missing}")
    return roles


def _show(parsed: Parsed) -> int:
    from heorot.security.authority import Identity

    found = [(Identity.load(directory), directory) for _, directory in _roles(parsed)]
    if parsed.has("json"):
        print(json.dumps([_row(identity, directory) for identity, directory in found]))
        return 0
    for identity, _ in found:
        print(f"{identity.name} of cluster {identity.cluster}: {_end(identity)}")
    return 0


def _row(identity: Identity, directory: Path) -> dict[str, object]:
    certificate = identity.certificate
    return {
        "name": identity.name,
        "cluster": identity.cluster,
        "begins_at_ms": int(certificate.not_valid_before_utc.timestamp() * 1000),
        "ends_at_ms": int(certificate.not_valid_after_utc.timestamp() * 1000),
        "path": str(directory / "cert.pem"),
    }


def _renew(parsed: Parsed) -> int:
    from heorot.security.authority import Identity
    from heorot.security.files import write_atomically

    within_ms = duration_ms(parsed.get("within")) if parsed.has("within") else None
    units: list[str] = []
    for config, directory in _roles(parsed):
        identity = Identity.load(directory)
        left = identity.certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        if within_ms is not None and left > datetime.timedelta(milliseconds=within_ms):
            print(f"{identity.name}: {_end(identity)}; nothing to do")
            continue
        renewed = _renew_head(config, identity) if isinstance(config, HeadFile) else _renew_node(config, identity)
        # The key is the same, so this one file changes, as a whole.
        write_atomically(directory / "cert.pem", renewed.certificate_pem, durable=True)
        units.append("heorot-head.service" if isinstance(config, HeadFile) else "heorot-node.service")
        print(f"{renewed.name}: renewed, {_end(renewed)}")
    if units and parsed.has("restart"):
        done = subprocess.run(["systemctl", "try-restart", *units], check=False, timeout=RESTART_TIMEOUT_SECONDS)
        return done.returncode
    if units:
        print(f"To use it: systemctl restart {' '.join(units)}")
    return 0


def _renew_head(config: HeadFile, identity: Identity) -> Identity:
    from heorot.security.authority import Authority

    return Authority.load(Path(config.cluster.directory) / "ca").renew(identity)


def _renew_node(config: NodeFile, identity: Identity) -> Identity:
    from heorot.security.join_client import renew
    from heorot.security.join_host import JoinRefusedError
    from heorot.security.kept_heads import kept_heads

    errors: list[str] = []
    directory = Path(config.cluster.directory) / "nodes" / f"n{config.node.number}"
    for head in dict.fromkeys([*kept_heads(directory, config.cluster.id), *config.node.heads]):
        try:
            return renew(head.host, head.port, identity, attempts=2)
        except JoinRefusedError:
            raise
        except SecurityError as error:
            errors.append(str(error))
    raise SecurityError("; ".join(errors))


def _end(identity: Identity) -> str:
    end = identity.certificate.not_valid_after_utc
    days = (end - datetime.datetime.now(datetime.UTC)).days
    return f"valid until {end:%Y-%m-%d} ({days} days)" if days >= 0 else f"ended on {end:%Y-%m-%d}"


_CONFIGURATIONS = (
    Option("--head-config", f"the configuration of the head on this host (default: {DEFAULT_HEAD_PATH})", "PATH"),
    Option("--node-config", f"the configuration of the node on this host (default: {DEFAULT_NODE_PATH})", "PATH"),
)
SUBCOMMANDS = {
    "show": Subcommand(
        Command(
            "heorot certificate show",
            "[OPTION]...",
            "List this host's certificates and when they end.",
            [*_CONFIGURATIONS, JSON_LIST],
            common=NO_DIRECTORY,
        ),
        _show,
    ),
    "renew": Subcommand(
        Command(
            "heorot certificate renew",
            "[OPTION]...",
            "Renew this host's certificates, for the same keys. A node asks a head, and may do so even after its\n"
            "certificate has ended, unless it was removed from the cluster; a head renews where the authority is.",
            [
                *_CONFIGURATIONS,
                Option("--within", "only those that end within this time, for example 90d", "DURATION"),
                Option("--restart", "then restart the services that use them; running jobs do not notice"),
            ],
            common=NO_DIRECTORY,
        ),
        _renew,
    ),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
