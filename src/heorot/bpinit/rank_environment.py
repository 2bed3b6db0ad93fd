"""What a rank finds in its environment of its job: all that is the same for every rank on a node.

Programs that look for their neighbours need the nodes; they are said once, folded and as a plain list. execve(2) takes
no string beyond 128 KiB, and all strings together share the room of the arguments: so a list that would be longer than
`MAX_LIST_BYTES` is left out, and the number of nodes says how many there are.
"""

from __future__ import annotations

from collections.abc import Collection

from heorot.core.tree.nodeset import names_of
from heorot.core.wire.node_runs import nodes_in
from heorot.core.wire.tree import Ticket, nodes_of

PMI_FD = 3
"""The descriptor of a rank's connection to PMI, as the rank knows it. None of ours has this number."""
MAX_LIST_BYTES = 64 * 1024
_PLAIN_LIST = b"NODES"
"""BJS has called it so. It is a name that others may use, too: who brings it along keeps it."""
_OF_PMI = (b"PMI_PORT", b"PMI_ID", b"PMI_RANK", b"PMI_SPAWNED", b"MPI_LOCALRANKID")
"""What a rank that is given a connection to PMI must not believe of another one."""
PER_RANK = (b"BPROC_RANK", b"HEOROT_RANK", b"HEOROT_LOCAL_RANK")
"""Differ from rank to rank, and are not among those that are the same."""


def environment_of(ticket: Ticket, size: int, here: int, node: int, marker: str) -> list[bytes]:
    """Return the entries that are the same for all ranks on a node.

    Parameters
    ----------
    size:
        How many ranks the job has, and ...
    here:
        ... how many of them are on this node.
    node:
        Its number.
    marker:
        By which the process space knows its processes.
    """
    environment: dict[bytes, bytes] = {}
    for entry in ticket.spec.environment:
        name, found, _ = entry.partition(b"=")
        if name and found:
            environment[name] = entry
    own = {
        b"BPROC_PROGNAME": ticket.spec.argv[0] if ticket.spec.argv else b"",
        b"HEOROT_JOB": ticket.job.encode(),
        b"HEOROT_SIZE": b"%d" % size,
        b"HEOROT_NODE": b"%d" % node,
        b"HEOROT_SPACE": marker.encode(),
        b"HEOROT_LOCAL_SIZE": b"%d" % here,
    }
    # A descriptor does not travel.
    for name in (*PER_RANK, b"HEOROT_NODELIST", b"PMI_FD", *(_OF_PMI if ticket.spec.pmi else ())):
        environment.pop(name, None)
    count, folded, plain = _nodes(ticket)
    own[b"HEOROT_NNODES"] = b"%d" % count
    if folded:
        own[b"HEOROT_NODELIST"] = folded
    if plain and _PLAIN_LIST not in environment:
        own[_PLAIN_LIST] = plain
    if ticket.spec.pmi:
        own |= {b"PMI_FD": b"%d" % PMI_FD, b"PMI_SIZE": own[b"HEOROT_SIZE"], b"MPI_LOCALNRANKS": b"%d" % here}
    for name, value in own.items():
        environment[name] = name + b"=" + value
    return list(environment.values())


def _nodes(ticket: Ticket) -> tuple[int, bytes, bytes]:
    """Return how many nodes there are, their folded list, and their numbers in the order of the ranks; a list that is
    too long is empty."""
    runs = ticket.runs
    numbers: Collection[int]
    if len(runs) == 2:
        first, count = runs
        if count == 1:
            return 1, b"n%d" % first, b"%d" % first
        folded, numbers = b"n[%d-%d]" % (first, first + count - 1), range(first, first + count)
    else:
        count = nodes_of(ticket).bit_count()
        # Where the folded list is too long, the other one is, too: it takes as much for each range, at least.
        if len(runs) > MAX_LIST_BYTES:
            return count, b"", b""
        numbers = dict.fromkeys(nodes_in(runs)) if 2 * count <= MAX_LIST_BYTES else ()
        folded = names_of(numbers or nodes_in(runs)).encode()
    plain = ",".join(map(str, numbers)).encode() if 2 * count <= MAX_LIST_BYTES else b""
    return count, folded if len(folded) <= MAX_LIST_BYTES else b"", plain if len(plain) <= MAX_LIST_BYTES else b""
