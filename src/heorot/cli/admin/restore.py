"""``heorot restore``: make a head's host anew from what ``heorot backup`` has written down."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from heorot.cli.admin.shared import CLUSTER_DIRECTORY_MODE, Subcommand, configuration, run_subcommand
from heorot.cli.arguments import NO_DIRECTORY, Command, Parsed
from heorot.config.files import DEFAULT_HEAD_PATH, ConfigError, read_head
from heorot.core.errors import HeorotError
from heorot.linux.trusted_path import make_directory

CONFIG_MODE = 0o644


def main(argv: list[str]) -> int:
    """Run ``heorot restore ARGUMENTS`` and return its exit status."""
    return run_subcommand(RESTORE, argv)


def _restore(parsed: Parsed) -> int:
    from heorot.security.backup import read_backup
    from heorot.security.files import write_atomically
    from heorot.security.head_identity import check_head_identity

    backup = read_backup(Path(parsed.operands[0]))
    path = Path(parsed.get("config") or backup.config_path).absolute()
    config = read_head(path, backup.config)
    directory = Path(config.cluster.directory)
    if (config.cluster.id, config.head.name) != (backup.cluster, backup.head):
        raise HeorotError(f"{parsed.operands[0]} contradicts itself: its configuration is of another head")
    if path.exists():
        raise ConfigError(f"{path} exists already; remove it, or name another with --config")
    for present in (directory / "ca", directory / "heads" / backup.head):
        if present.exists():
            raise HeorotError(f"{directory} holds a head already: {present} exists; remove it first")
    make_directory(path.parent, 0o755, parents=True)
    make_directory(directory, CLUSTER_DIRECTORY_MODE, parents=True)
    backup.restore(directory)
    check_head_identity(directory / "heads" / backup.head, backup.cluster, backup.head)
    write_atomically(path, backup.config, mode=CONFIG_MODE, durable=True)
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(backup.made_at_ms / 1000))
    print(f"This host is the head {backup.head} of cluster {backup.cluster}, as it was at {made}.")
    print("Nodes that have joined since then are not known: they join anew. Tokens are as they were then.")
    print("Next:")
    print("  systemctl enable --now heorot-head heorot-renew.timer")
    return 0


RESTORE = Subcommand(
    Command(
        "heorot restore",
        "[OPTION]... FILE",
        "Make this host the head that 'heorot backup' wrote down, in an epoch above all that its cluster has seen.\n"
        "Nodes and their jobs come back to it by themselves. Nothing is overwritten.",
        [configuration("to write", DEFAULT_HEAD_PATH)],
        common=NO_DIRECTORY,
    ),
    _restore,
    ("FILE",),
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
