"""The streams that a rank is started with: pipes or a pseudo-terminal, which belong to the user whose process it is."""

from __future__ import annotations

import os
import socket

from heorot.bpinit.as_user import UserIds
from heorot.bpinit.plan import Plan
from heorot.bpinit.start_words import StartError, reason_not_started
from heorot.bpinit.terminal import set_size
from heorot.core.wire.tree import Ticket


class Ends:
    """Both ends of one rank's three streams, and of its connection to PMI; -1: none."""

    __slots__ = (
        "error", "files", "our_pmi", "our_stderr", "our_stdin", "our_stdout", "pmi", "stderr", "stdin", "stdout",
        "terminal",
    )  # fmt: skip

    def __init__(self) -> None:
        self.stdin = self.stdout = self.stderr = -1
        self.our_stdin = self.our_stdout = self.our_stderr = -1
        self.pmi = self.our_pmi = -1
        self.terminal = -1
        """The rank's end of a pseudo-terminal, which `stdout` is, too."""
        self.files = [-1, -1]
        """Files for this rank alone in place of stdout and stderr."""
        self.error: StartError | None = None

    def _open_pipes(self, ticket: Ticket, reads: bool, owner: UserIds | None) -> None:
        if reads:
            self.stdin, self.our_stdin = _pipe(owner)
            os.set_blocking(self.our_stdin, False)
        if ticket.spec.stdout == b"":
            self.our_stdout, self.stdout = _pipe(owner)
            os.set_blocking(self.our_stdout, False)
        if ticket.spec.stderr == b"":
            self.our_stderr, self.stderr = _pipe(owner)
            os.set_blocking(self.our_stderr, False)

    def _open_terminal(self, size: list[int], owner: UserIds | None) -> None:
        rows, columns = (*size, 0, 0)[:2]
        # Our end of the process's side is kept open until it has its own, so that the terminal does not hang up before.
        self.our_stdout, self.stdout = master, slave = os.openpty()
        set_size(master, rows, columns)
        os.set_blocking(master, False)
        self.our_stdin = os.dup(master)
        if owner is not None:
            # The group is that of terminals, if devpts was mounted to have it so.
            os.fchown(slave, owner.uid, -1 if os.fstat(slave).st_gid else owner.gid)
        self.terminal = slave

    def _open_pmi(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.our_pmi, self.pmi = ours.detach(), theirs.detach()

    def close_theirs(self) -> None:
        """Close the child's ends."""
        for fd in (self.stdin, self.stdout, self.stderr, self.pmi, *self.files):
            if fd >= 0:
                os.close(fd)

    def close_ours(self) -> None:
        """Close our ends."""
        for fd in (self.our_stdin, self.our_stdout, self.our_stderr, self.our_pmi):
            if fd >= 0:
                os.close(fd)


def open_ends(ends: list[Ends], plan: Plan, ranks: list[int], owner: UserIds | None) -> None:
    """Open what the ticket asks for, for each of these ranks; those for which it cannot be done get an error.

    A pipe of root's could be written, but not be opened again: /dev/stdout names it, and the kernel looks at its owner.

    Parameters
    ----------
    owner:
        Whose processes they are; None: ours.
    """
    ticket = plan.ticket
    for position, (rank, end) in enumerate(zip(ranks, ends, strict=True)):
        try:
            if ticket.spec.terminal:
                end._open_terminal(ticket.spec.terminal, owner)
            else:
                end._open_pipes(ticket, plan.reads(rank), owner)
            if ticket.spec.pmi:
                end._open_pmi()
        except OSError as error:
            what = "cannot open a pseudo-terminal" if ticket.spec.terminal else "the node cannot open more pipes"
            failure = StartError(error.errno or 0, f"{what}: {reason_not_started(error)}")
            for late in ends[position:]:
                late.error = failure
            return


def _pipe(owner: UserIds | None) -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if owner is not None:
        # Both ends are one inode.
        os.fchown(reader, owner.uid, owner.gid)
    return reader, writer
