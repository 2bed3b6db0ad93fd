"""System calls that a child carries out, one after the other, the last of them mostly an execve(2).

Theory of operation. The child shares this process's memory and runs no code of it: only a short loop of machine
instructions that takes call after call from a table, and writes each result beside it. So it costs what vfork(2)
costs, and may become another user before it executes a program, which posix_spawn(3) cannot. It has its own stack, and
all signals are blocked. Unlike vfork(2), it does not stop this process: the kernel clears a word when the child leaves
our memory (CLONE_CHILD_CLEARTID), and that is waited for as long as we like. A child that somebody stops, or that waits
for a file system, goes on without us, with a table of its own.

On machines for which there is no such loop here, or that allow no memory for it, the child is a copy of this process,
which takes twice as long; the table is the same.

docs/decisions/become-the-user.md says why it is like this.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import signal
import struct
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager

from heorot.bpinit.patience import FREE_MS, Patience

CALL_WORDS = 8
"""Of one call in the table: number, five arguments, whether it may fail, its result. Then comes the next."""
MAX_CALLS = 1024
_GIVE_UP_MS = 10
"""How long one that was killed is waited for."""
MAX_LATE = 1024
"""So many children may be late at the same time, each with 80 KiB of ours, before those that come are killed."""

_FUTEX_WAIT = 0
_CLONE_VM = 0x00000100
CLONE_FILES = 0x00000400
_CLONE_CHILD_CLEARTID = 0x00200000
_STACK_BYTES = 16 * 1024
_UNKNOWN = -(1 << 62)
"""Stands as the result of a call that was not carried out."""
_CALL = struct.Struct(f"{CALL_WORDS}q")
_FREE = array("q", (0, FREE_MS * 1_000_000))
"""As a timespec, of seconds and nanoseconds: so long every child is waited for, and nobody keeps account of it."""
Waiting = Callable[[], AbstractContextManager[Patience]]

_MACHINE = os.uname().machine
_NUMBERS = {
    "chdir": (80, 49),
    "clone": (56, 220),
    "close_range": (436, 436),
    "dup3": (292, 24),
    "execve": (59, 221),
    "exit_group": (231, 94),
    "futex": (202, 98),
    "ioctl": (16, 29),
    "keyctl": (250, 219),
    "openat2": (437, 437),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "sched_setaffinity": (203, 122),
    "setgroups": (116, 159),
    "setresgid": (119, 149),
    "setresuid": (117, 147),
    "setsid": (112, 157),
    "umask": (95, 166),
}
"""Of x86-64, and those that all newer machines have in common."""
NUMBER = {name: numbers[_MACHINE != "x86_64"] for name, numbers in _NUMBERS.items()}
"""Of each system call that is used here: its number on this machine."""

_CODE = {
    "x86_64": bytes.fromhex(
        "4889fb"  # mov rbx, rdi              the table
        "488b03"  # next: mov rax, [rbx]      the number
        "488b7b08 488b7310 488b5318 4c8b5320 4c8b4328"  # mov rdi, rsi, rdx, r10, r8 from [rbx+8] to [rbx+40]
        "0f05"  # syscall
        "48894338"  # mov [rbx+56], rax       the result
        "4885c0 790d"  # test rax, rax; jns go_on
        "48837b3000 740c"  # cmp qword [rbx+48], 0; je fail     may it fail?
        "4883f8f8 7406"  # cmp rax, -ENOEXEC; je fail           not so: this file was found
        "4883c340 ebcb"  # go_on: add rbx, 64; jmp next
        "bf7f000000 b8e7000000 0f05"  # fail: mov edi, 127; mov eax, exit_group; syscall
    ),
    "aarch64": struct.pack(
        "<17I",
        0xAA0003F3,  # mov x19, x0                  the table
        0xF9400268,  # next: ldr x8, [x19]          the number
        0xA9408660,
        0xA9418E62,
        0xF9401664,  # ldp x0, x1, [x19, 8]; ldp x2, x3, [x19, 24]; ldr x4, [x19, 40]
        0xD4000001,  # svc 0
        0xF9001E60,  # str x0, [x19, 56]            the result
        0xB6F800A0,  # tbz x0, 63, go_on
        0xF9401A61,
        0xB40000A1,  # ldr x1, [x19, 48]; cbz x1, fail      may it fail?
        0xB100201F,
        0x54000060,  # cmn x0, ENOEXEC; b.eq fail           not so: this file was found
        0x91010273,
        0x17FFFFF4,  # go_on: add x19, x19, 64; b next
        0xD2800FE0,
        0xD2800BC8,
        0xD4000001,  # fail: mov x0, 127; mov x8, exit_group; svc 0
    ),
}

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_clone = _libc.clone
_clone.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, *(ctypes.c_void_p,) * 4)


class ChildError(OSError):
    """There was no child, or it had to be killed; the text says which.

    Attributes
    ----------
    pid:
        Of the one that was killed, which nobody has reaped; else 0.
    """

    def __init__(self, number: int, text: str, pid: int = 0) -> None:
        super().__init__(number, text)
        self.pid = pid


class Calls:
    """A table of calls, and what their pointers point to."""

    def __init__(self) -> None:
        self.words = array("q")
        self._kept: list[array[int]] = []
        """Arrays have an address as they are. ctypes would make a type for each length, anew for each start."""

    def __len__(self) -> int:
        return len(self.words) // CALL_WORDS

    def add(
        self, name: str, a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0, *, may_fail: bool = False
    ) -> int:
        """Append a call with these arguments, and return its place."""
        words = self.words
        words.frombytes(_CALL.pack(NUMBER[name], a, b, c, d, e, may_fail, _UNKNOWN))
        return len(words) // CALL_WORDS - 1

    def add_execve(self, paths: list[bytes], arguments: int, environment: int) -> int:
        """Append the execution of the first of these programs that can be; return the place of the first trial."""
        place = len(self)
        for path in paths:
            self.add("execve", self.text(path), arguments, environment, may_fail=True)
        return place

    def may_fail(self, place: int) -> bool:
        """Say whether the next call is carried out even if this one fails."""
        return self.words[place * CALL_WORDS + 6] != 0

    def text(self, value: bytes) -> int:
        """Return the address of a string, which has no zero byte in it."""
        if b"\0" in value:
            raise ValueError("a zero byte in a path")
        return self.keep(array("b", value + b"\0"))

    def keep(self, held: array[int]) -> int:
        """Return the address of what is in an array, whose length may not change any more."""
        self._kept.append(held)
        return held.buffer_info()[0]

    def strings(self, values: list[bytes], *others: int) -> int:
        """Return the address of pointers to these strings, and to those at other addresses, as execve(2) wants them."""
        text = b"\0".join((*values, b""))
        if text.count(0) != len(values):
            raise ValueError("a zero byte in an argument, in the environment or in a path")
        at = self.keep(array("b", text))
        pointers: list[int] = []
        for value in values:
            pointers.append(at)
            at += len(value) + 1
        return self.keep(array("q", (*pointers, *others, 0)))


class Runner:
    """Makes children that carry out such tables.

    Parameters
    ----------
    copying:
        Make each child a copy of this process, as on machines that `_CODE` does not name.
    """

    def __init__(self, copying: bool = False) -> None:
        self._code = None if copying else _loaded(_CODE.get(_MACHINE, b""))
        self.late = False
        """The child that was made last has not come to its end, or to its program, in time: it goes on alone."""
        self._lent: list[tuple[ctypes.c_int, object]] = []
        """What late children still use: the word that is cleared when they have left it, and the rest."""
        self._allocate()

    def _allocate(self) -> None:
        size = MAX_CALLS * CALL_WORDS * 8
        # Shared, so that we see the results of a child that is a copy.
        memory = mmap.mmap(-1, size + _STACK_BYTES)
        self._table = memoryview(memory).cast("q")
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._word = word = ctypes.c_int()
        flags = _CLONE_VM | _CLONE_CHILD_CLEARTID | signal.SIGCHLD
        self._clone = (self._code, address + size + _STACK_BYTES, flags, address, None, None, ctypes.addressof(word))
        self._slice = array("q", (0, 0))
        # The kernel wakes us without FUTEX_PRIVATE_FLAG.
        number, operation, value = ctypes.c_long(NUMBER["futex"]), ctypes.c_long(_FUTEX_WAIT), ctypes.c_long(1)
        begin = number, ctypes.byref(word), operation, value
        self._await_free = (*begin, ctypes.c_void_p(_FREE.buffer_info()[0]), None, None)
        self._await_slice = (*begin, ctypes.c_void_p(self._slice.buffer_info()[0]), None, None)

    @property
    def copies(self) -> bool:
        """Whether a child is a copy of this process."""
        return self._code is None

    def run(self, calls: Calls, waiting: Waiting, share: int = 0) -> int:
        """Have a child carry these calls out, and wait until it has executed a program or ended.

        All signals are blocked here, and so in the child until its calls say otherwise. The caller reaps it.

        Parameters
        ----------
        waiting:
            Called if it takes long: what it says is how long the child is waited for. After this the child is `late`,
            and nobody may touch `calls` any more; with CLONE_FILES it is killed.
        share:
            CLONE_FILES: descriptors that the child opens are ours.

        Returns
        -------
        int
            Its PID. `results` tells what became of the calls.

        Raises
        ------
        ChildError
            If no child could be made, or it had to be killed.
        """
        words = calls.words
        if len(words) > MAX_CALLS * CALL_WORDS:
            raise ChildError(errno.E2BIG, f"{len(calls)} steps, and at most {MAX_CALLS} are possible")
        self.late = False
        self._used = self._table
        self._table[: len(words)] = memoryview(words)
        return self._copy(waiting, share) if self._code is None else self._start(calls, waiting, share)

    def results(self, count: int) -> list[int]:
        """Return the results of the calls that were run last, so many there were; what is negative is an errno.

        That of a call which failed, and may not, is the last; the one by which a program was executed has none.
        """
        results = self._used[CALL_WORDS - 1 : count * CALL_WORDS : CALL_WORDS].tolist()
        return results[: results.index(_UNKNOWN)] if _UNKNOWN in results else results

    def has_executed(self, place: int) -> bool:
        """Say whether the call at this place has executed a program, and the one before it was carried out."""
        at = place * CALL_WORDS - 1
        return self._used[at] == 0 and self._used[at + CALL_WORDS] == _UNKNOWN

    # ------------------------------------------------------------------ in our own memory

    def _start(self, calls: Calls, waiting: Waiting, share: int) -> int:
        self._word.value = 1
        code, stack, flags, *others = self._clone
        pid = int(_clone(code, stack, flags | share, *others))
        if pid < 0:
            raise _error(ctypes.get_errno())
        _syscall(*self._await_free)
        if not self._word.value:
            return pid
        with waiting() as patience:
            patience.next_ms()  # of which the first is over
            patience.passed(pid)
            if self._left_memory(pid, patience):
                return pid
        self._lent = [lent for lent in self._lent if lent[0].value]
        if share or len(self._lent) >= MAX_LATE:
            os.kill(pid, signal.SIGKILL)
            if self._left_memory(pid, Patience(_GIVE_UP_MS)):
                raise _late(pid)
        # It may still read and write there.
        self._lent.append((self._word, (self._table, calls)))
        self._allocate()
        if share:
            raise _late(pid)
        self.late = True
        return pid

    def _left_memory(self, pid: int, patience: Patience) -> bool:
        """Wait until the child has left our memory; False: it takes too long."""
        word = self._word
        while word.value:
            next_ms = patience.next_ms()
            if not next_ms:
                return not word.value
            self._slice[1] = next_ms * 1_000_000
            if _syscall(*self._await_slice) != 0 and ctypes.get_errno() == errno.ETIMEDOUT:
                patience.passed(pid)
        return True

    # ------------------------------------------------------------------ in a copy

    def _copy(self, waiting: Waiting, share: int) -> int:
        """Do the same without sharing memory."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            flags = ctypes.c_long(share | signal.SIGCHLD)
            pid = int(_syscall(ctypes.c_long(NUMBER["clone"]), flags, None, None, None, None))
            if pid == 0:
                self._carry_out(writer, bool(share & CLONE_FILES))
            if pid < 0:
                raise _error(ctypes.get_errno())
            if not share & CLONE_FILES:
                os.close(writer)
                writer = -1
            with waiting() as patience:
                self._await_copy(reader, pid, patience, share)
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)
        return pid

    def _carry_out(self, writer: int, shared: bool) -> None:
        """Be the child."""
        at = 0
        while True:
            number, *arguments, may_fail, _ = self._table[at : at + CALL_WORDS]
            if number == NUMBER["close_range"]:
                # By this one our parent sees that we execute a program.
                os.closerange(arguments[0], writer)
                arguments[0] = writer + 1
            if number == NUMBER["exit_group"] and shared:
                # Our copy of this descriptor is our parent's, too: our end does not close it.
                os.write(writer, b"e")
            result = _syscall(*(ctypes.c_long(word) for word in (number, *arguments)))
            self._table[at + CALL_WORDS - 1] = result = result if result >= 0 else -ctypes.get_errno()
            if result < 0 and (not may_fail or result == -errno.ENOEXEC):
                if shared:
                    os.write(writer, b"e")
                os._exit(127)
            at += CALL_WORDS

    def _await_copy(self, reader: int, pid: int, patience: Patience, share: int) -> None:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        while next_ms := patience.next_ms():
            if poll.poll(next_ms):
                return
            patience.passed(pid)
        # Its memory is its own, but for the table.
        self._allocate()
        if share:
            os.kill(pid, signal.SIGKILL)
            raise _late(pid)
        self.late = True


def _loaded(code: bytes) -> int | None:
    """Return the address of machine code in memory that can be executed and not written; None: there is none."""
    if not code:
        return None
    try:
        fd = os.memfd_create("heorot-calls", os.MFD_CLOEXEC)
        try:
            os.write(fd, code)
            address = _map_code(fd, len(code))
        finally:
            os.close(fd)
    except OSError:
        return None
    return address


def _map_code(fd: int, size: int) -> int | None:
    call = _libc.mmap
    call.restype = ctypes.c_void_p
    protection = mmap.PROT_READ | mmap.PROT_EXEC
    address = call(None, ctypes.c_size_t(size), protection, mmap.MAP_PRIVATE, fd, ctypes.c_long(0))
    return None if address in (None, ctypes.c_void_p(-1).value) else int(address)


def _error(number: int) -> ChildError:
    return ChildError(number, os.strerror(number))


def _late(pid: int) -> ChildError:
    return ChildError(errno.ETIMEDOUT, "a file system does not answer", pid)
