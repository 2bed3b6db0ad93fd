"""Starting processes as a user, at the cost of a bare posix_spawn.

This process stays who it is. Whatever a start needs with the rights of the user, a child does: entering the
directory, opening what the streams are redirected to, executing the program (`heorot.bpinit.calls`).
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct
import termios
from array import array
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from heorot.bpinit import own_commands
from heorot.bpinit.as_user import UserIds, add_identity, user_ids_of
from heorot.bpinit.calls import CALL_WORDS, MAX_CALLS, Calls, ChildError, Runner
from heorot.bpinit.ends import Ends, open_ends
from heorot.bpinit.errands import START_MS, Errands
from heorot.bpinit.limits import LimitRules
from heorot.bpinit.plan import Plan, Steps, numbers_at, rank_numbers
from heorot.bpinit.rank_environment import PMI_FD
from heorot.bpinit.redirects import open_streams
from heorot.bpinit.rooms import RoomError, Rooms, lost_view
from heorot.bpinit.start_words import (
    LateError,
    StartError,
    is_binary,
    not_executed,
    not_found,
    not_that_user,
    reason_not_started,
    shown_name,
    unanswered,
)
from heorot.core.space.events import SpaceConfig
from heorot.core.wire.tree import Ticket
from heorot.linux import system

_SHELL = b"/bin/sh"
_CAP_SYS_RESOURCE = 24
_MAX_SEARCHED = MAX_CALLS - 64
"""So many directories of PATH are looked into."""
_NOTHING = bytes(32)
"""What sigaction(2) takes for SIG_DFL, and sigprocmask(2) for no signal."""
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
"""What the next rank may have again."""
Spawned = tuple[int, int, int, int, int]
"""PID, and our ends of stdin, stdout, stderr and the connection to PMI (-1: there is none)."""
Result = TypeVar("Result")


class Starter:
    """Starts processes for this node.

    Parameters
    ----------
    errands:
        Makes the children beside those that are started, and knows how long these may be waited for.
    copying:
        See `Runner`.
    """

    def __init__(self, config: SpaceConfig, errands: Errands, copying: bool = False) -> None:
        self.config = config
        self._errands = errands
        self._runner = Runner(copying)
        self.rooms = Rooms(errands) if config.isolated else None
        """None: this node cannot show files that it does not have."""
        self._uid = os.getuid()
        self._own = self._uid, os.getegid()
        self._groups = sorted(os.getgroups())
        # What becomes one of a child's first descriptors must not be one of them already.
        while (null := os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)) <= PMI_FD:
            pass
        self._null = null
        self._prepare_calls()
        given = {number: resource.getrlimit(number) for number in range(16)}
        current = dict(given)
        most_files = hard = given[resource.RLIMIT_NOFILE][1]
        if self._uid == 0:
            with open("/proc/sys/fs/nr_open", "rb") as file:
                most_files = int(file.read())
            hard = max(hard, min(1_048_576, most_files))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            current[resource.RLIMIT_NOFILE] = (hard, hard)
        except (OSError, ValueError):
            most_files = given[resource.RLIMIT_NOFILE][1]
        self._limits = LimitRules(given, current, _has_capability(_CAP_SYS_RESOURCE), most_files)

    def _prepare_calls(self) -> None:
        """Make what is the same in the calls of every rank."""
        self._beginning = calls = Calls()
        self._nothing = calls.keep(array("b", _NOTHING))
        calls.add("setsid")
        for number in sorted(signal.valid_signals()):
            if signal.getsignal(number) not in (signal.SIG_DFL, None):
                calls.add("rt_sigaction", number, self._nothing, 0, 8)
        self._streams = len(calls)
        for stream in range(3):
            calls.add("dup3", 0, stream, 0)
        self._seclusion = calls = Calls()
        # Who is out of quota for keys keeps ours, which is empty, and nobody can change it.
        calls.add("keyctl", system.KEYCTL_JOIN_SESSION_KEYRING, 0, may_fail=True)
        # No path from here on leads through /proc/self/fd to what we have open.
        self._closing = calls.add("close_range", 3, 0xFFFF_FFFF, 0)
        calls.add("rt_sigprocmask", signal.SIG_SETMASK, self._nothing, 0, 8)

    def start(self, plan: Plan, ranks: list[int]) -> list[Spawned | StartError]:
        """Start these ranks of one job; one answer for each."""
        if plan.failure is not None:
            return [plan.failure] * len(ranks)
        results: list[Spawned | StartError] = []
        ends = [Ends() for _ in ranks]
        moved = False
        try:
            identity = self._identity(plan.ticket)
            open_ends(ends, plan, ranks, None if identity is None or identity[:2] == self._own else identity)
            if plan.limits is None:
                plan.limits = self._limits.changes(plan.ticket)
            plan.note = plan.bind() or plan.note
            if plan.builtin:
                if plan.ticket.spec.argv[0] == own_commands.STAGE and self.rooms is None:
                    raise _cannot_show(plan)
                if plan.view and not plan.given and plan.ticket.spec.argv[0] == own_commands.PUT:
                    plan.given = _open_view(plan.view)
            elif plan.view:
                moved = True
                self._enter_room(plan)
            redirected = plan.ticket.spec.stdout or plan.ticket.spec.stderr
            if plan.builtin or plan.ticket.spec.stdin or (redirected and (plan.own_files or not plan.shared_files)):
                while number := open_streams(self._runner, plan, ranks, ends, identity, self._errands):
                    self._cannot_enter(plan, number)
            start = self._fork if plan.builtin else self._spawn
            for rank, end in zip(ranks, ends, strict=True):
                try:
                    results.append(end.error or start(plan, rank, end, identity))
                except StartError as error:
                    if isinstance(error, LateError):
                        raise
                    results.append(error)
        except StartError as error:
            # Something that all ranks need: each of the next ones would fail in the same way.
            if not results and error.error not in _SCARCE:
                plan.failure = error
            results += [error] * (len(ranks) - len(results))
        except (OSError, ValueError, OverflowError, MemoryError, struct.error) as error:
            # Whatever else a hostile ticket brings about: it fails this job, and not the daemon.
            failure = StartError(0, f"cannot start the command: {reason_not_started(error)}")
            results += [failure] * (len(ranks) - len(results))
        finally:
            if moved and self.rooms is not None:
                self.rooms.leave()
                os.chdir("/")
            for index, end in enumerate(ends):
                end.close_theirs()
                if isinstance(results[index], StartError):
                    end.close_ours()
        return results

    # ------------------------------------------------------------------ before

    def _identity(self, ticket: Ticket) -> UserIds | None:
        """Return whom the processes are to belong to; None: whoever we are."""
        if self._uid != 0:
            if ticket.uid != self._uid:
                text = f"this node runs without root, as uid {self._uid}; it cannot start processes of {ticket.user}"
                raise StartError(errno.EPERM, text)
            return None
        try:
            identity = user_ids_of(ticket)
        except ValueError as error:
            raise StartError(errno.EPERM, f"cannot become user {ticket.user}: {error}") from error
        if identity.uid == identity.gid == 0 and sorted(identity.groups) == self._groups:
            return None
        return identity

    def _enter_room(self, plan: Plan) -> None:
        if self.rooms is None:
            raise _cannot_show(plan)
        try:
            plan.path = self.rooms.enter(plan.ticket, plan.view)
        except RoomError as error:
            raise StartError(0, str(error)) from error

    def _cannot_enter(self, plan: Plan, number: int) -> None:
        """Go on in another directory, or raise StartError."""
        name = shown_name(plan.directory)
        # A copy to a relative path would end up where nobody looks for it.
        if not self.config.bare or plan.builtin or number != errno.ENOENT or plan.directory == b"/":
            raise StartError(0, f"cannot enter the directory {name}: {os.strerror(number)}")
        # Nothing of the user's is there that a relative path could mean instead.
        plan.directory = b"/"
        plan.steps = None
        plan.caveat = f"nodes with an empty file system (heorot up --bare) have no directory {name}: it ran in /"

    # ------------------------------------------------------------------ the start itself

    def _spawn(self, plan: Plan, rank: int, end: Ends, identity: UserIds | None) -> Spawned:
        while True:
            steps = plan.steps or self._work_out(plan, identity)
            plan.steps = steps
            stdin, stdout, stderr = end.stdin, end.stdout, end.stderr
            if end.terminal >= 0:
                stdin = end.terminal if plan.reads(rank) else stdin
                stderr = end.terminal
            steps.for_rank(
                rank,
                plan.local_ranks.get(rank, 0),
                stdin if stdin >= 0 else self._null,
                self._output(plan, end, 1, stdout),
                self._output(plan, end, 2, stderr),
                end.terminal,
                end.pmi,
            )
            if plan.binding is not None:
                steps.bind(plan.binding.mask_of(plan.local_ranks.get(rank, 0)))
            errands, uid = self._errands, plan.ticket.uid
            try:
                pid = self._runner.run(steps.calls, partial(errands.waiting, uid, START_MS))
            except ChildError as error:
                name = shown_name(plan.path or plan.ticket.spec.argv[0])
                text = f"cannot start {name}: {error.strerror}"
                if not error.pid:
                    raise StartError(error.errno or 0, text) from error
                errands.began(error.pid)
                errands.reap(error.pid, uid)
                raise LateError(error.errno or 0, text) from error
            started = pid, end.our_stdin, end.our_stdout, end.our_stderr, end.our_pmi
            if self._runner.late:
                # It reads what we have prepared whenever it comes to that, and ends with 127 if there is no program.
                plan.steps = None
                plan.unseen.add(rank)
                return started
            if plan.path is not None and self._runner.has_executed(steps.first):
                return started
            results = self._runner.results(len(steps.calls))
            done = len(results)
            # The call that executes a program has no result; nor has that in which the user has killed the process.
            if done < steps.first + len(steps.candidates) and not (done and steps.has_failed(done - 1, results[-1])):
                if plan.path is None and done >= steps.first:
                    plan.path = steps.candidates[done - steps.first]
                    plan.steps = None
                return started
            errands.began(pid)
            errands.reap(pid, uid)
            self._failed(plan, steps, results, identity)

    def _output(self, plan: Plan, end: Ends, number: int, stream: int) -> int:
        """Return where stdout (1) or stderr (2) of a rank goes; `stream`: if it is not redirected."""
        file = plan.shared_files.get(number, end.files[number - 1])
        if file >= 0:
            return file
        return stream if stream >= 0 else self._null

    def _failed(self, plan: Plan, steps: Steps, results: list[int], identity: UserIds | None) -> None:
        """Change the plan so that it is worth another trial, or raise StartError."""
        last, number = len(results) - 1, -results[-1]
        if last == steps.enters:
            self._cannot_enter(plan, number)
            return
        if last == steps.binds:
            raise StartError(number, f"cannot bind to CPUs: {os.strerror(number)}")
        if last < steps.first:
            raise not_that_user(plan.ticket.user, number)
        tried = [(path, -result) for path, result in zip(steps.candidates, results[steps.first :], strict=False)]
        path = tried[-1][0]
        if number == errno.ENOEXEC and not plan.through_shell:
            if not self._ask(plan, identity, path, number, lambda: is_binary(os.path.join(plan.directory, path))):
                # A script without an interpreter line: execvp(3) gives it to the shell.
                plan.through_shell, plan.path, plan.steps = True, path, None
                return
            plan.path = path
        if plan.through_shell or plan.path is not None:
            path = plan.path or path
            words = self._ask(plan, identity, path, number, lambda: not_executed(path, plan.directory, number))
        else:
            command = plan.ticket.spec.argv[0]
            words = self._ask(
                plan, identity, command, number, lambda: not_found(command, plan.search, plan.directory, tried)
            )
        raise StartError(*words)

    def _ask(
        self, plan: Plan, identity: UserIds | None, path: bytes, number: int, question: Callable[[], Result]
    ) -> Result:
        """Have a question about a program that was refused with this errno answered with the user's rights."""
        try:
            return self._errands.call(plan.ticket.uid, identity, lambda: (question(), []))[0]  # type: ignore[return-value]
        except TimeoutError as error:
            raise LateError(number, unanswered(path, number)) from error

    def _candidates(self, plan: Plan) -> list[bytes]:
        """Return what execvp(3) would try, one after the other."""
        if plan.path is not None:
            return [plan.path]
        argv = plan.ticket.spec.argv
        if not argv or not argv[0]:
            raise StartError(errno.ENOENT, "the command is empty")
        name = argv[0]
        if b"/" in name:
            plan.path = name
            return [name]
        return [(folder or b".") + b"/" + name for folder in plan.search.split(b":")[:_MAX_SEARCHED]]

    def _work_out(self, plan: Plan, identity: UserIds | None) -> Steps:
        """Return what a child has to do."""
        spec = plan.ticket.spec
        candidates = self._candidates(plan)
        numbers = rank_numbers()
        try:
            calls = Calls()
            calls.words += self._beginning.words
            pmi = calls.add("dup3", 0, PMI_FD, 0) if spec.pmi else -1
            terminal = calls.add("ioctl", 1, termios.TIOCSCTTY, 0) if spec.terminal else -1
            for number, soft, hard in plan.limits or ():
                calls.add("prlimit64", 0, number, calls.keep(array("q", (soft, hard))), 0, may_fail=True)
            mask, binds = None, -1
            if plan.binding is not None:
                mask = array("Q", plan.binding.mask_of(0))
                binds = calls.add("sched_setaffinity", 0, mask.itemsize * len(mask), calls.keep(mask))
            calls.add("umask", spec.umask & 0o777)
            if identity is not None:
                add_identity(calls, identity, True)
            calls.words += self._seclusion.words
            if spec.pmi:
                calls.words[(len(calls) - len(self._seclusion) + self._closing) * CALL_WORDS + 1] = PMI_FD + 1
            enters = calls.add("chdir", calls.text(plan.directory))
            calls.keep(numbers)
            first = calls.add_execve(
                [_SHELL] if plan.through_shell else candidates,
                calls.strings([_SHELL, candidates[0], *spec.argv[1:]] if plan.through_shell else spec.argv),
                calls.strings(plan.environment, *numbers_at(numbers, spec.pmi)),
            )
            calls.add("exit_group", 127)
        except ValueError as error:
            raise StartError(errno.EINVAL, f"cannot start {shown_name(candidates[0])}: {error}") from error
        return Steps(calls, self._streams, pmi, terminal, enters, first, candidates, numbers, binds, mask)

    def _fork(self, plan: Plan, rank: int, end: Ends, identity: UserIds | None) -> Spawned:
        """Start a built-in command."""
        streams = (
            end.stdin if end.stdin >= 0 else self._null,
            self._output(plan, end, 1, end.stdout),
            self._output(plan, end, 2, end.stderr),
        )
        settings = own_commands.CommandSettings(
            identity, plan.directory, plan.ticket.spec.umask & 0o777, plan.limits or [], self.config.node
        )
        try:
            pid = own_commands.fork(plan.ticket.spec.argv, streams, plan.given, settings)
        except OSError as error:
            raise StartError(error.errno or 0, f"cannot start the copy: {reason_not_started(error)}") from error
        return pid, end.our_stdin, end.our_stdout, end.our_stderr, end.our_pmi


def _has_capability(number: int) -> bool:
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def _cannot_show(plan: Plan) -> StartError:
    name = shown_name(plan.ticket.spec.argv[-1] if plan.builtin else plan.ticket.spec.program)
    return StartError(
        0,
        f"this node cannot show processes the head's {name}: that needs root, and its daemons run without;"
        " --image path runs the node's own",
    )


def _open_view(view: bytes) -> list[int]:
    try:
        return own_commands.open_view(view)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StartError(0, lost_view(view, error)) from error
