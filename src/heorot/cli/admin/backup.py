"""``heorot backup``: write down what makes a head's host anew when its disk is lost."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from heorot.cli.admin.shared import Subcommand, configuration, run_subcommand
from heorot.cli.arguments import NO_DIRECTORY, Command, Parsed
from heorot.config.files import DEFAULT_HEAD_PATH, load_head
from heorot.core.errors import HeorotError
from heorot.linux.trusted_path import check_directory


def main(argv: list[str]) -> int:
    """Run ``heorot backup ARGUMENTS`` and return its exit status."""
    return run_subcommand(BACKUP, argv)


def _backup(parsed: Parsed) -> int:
    from heorot.runtime.state import recall_epoch
    from heorot.security.backup import EPOCH_NAME, Backup, collect_files

    path = Path(parsed.get("config") or DEFAULT_HEAD_PATH).absolute()
    output = Path(parsed.operands[0])
    config = load_head(path)
    directory = Path(config.cluster.directory)
    check_directory(directory)
    name = config.head.name
    files = collect_files(directory, name)
    if "ca/ca.key" not in files:
        raise HeorotError(f"{directory} has no authority of a cluster: this is no head's host")
    backup = Backup(
        cluster=config.cluster.id,
        head=name,
        epoch=recall_epoch(directory / "heads" / name, EPOCH_NAME),
        made_at_ms=int(time.time() * 1000),
        config_path=str(path),
        config=path.read_bytes(),
        files=files,
    )
    try:
        backup.write(output)
    except FileExistsError:
        raise HeorotError(f"{output} exists already; remove it, or name another file") from None
    print(f"{output} makes the host of the head {name} of cluster {backup.cluster} anew: heorot restore {output.name}")
    print("Whoever has it is the cluster: keep it as you keep root passwords.")
    store = config.store
    others = [one for one in (store.ca, store.cert, store.key, store.password_file) if one]
    if others:
        print(f"Not in it, because they are yours: {', '.join(others)}")
    return 0


BACKUP = Subcommand(
    Command(
        "heorot backup",
        "[OPTION]... FILE",
        "Write what makes this head's host anew when its disk is lost: its configuration, the cluster's authority,\n"
        "this head's identity, the records of nodes, heads and tokens. Whoever has the file is the cluster.",
        [configuration("of the head on this host", DEFAULT_HEAD_PATH)],
        common=NO_DIRECTORY,
    ),
    _backup,
    ("FILE",),
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
