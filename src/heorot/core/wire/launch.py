"""What somebody wants to be started, the same from the client to the process space.

A client sends it in `heorot.core.wire.clients.Spawn`, the head puts it into the ticket that it signs
(`heorot.core.wire.tickets.Ticket`), and a process space starts ranks by it. So a field of a launch is described here,
and once more in `heorot.core.client.messages.launch_spec`, which commands use that do not load msgspec.
"""

from __future__ import annotations

from heorot.core.errors import RequestError
from heorot.core.wire.base import Count, Message

IMAGE_ID_BYTES = 32
"""The length of an image's name, and of the id of a program."""
WORDS_OF_A_LIMIT = 3


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
    """Each rank has a connection to PMI-1 as descriptor 3 (`heorot.core.pmi`), and the job ends as one of MPI does."""


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
    return ""


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
