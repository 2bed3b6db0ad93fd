"""What the ranks of one job on a node have in common."""

from __future__ import annotations

import errno
import os
import struct
from array import array

from heorot.bpinit import own_commands
from heorot.bpinit.calls import CALL_WORDS, Calls
from heorot.bpinit.cpu_binding import CpuBinding
from heorot.bpinit.rank_environment import environment_of
from heorot.bpinit.start_words import StartError
from heorot.core.space.events import SpaceConfig
from heorot.core.wire.launch import reads_stdin
from heorot.core.wire.path_patterns import JOB, NODE, RANK, expand, is_per_rank
from heorot.core.wire.tree import Ticket, ranks_on

_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
_ENTRY_BYTES = 64
_RANK_NUMBERS = struct.Struct(5 * f"{_ENTRY_BYTES}s ")
"""More than the names and numbers need: what a frame can say has 30 digits."""


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
        self.note = ""
        """What the user should know of it anyway."""
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
        self.binding: CpuBinding | None = None
        """To which CPUs each rank is bound; None: to none, or it is not worked out."""
        self.limits: list[tuple[int, int, int]] | None = None
        """Resource limits that differ from the daemon's own: number, soft, hard."""
        self.shared_files: dict[int, int] = {}
        """Redirected stdout and stderr: all ranks of one node write to one open file."""
        # Sharing the offset is not enough for several writers: copy_file_range(2), which cat(1) uses, does not lock it.
        append = os.O_APPEND if ranks > 1 else 0
        self.write_flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | append
        here = ranks_on(ticket, config.node)
        self.local_ranks = {rank: number for number, rank in enumerate(here)}
        """Of each rank here: how many are before it."""
        self.environment = environment_of(ticket, size, len(here), config.node, config.marker)
        """Without what differs from rank to rank."""
        path = next((entry for entry in self.environment if entry.startswith(b"PATH=")), None)
        self.search = _DEFAULT_PATH if path is None else path[len(b"PATH=") :]
        self.own_files: frozenset[int] = frozenset()
        """Which of stdout (1) and stderr (2) is a file of its own for each rank."""
        if ticket.spec.patterns:
            outputs = ((1, ticket.spec.stdout), (2, ticket.spec.stderr))
            self.own_files = frozenset(number for number, name in outputs if name and is_per_rank(name))
        self._names = {NODE: b"n%d" % config.node, JOB: job.encode()}
        self.steps: Steps | None = None
        """How a rank is started; None: to be worked out."""

    def bind(self) -> str:
        """Work out to which CPUs ranks are bound, if that is still to be done; return what the user should know of it.

        Raises StartError.
        """
        bind = self.ticket.spec.bind
        if not bind or self.binding is not None:
            return ""
        self.binding = CpuBinding(bind, len(self.local_ranks))
        return self.binding.note

    def reads(self, rank: int) -> bool:
        """Say whether a rank is given input that comes from the client."""
        return reads_stdin(self.ticket.spec, rank)

    def file_name(self, path: bytes, rank: int) -> bytes:
        """Return what a file is called that a stream of this rank is redirected to."""
        return expand(path, {**self._names, RANK: b"%d" % rank}) if self.ticket.spec.patterns else path

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
    binds, mask:
        Where it is bound to CPUs, and the mask that says to which.
    """

    __slots__ = (
        "_mask", "_numbers", "_pmi", "_streams", "_terminal", "binds", "calls", "candidates", "enters", "first",
    )  # fmt: skip

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
        binds: int = -1,
        mask: array[int] | None = None,
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
        self.binds = binds
        """Being bound to CPUs; -1: it is not."""
        self._mask = mask

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
        own = b"BPROC_RANK=%07d" % rank, b"HEOROT_RANK=%d" % rank, b"HEOROT_LOCAL_RANK=%d" % local
        _RANK_NUMBERS.pack_into(self._numbers, 0, *own, b"PMI_RANK=%d" % rank, b"MPI_LOCALRANKID=%d" % local)

    def bind(self, mask: list[int]) -> None:
        """Let them bind the rank to these CPUs."""
        assert self._mask is not None
        for index, word in enumerate(mask):
            self._mask[index] = word

    def has_failed(self, place: int, result: int) -> bool:
        """Say whether the child ends with this result of this call."""
        return result < 0 and (not self.calls.may_fail(place) or result == -errno.ENOEXEC)


def rank_numbers() -> array[int]:
    """Return room for the entries of an environment that differ from rank to rank."""
    return array("b", bytes(_RANK_NUMBERS.size))


def numbers_at(numbers: array[int], pmi: bool) -> list[int]:
    """Return the addresses of these entries; the last two are only for ranks of MPI."""
    at = numbers.buffer_info()[0]
    return [at + _ENTRY_BYTES * place for place in range(5 if pmi else 3)]
