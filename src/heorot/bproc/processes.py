"""What BProc's library does with processes; what moves running ones comes later, and says so."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from heorot.bproc.errors import ComesLaterError, InvalidProcessError, NodeDownError, SameNodeError
from heorot.bproc.nodes import NODE_MASTER, currnode, nodeinfo
from heorot.bproc.opened import ask_cluster, used_directory

MOVING = "comes with the moving of processes; 'heorot.connect().spawn' starts a command on nodes"


class ProcInfo(NamedTuple):
    """A process, as ``struct bproc_proc_info_t``."""

    pid: int
    node: int


def proclist(node: int) -> list[ProcInfo]:
    """Return the processes on a node that jobs have there; `NODE_MASTER`: none; a node there has a number."""
    if nodeinfo(node).node == NODE_MASTER:
        return []
    rows = ask_cluster(lambda cluster: cluster.processes(nodeinfo(node).node))
    return [ProcInfo(row["pid"], row["node"]) for row in rows]


def pidnode(pid: int) -> int:
    """Return the node that a process is on; `NODE_MASTER` for one of this host that no node has."""
    for row in ask_cluster(lambda cluster: cluster.processes()):
        if row["pid"] == pid:
            return int(row["node"])
    if not os.path.exists(f"/proc/{pid}"):
        raise InvalidProcessError(f"there is no process {pid}")
    return currnode()


def rexec(node: int, command: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> NoReturn:
    """Replace this process by one that runs a command of the node, and stands for it here under this PID: its
    input, output, signals and status are the command's. Does not return.

    Parameters
    ----------
    command:
        Its path on the node; nothing is sent there.
    argv:
        The first is what the command takes for its name: as of now it is `command` whatever is given.
    """
    rexec_io(node, {}, command, argv, environment)


def rexec_io(
    node: int,
    io: Mapping[int, str | None],
    command: str,
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> NoReturn:
    """As `rexec`, with files on the node in place of the descriptors 0, 1 and 2 that `io` names (None: /dev/null)."""
    info = nodeinfo(node)
    if info.node == currnode():
        raise SameNodeError(f"this process is on {'the head' if info.node < 0 else f'n{info.node}'} already")
    if info.node == NODE_MASTER:
        raise ComesLaterError("rexec to the head", MOVING)
    if info.status != "up":
        raise NodeDownError(f"n{info.node} is {info.status}")
    if set(io) - {0, 1, 2}:
        raise ValueError(f"only the descriptors 0, 1 and 2 can be given a file, not {sorted(set(io) - {0, 1, 2})}")
    program = os.path.join(os.path.dirname(sys.executable), "bpsh")
    words = [program, "--dir", used_directory(), "--image", "path"]
    for number, path in sorted(io.items()):
        words += [("-I", "-O", "-E")[number], os.devnull if path is None else path]
    sys.stdout.flush()
    sys.stderr.flush()
    words += [str(info.node), "--", command, *argv[1:]]
    os.execve(program, words, dict(os.environ if environment is None else environment))


def _moves(name: str) -> Callable[..., NoReturn]:
    def later(*arguments: object, **named: object) -> NoReturn:
        raise ComesLaterError(name, MOVING)

    later.__name__ = later.__qualname__ = name
    later.__doc__ = f"Raises ComesLaterError: {name} {MOVING}."
    return later


move, move_io = _moves("move"), _moves("move_io")
rfork, rfork_io = _moves("rfork"), _moves("rfork_io")
vrfork, vrfork_io = _moves("vrfork"), _moves("vrfork_io")
execmove, execmove_io = _moves("execmove"), _moves("execmove_io")
vexecmove, vexecmove_io = _moves("vexecmove"), _moves("vexecmove_io")
