"""``bphead`` on a host of its own, under a service manager."""

from __future__ import annotations

import sys
from pathlib import Path

from heorot.config.files import DEFAULT_HEAD_PATH
from heorot.config.layout import Layout
from heorot.core.errors import HeorotError
from heorot.daemons.arguments import configuration_path, tell_failure
from heorot.linux.trusted_path import check_directory, make_directory


def main() -> int:
    """Run a head from its configuration file; return the exit status."""
    from heorot.coord.stores import open_store
    from heorot.daemons.configured_head import ConfiguredHead
    from heorot.daemons.head import run_head
    from heorot.linux.process import raise_descriptor_limit, set_name
    from heorot.security.head_identity import check_head_identity
    from heorot.security.shared import SharedRecords
    from heorot.security.signing import Signer

    path = configuration_path("bphead", DEFAULT_HEAD_PATH, sys.argv[1:])
    set_name("bphead-keeper")
    raise_descriptor_limit()
    try:
        configured = ConfiguredHead(path)
        config = configured.config
        root = Path(Layout(config.cluster.directory).root)
        check_directory(root)
        (root / "log").mkdir(exist_ok=True)
        make_directory(Path(config.head.socket).parent, 0o755)
        settings = configured.settings()
        name = config.head.name
        check_head_identity(settings.directory, config.cluster.id, name)
        shared = SharedRecords(root, Signer.load(settings.directory / "signing.key"))
        run_head(
            settings,
            lambda make_room: open_store(
                config.store, root / "coord", config.cluster.id, settings.directory, name, shared, make_room
            ),
            configured.read_again,
        )
    except (HeorotError, OSError) as error:
        return tell_failure("bphead", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
