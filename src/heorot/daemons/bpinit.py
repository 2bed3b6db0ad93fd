"""``bpinit``: a node's process space as a daemon of its own, for a service manager."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from heorot.bpinit.namespace import pid_range, spawn_space
from heorot.bpinit.space_socket import listen
from heorot.config.hosts import own_text
from heorot.config.layout import HOSTS_NAME
from heorot.core.errors import HeorotError
from heorot.daemons.single import hold
from heorot.linux.trusted_path import UntrustedPath, check_directory, check_file, make_directory

_USAGE = """usage: bpinit --config PATH
       bpinit --dir DIR --node N [--capacity NODES]

Hold the processes of node N, or of the node that a configuration such as /etc/heorot/node.toml describes. DIR is the
node's directory; the agent connects to DIR/init.sock. As root the processes get a PID namespace of their own, with PIDs
from the range of node N in a cluster of at most NODES nodes (default 1023).
"""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Make the process space, wait for it, and end with it."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    if "--config" in options:
        options = _configured(options["--config"])
    from heorot.core.space.events import SpaceConfig

    directory = options["--dir"]
    node = int(options["--node"])
    try:
        base, size = pid_range(node, max(node + 1, int(options.get("--capacity", "1023"))))
        spool = os.path.join(directory, "spool")
        make_directory(directory, 0o700, parents=True)
        make_directory(spool, 0o700)
        # The space's own process has it, too: without root it outlives this one by the time that it takes to end all.
        hold(directory, "bpinit", f"bpinit of n{node}")
        hosts = options.get("--hosts", "")
        if hosts:
            make_hosts_file(hosts)
        listener = listen(os.path.join(directory, "init.sock"))
        config = SpaceConfig(
            node=node,
            base_pid=base,
            range_size=size,
            spool_dir=spool,
            die_with_parent=True,
            cluster_dir=cluster_of(directory, node),
            hosts_path=hosts,
        )
        pid = spawn_space(config, listener)
    except (OSError, HeorotError) as error:
        sys.stderr.write(f"bpinit: {error}\n")
        sys.exit(1)
    listener.close()
    ending = signal.SIGKILL if os.geteuid() == 0 else signal.SIGTERM
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.kill(pid, ending))
    _, status = os.waitpid(pid, 0)
    os.unlink(os.path.join(directory, "init.sock"))
    # Ended as asked for, or else the space has failed and its processes are gone.
    sys.exit(
        0 if os.WIFSIGNALED(status) and os.WTERMSIG(status) == ending else os.waitstatus_to_exitcode(status) & 0xFF
    )


def make_hosts_file(path: str) -> None:
    """Make what processes are to see as /etc/hosts, if it is not there: until the agent knows more, as the host's own.

    Raises OSError.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    with open(fd, "wb") as file:
        os.fchmod(fd, 0o644)
        file.write(own_text().encode("utf-8", "surrogateescape"))


def cluster_of(directory: str, node: int) -> str:
    """Return the directory of the cluster to which a node's directory belongs; empty: it stands alone.

    In all caches below the former room is made when a disk is full: nobody else may have laid out anything there.
    """
    above, name = os.path.split(os.path.abspath(directory))
    cluster, kind = os.path.split(above)
    if (kind, name) != ("nodes", f"n{node}"):
        return ""
    try:
        check_directory(cluster)
    except (OSError, UntrustedPath):
        return ""
    return cluster


def _parse(arguments: list[str]) -> dict[str, str]:
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(_USAGE)
        sys.exit(0)
    known = ("--config", "--dir", "--node", "--capacity")
    options: dict[str, str] = {}
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for index in range(0, len(words) - 1, 2):
        options[words[index]] = words[index + 1]
    numbers = [options.get(name, "0") for name in ("--node", "--capacity")]
    wrong = len(words) % 2 or any(name not in known for name in options) or not all(n.isdecimal() for n in numbers)
    complete = set(options) == {"--config"} or {"--dir", "--node"} <= set(options) <= {"--dir", "--node", "--capacity"}
    if wrong or not complete:
        sys.stderr.write(_USAGE)
        sys.exit(2)
    return options


def _configured(path: str) -> dict[str, str]:
    """Return the options that the node's configuration file stands for."""
    from pathlib import Path

    from heorot.config.files import load_node

    try:
        check_file(path)
        config = load_node(Path(path))
    except (OSError, HeorotError) as error:
        sys.stderr.write(f"bpinit: {error}\n")
        sys.exit(1)
    directory = os.path.join(config.cluster.directory, "nodes", f"n{config.node.number}")
    return {
        "--dir": directory,
        "--hosts": os.path.join(directory, HOSTS_NAME) if config.node.hosts and os.geteuid() == 0 else "",
        "--node": str(config.node.number),
        "--capacity": str(config.cluster.capacity),
    }


if __name__ == "__main__":
    main()
