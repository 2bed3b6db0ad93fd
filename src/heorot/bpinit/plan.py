"""What the ranks of one job on a node have in common."""

from __future__ import annotations

import errno
import os
import struct
from array import array

from heorot.bpinit import own_commands
from heorot.bpinit.calls import CALL_WORDS, Calls
from heorot.bpinit.ends import PMI_FD
from heorot.bpinit.start_words import StartError
from heorot.core.space.events import SpaceConfig
from heorot.core.wire.tree import Ticket, ranks_on

_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
_NUMBER_BYTES = 64
"""More than a name and a number need: what a frame can say has 30 digits."""
_RANK_NUMBERS = struct.Struct(4 * f"{_NUMBER_BYTES}s ")
_OF_PMI = (b"PMI_PORT", b"PMI_ID", b"PMI_RANK", b"PMI_SPAWNED", b"MPI_LOCALRANKID")
"""What a rank that is given a connection to PMI must not believe of another one."""


class Plan:
    """What the ranks of one job on this node have in common, prepared once."""

    def __init__(self, job: str, ticket: Ticket, size: int, ranks: int, config: SpaceConfig, view: bytes = b"") -> None:
        self.job = job
        self.ticket = ticket
        self.view = view
        """Where the files of the image are; empty: the node's own are run."""
        self.failure: StartError | None = None
        self.caveat = ""
        """What the user should know of how they were started, should one exit with another status than 0."""
        self.unseen: set[int] = set()
        """Ranks that were started last, and were not waited for until they had come to their program."""
        self.directory = ticket.spec.directory or b"/"
        """Where they are started."""
        self.path: bytes | None = ticket.spec.program or None
        self.builtin = bool(ticket.spec.argv) and ticket.spec.argv[0] in own_commands.NAMES
        """bpinit carries it out itself: no program is looked for."""
        self.given: list[int] = []
        """Descriptors for a built-in command; with them its image stays in the cache."""
        self.through_shell = False
        self.limits: list[tuple[int, int, int]] | None = None
        """Resource limits that differ from the daemon's own: number, soft, hard."""
        self.shared_files: dict[int, int] = {}
        """Redirected stdout and stderr: all ranks of one node write to one open file."""
        # Sharing the offset is not enough for several writers: copy_file_range(2), which cat(1) uses, does not lock it.
        append = os.O_APPEND if ranks > 1 else 0
        self.write_flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | append
        environment: dict[bytes, bytes] = {}
        for entry in ticket.spec.environment:
            name, found, _ = entry.partition(b"=")
            if name and found:
                environment[name] = entry
        path = environment.get(b"PATH")
        self.search = _DEFAULT_PATH if path is None else path[len(b"PATH=") :]
        environment[b"BPROC_PROGNAME"] = b"BPROC_PROGNAME=" + (ticket.spec.argv[0] if ticket.spec.argv else b"")
        environment[b"HEOROT_JOB"] = b"HEOROT_JOB=" + job.encode()
        environment[b"HEOROT_SIZE"] = b"HEOROT_SIZE=%d" % size
        environment[b"HEOROT_NODE"] = b"HEOROT_NODE=%d" % config.node
        environment[b"HEOROT_SPACE"] = b"HEOROT_SPACE=" + config.marker.encode()
        # A descriptor does not travel.
        for name in (b"BPROC_RANK", b"HEOROT_RANK", b"PMI_FD"):
            environment.pop(name, None)
        self.local_ranks: dict[int, int] = {}
        """The how manieth of this node each rank is, from 0; only known for those of MPI."""
        if ticket.spec.pmi:
            self.local_ranks = {rank: local for local, rank in enumerate(ranks_on(ticket, config.node))}
            for name in _OF_PMI:
                environment.pop(name, None)
            environment[b"PMI_FD"] = b"PMI_FD=%d" % PMI_FD
            environment[b"PMI_SIZE"] = b"PMI_SIZE=%d" % size
            environment[b"MPI_LOCALNRANKS"] = b"MPI_LOCALNRANKS=%d" % len(self.local_ranks)
        self.environment = list(environment.values())
        """Without what differs from rank to rank."""
        self.steps: Steps | None = None
        """How a rank is started; None: to be worked out."""

    def close(self) -> None:
        """Close the files that the ranks shared."""
        for fd in {*self.shared_files.values(), *self.given}:
            os.close(fd)
        self.shared_files = {}
        self.given = []


class Steps:
    """The calls that start a rank, and where in them something is of interest.

    Parameters
    ----------
    streams:
        The first of the three calls that give it its streams.
    pmi:
        The call that gives it its connection to PMI; -1: there is none.
    numbers:
        What `rank_numbers` has made, to which its environment points.
    """

    __slots__ = ("_numbers", "_pmi", "_streams", "_terminal", "calls", "candidates", "enters", "first")

    def __init__(
        self,
        calls: Calls,
        streams: int,
        pmi: int,
        terminal: int,
        enters: int,
        first: int,
        candidates: list[bytes],
        numbers: array[int],
    ) -> None:
        self.calls = calls
        self._streams = streams
        self._pmi = pmi
        self._terminal = terminal
        self.enters = enters
        """Entering the directory."""
        self.first = first
        """Executing the first candidate."""
        self.candidates = candidates
        self._numbers = numbers

    def for_rank(self, rank: int, local: int, stdin: int, stdout: int, stderr: int, terminal: int, pmi: int) -> None:
        """Let them start this rank, the how manieth `local` says, with these streams."""
        words = self.calls.words
        # The first argument of each.
        at = self._streams * CALL_WORDS + 1
        words[at] = stdin
        words[at + CALL_WORDS] = stdout
        words[at + 2 * CALL_WORDS] = stderr
        if self._terminal >= 0:
            words[self._terminal * CALL_WORDS + 1] = terminal
        if self._pmi >= 0:
            words[self._pmi * CALL_WORDS + 1] = pmi
        own = b"BPROC_RANK=%07d" % rank, b"HEOROT_RANK=%d" % rank, b"PMI_RANK=%d" % rank, b"MPI_LOCALRANKID=%d" % local
        _RANK_NUMBERS.pack_into(self._numbers, 0, *own)

    def has_failed(self, place: int, result: int) -> bool:
        """Say whether the child ends with this result of this call."""
        return result < 0 and (not self.calls.may_fail(place) or result == -errno.ENOEXEC)


def rank_numbers() -> array[int]:
    """Return room for the entries of an environment that differ from rank to rank."""
    return array("b", bytes(_RANK_NUMBERS.size))


def numbers_at(numbers: array[int], pmi: bool) -> list[int]:
    """Return the addresses of these entries; the last two are only for ranks of MPI."""
    at = numbers.buffer_info()[0]
    return [at + _NUMBER_BYTES * place for place in range(4 if pmi else 2)]
