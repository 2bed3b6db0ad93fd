"""``bpnode`` on a host of its own, under a service manager: its configuration file becomes settings."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from heorot.config.files import DEFAULT_HEAD_PATH, DEFAULT_NODE_PATH, NodeFile, load_node
from heorot.config.layout import Layout
from heorot.core.errors import HeorotError
from heorot.daemons.arguments import configuration_path, tell_failure
from heorot.linux.proctable import children
from heorot.linux.trusted_path import check_directory, check_file


def main() -> int:
    """Run an agent from its configuration file; return the exit status."""
    from heorot.daemons import agent
    from heorot.linux.process import raise_descriptor_limit, set_name

    path = configuration_path("bpnode", DEFAULT_NODE_PATH, sys.argv[1:])
    raise_descriptor_limit()
    try:
        check_file(path)
        config = load_node(path)
        signal.signal(signal.SIGHUP, partial(_begin_anew, path))
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        number = config.node.number
        set_name(f"bpnode n{number}")
        layout = Layout(config.cluster.directory)
        directory = Path(layout.node(number))
        check_directory(directory)
        (Path(layout.root) / "log").mkdir(exist_ok=True)
        (directory / "state").mkdir(mode=0o700, exist_ok=True)
        settings = agent.NodeSettings(
            directory=directory,
            log_path=Path(layout.log(f"n{number}")),
            cluster=config.cluster.id,
            node=number,
            host=config.node.listen.host,
            port=config.node.listen.port,
            heads=tuple((address.host, address.port) for address in config.node.heads),
            host_name=os.uname().nodename,
            # Without root a process space shows what the host has.
            shows_names=config.node.hosts and os.geteuid() == 0,
            machine={
                "heartbeat_ms": config.timers.heartbeat_ms,
                "link_timeout_ms": config.timers.link_timeout_ms,
                "swarm_gain_ms": config.images.swarm_gain_ms,
            },
            log_level=config.cluster.log_level,
            log_in_json=config.cluster.log_format == "json",
            image_cache_bytes=config.images.cache_bytes,
            client_socket=_client_socket(config),
        )
        agent.run_agent(settings)
    except (HeorotError, OSError) as error:
        return tell_failure("bpnode", error)
    return 0


def _client_socket(config: NodeFile) -> Path | None:
    """Return where commands on this host look for a head, unless that is the place of this host's own head."""
    if not config.node.socket or DEFAULT_HEAD_PATH.exists():
        return None
    return Path(config.node.socket)


def _begin_anew(path: Path, number: int, frame: Any) -> None:
    """Take a configuration over that has changed, if it can be used: run the same program again in this process.

    An agent may end at any time, between any two instructions: what it leaves is good for the next one.
    """
    try:
        check_file(path)
        load_node(path)
    except (HeorotError, OSError) as error:
        tell_failure("bpnode: the settings stay as they are", error)
        return
    # What passes clients on would be nobody's child that the next agent knows of.
    for pid in children(os.getpid()):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
