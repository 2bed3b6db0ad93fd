"""``heorot certificate``: show when this host's certificates end, and renew them."""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from heorot.cli.admin.shared import duration_ms, run_reporting
from heorot.config.files import DEFAULT_HEAD_PATH, DEFAULT_NODE_PATH, HeadFile, NodeFile, load_head, load_node
from heorot.core.errors import HeorotError, SecurityError
from heorot.linux.trusted_path import check_directory

if TYPE_CHECKING:
    from heorot.security.authority import Identity

RESTART_TIMEOUT_SECONDS = 120


def main(argv: list[str]) -> int:
    """Run ``heorot certificate ARGUMENTS`` and return its exit status."""
    parser = argparse.ArgumentParser(prog="heorot certificate", description="The certificates of this host.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    show = commands.add_parser("show", help="list this host's certificates and when they end")
    renew = commands.add_parser(
        "renew",
        help="renew this host's certificates, for the same keys",
        description="Renew this host's certificates, for the same keys. A node asks a head, and may do so even after "
        "its certificate has ended, unless it was removed from the cluster; a head renews where the authority is.",
    )
    for command in (show, renew):
        command.add_argument("--head-config", type=Path, default=DEFAULT_HEAD_PATH, metavar="PATH")
        command.add_argument("--node-config", type=Path, default=DEFAULT_NODE_PATH, metavar="PATH")
    show.add_argument("--json", action="store_true", help="print a JSON list")
    renew.add_argument(
        "--within", type=duration_ms, metavar="DURATION", help="only those that end within this time, for example 90d"
    )
    renew.add_argument(
        "--restart", action="store_true", help="then restart the services that use them; running jobs do not notice"
    )
    show.set_defaults(command=_show)
    renew.set_defaults(command=_renew)
    arguments = parser.parse_args(argv)
    return run_reporting(arguments.command, arguments)


def _roles(arguments: argparse.Namespace) -> list[tuple[HeadFile | NodeFile, Path]]:
    """Return this host's configurations, and where the identity of each is."""
    roles: list[tuple[HeadFile | NodeFile, Path]] = []
    if arguments.head_config.exists():
        head = load_head(arguments.head_config)
        roles.append((head, Path(head.cluster.directory) / "heads" / head.head.name))
    if arguments.node_config.exists():
        node = load_node(arguments.node_config)
        roles.append((node, Path(node.cluster.directory) / "nodes" / f"n{node.node.number}"))
    for config, _ in roles:
        check_directory(config.cluster.directory)
    if not roles:
        missing = f"there is no {arguments.head_config} and no {arguments.node_config}"
        raise HeorotError(f"this host is neither a head nor a node: {missing}")
    return roles


def _show(arguments: argparse.Namespace) -> int:
    from heorot.security.authority import Identity

    found = [(Identity.load(directory), directory) for _, directory in _roles(arguments)]
    if arguments.json:
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


def _renew(arguments: argparse.Namespace) -> int:
    from heorot.security.authority import Identity
    from heorot.security.files import write_atomically

    units: list[str] = []
    for config, directory in _roles(arguments):
        identity = Identity.load(directory)
        left = identity.certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        if arguments.within is not None and left > datetime.timedelta(milliseconds=arguments.within):
            print(f"{identity.name}: {_end(identity)}; nothing to do")
            continue
        renewed = _renew_head(config, identity) if isinstance(config, HeadFile) else _renew_node(config, identity)
        # The key is the same, so this one file changes, as a whole.
        write_atomically(directory / "cert.pem", renewed.certificate_pem, durable=True)
        units.append("heorot-head.service" if isinstance(config, HeadFile) else "heorot-node.service")
        print(f"{renewed.name}: renewed, {_end(renewed)}")
    if units and arguments.restart:
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
