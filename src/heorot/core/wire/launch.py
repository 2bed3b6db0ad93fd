"""What somebody wants to be started, the same from the client to the process space.

A client sends it in `heorot.core.wire.clients.Spawn`, the head puts it into the ticket that it signs
(`heorot.core.wire.tickets.Ticket`), and a process space starts ranks by it. So a field of a launch is described here,
and once more in `heorot.core.client.messages.launch_spec`, which commands use that do not load msgspec.
"""

from __future__ import annotations

from bisect import bisect_left

from heorot.core.errors import RequestError
from heorot.core.wire.base import Count, Message
from heorot.core.wire.cpu_lists import why_no_binding
from heorot.core.wire.path_patterns import why_no_pattern

IMAGE_ID_BYTES = 32
"""The length of an image's name, and of the id of a program."""
WORDS_OF_A_LIMIT = 3
MAX_RANKS = 131_072
"""Of one job."""
MAX_RANKS_PER_NODE = 4096
"""By number. Who names a node often enough may have more there."""
MAX_INPUT_NUMBERS = 8192


class LaunchSpec(Message, frozen=True):
    """A command, and all of its surroundings that are the same for each rank on each node."""

    argv: list[bytes]
    environment: list[bytes]
    """``NAME=value``."""
    directory: bytes
    umask: Count
    limits: list[int]
    """Flat: RLIMIT_* number, soft, hard (-1 is RLIM_INFINITY)."""
    stdin: bytes | None
    """A path on the node; ``b""``: what the client sends; None: /dev/null. The same for the next two."""
    stdout: bytes | None
    stderr: bytes | None
    terminal: list[int]
    """Empty, or rows and columns: each rank gets a pseudo-terminal, and stdout carries all of its output."""
    max_processes: Count = 0
    """Processes of this job on one node at most; a job with more is ended. 0: from a client, the cluster's default; in
    a ticket, no limit."""
    headless_ms: Count = 0
    """End the job on a node that has been without any head for so long; 0: never."""
    image: bytes = b""
    """The name of an image (`heorot.core.images.manifest`) from which the ranks are started, and which the client
    offers; empty: from what the nodes have."""
    program: bytes = b""
    """With `image`: the path of the program."""
    program_id: bytes = b""
    """With `image`: a node whose own file at `program` has this content (`heorot.core.images.manifest.file_id`) needs
    no image; empty: every node does."""
    linger: bool = False
    """What a rank leaves running belongs to it until that ends; else it is killed when the rank's own process ended."""
    pmi: bool = False
    """Each rank has a connection to PMI, 1 and 2, as descriptor 3 (`heorot.core.pmi`); the job ends as one of MPI."""
    ranks: Count = 0
    """How many there are, in blocks on the nodes (`heorot.core.wire.node_runs`); 0: as many as nodes are named, each
    times `ranks_per_node`."""
    ranks_per_node: Count = 0
    """How many each node gets that is named; with `ranks`, at most. 0: one, or with `ranks` as many as that takes."""
    patterns: bool = False
    """The paths of `stdin`, `stdout` and `stderr` are patterns (`heorot.core.wire.path_patterns`)."""
    time_limit_ms: Count = 0
    """End the job on a node when so long has passed since the first of its ranks was started there; 0: never."""
    bind: str = ""
    """To which CPUs ranks are bound (`heorot.core.wire.cpu_lists`); empty: to none."""
    stdin_ranks: list[int] | None = None
    """With `stdin` from the client, flat: first and last of each range of ranks, ascending, that read it. The others
    read /dev/null. None: all read it."""


def reads_stdin(spec: LaunchSpec, rank: int) -> bool:
    """Say whether a rank reads what the client sends."""
    chosen = spec.stdin_ranks
    if spec.stdin != b"" or chosen is None:
        return spec.stdin == b""
    place = bisect_left(chosen, rank)
    return place % 2 == 1 or chosen[place : place + 1] == [rank]


def rank_count(spec: LaunchSpec, nodes: int) -> int:
    """Return how many ranks a launch has whose ticket names so many nodes, repeats included."""
    return spec.ranks or nodes * max(1, spec.ranks_per_node)


def nodes_used(spec: LaunchSpec, nodes: int) -> int:
    """Return on how many of so many nodes, the first of a list, a launch has ranks.

    Raises
    ------
    RequestError
        ``bad-request``: they are too few, or get too many.
    """
    used = nodes
    if spec.ranks:
        used = min(nodes, -(-spec.ranks // max(1, spec.ranks_per_node)))
        if 0 < spec.ranks_per_node * used < spec.ranks:
            needed = -(-spec.ranks // spec.ranks_per_node)
            what = f"{spec.ranks} ranks, {spec.ranks_per_node} on each node, need {needed} nodes"
            raise RequestError("bad-request", f"{what}; the list has {nodes}")
    total = rank_count(spec, used)
    if spec.stdin_ranks and spec.stdin_ranks[-1] >= total:
        text = f"there is no rank {spec.stdin_ranks[-1]} to give input to: the job has the ranks 0 to {total - 1}"
        raise RequestError("bad-request", text)
    if total > MAX_RANKS:
        raise RequestError("bad-request", f"{total} ranks are too many for one job; at most {MAX_RANKS}")
    if spec.ranks > MAX_RANKS_PER_NODE * used:
        what = f"{spec.ranks} ranks on {used} node{'s' if used > 1 else ''}"
        raise RequestError("bad-request", f"{what} are too many; at most {MAX_RANKS_PER_NODE} on each")
    return used


def is_new(spec: LaunchSpec) -> bool:
    """Say whether a launch asks for what nodes of another release may not know, and would leave out in silence."""
    new = spec.ranks, spec.ranks_per_node, spec.patterns, spec.time_limit_ms, spec.bind, spec.stdin_ranks is not None
    return any(new)


def flaw_of(spec: LaunchSpec) -> str:
    """Return why nobody can have meant this, for people; empty: it can be started."""
    if not spec.argv:
        return "there is no command to run"
    if len(spec.limits) % WORDS_OF_A_LIMIT:
        return "a limit of the launch lacks its number, its soft or its hard value"
    if len(spec.terminal) not in (0, 2):
        return "the size of a terminal is its rows and its columns"
    if spec.image:
        sizes = {len(spec.image), len(spec.program_id)} - {0}
        if sizes != {IMAGE_ID_BYTES} or not spec.program.startswith(b"/"):
            return "the image of the launch has no valid name, or its program no path"
    if spec.ranks > MAX_RANKS or spec.ranks_per_node > MAX_RANKS_PER_NODE:
        return f"there are at most {MAX_RANKS} ranks in a job, and {MAX_RANKS_PER_NODE} for each node that is named"
    if why := why_no_binding(spec.bind):
        return why
    chosen = spec.stdin_ranks
    if chosen is not None and (len(chosen) % 2 or len(chosen) > MAX_INPUT_NUMBERS or not _ascends(chosen)):
        return "the ranks that read input are no list of ranges, or there are too many"
    if spec.patterns:
        flaws = (why_no_pattern(path) for path in (spec.stdin, spec.stdout, spec.stderr) if path)
        return next(filter(None, flaws), "")
    return ""


def _ascends(ranges: list[int]) -> bool:
    before = -1
    for first, last in zip(ranges[0::2], ranges[1::2], strict=True):
        if not before < first <= last < MAX_RANKS:
            return False
        before = last
    return True


def check_spec(spec: LaunchSpec) -> None:
    """See that a launch can be taken on.

    Raises
    ------
    RequestError
        ``bad-request``.
    """
    flaw = flaw_of(spec)
    if flaw:
        raise RequestError("bad-request", flaw)
