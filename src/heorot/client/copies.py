"""Copies to and from nodes, without I/O of their own towards the head: `bpcp` and both forms of the library drive this.

To nodes (`heorot.client.put`): the files are made an image, which travels as programs do (`heorot.images`), and a job
in which bpinit itself puts them at their place. From nodes (`heorot.client.get`): a job in which bpinit writes the
files to stdout, and a receiver for each rank.
"""

from __future__ import annotations

import os
import resource

from heorot.client import caller
from heorot.core.client import messages
from heorot.core.errors import HeorotError
from heorot.core.tree.nodeset import names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from heorot.core.client.end import Status

MAX_COMPLAINT_BYTES = 64 * 1024
"""What is kept of the words of one rank."""


class CopyError(HeorotError):
    """A copy was not made, or not all of it; the text says what, where and why, a line each."""


class Problem:
    """Something that was not copied: `node` is None for a file of this host, else the number of the node."""

    __slots__ = ("node", "text")

    def __init__(self, node: int | None, text: str) -> None:
        self.node = node
        self.text = text


def folded_problems(problems: Sequence[Problem]) -> list[str]:
    """Return a line for each thing that went wrong, with all the nodes where it did."""
    groups: dict[str, list[int]] = {}
    lines: list[str] = []
    for problem in problems:
        if problem.node is None:
            lines.append(problem.text)
        else:
            groups.setdefault(problem.text, []).append(problem.node)
    lines += [f"{names_of(nodes)}: {text}" for text, nodes in groups.items()]
    return lines


class Copied:
    """What became of a copy.

    Attributes
    ----------
    nodes:
        The nodes that it went to or came from, in order.
    problems:
        What was not copied, and why.
    size_bytes:
        The size of all files for one node; from nodes: what came.
    """

    __slots__ = ("nodes", "problems", "size_bytes")

    def __init__(self, nodes: Sequence[int], problems: Sequence[Problem], size_bytes: int) -> None:
        self.nodes = list(nodes)
        self.problems = list(problems)
        self.size_bytes = size_bytes

    def check(self) -> Copied:
        """Return this if everything was copied. Raises CopyError otherwise."""
        if self.problems:
            raise CopyError("\n".join(folded_problems(self.problems)))
        return self


class CopyJob:
    """What both directions have in common: a job, and what its ranks say on stderr."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._words: dict[int, bytearray] = {}

    def take(self, rank: int, stream: int, data: bytes) -> None:
        """A rank has written something."""
        words = self._words.setdefault(rank, bytearray())
        words += data[: max(0, MAX_COMPLAINT_BYTES - len(words))]

    def _judge(self, rank: int, node: int, status: Status) -> None:
        """A rank is over: take down what went wrong there."""
        said = self._words.pop(rank, b"").decode("utf-8", "backslashreplace").splitlines()
        self.problems += [Problem(node, line) for line in said]
        if status.success or (said and status.code is not None and status.error is None):
            return
        from heorot.client.endings import in_words

        self.problems.append(Problem(node, in_words(status)))

    def _fields(self, nodes: str, argv: list[bytes], paths: Sequence[bytes]) -> dict[str, Any]:
        # A relative path is relative to the directory of the same name there; an absolute one needs no such directory.
        relative = any(not path.startswith(b"/") for path in paths)
        return {
            "nodes": nodes,
            "select": "list",
            "argv": argv,
            "environment": [],
            "directory": caller.directory() if relative else b"/",
            "umask": caller.umask(),
            # What is carried out there is Heorot's own: how many files it opens is not for the caller's limit to say.
            "limits": caller.limits(without=resource.RLIMIT_NOFILE),
            "stdin": None,
            "stdout": None,
            "stderr": b"",
            "terminal": [],
            "detached": False,
            "max_processes": 0,
            "key": os.urandom(messages.KEY_BYTES),
        }


def node_name(node: int) -> str:
    """Return how a node is called."""
    return "master" if node < 0 else f"n{node}"


def reason_of(error: OSError | ValueError) -> str:
    """Return why the system refused something."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
