"""Starting processes as a user, at the cost of a bare posix_spawn.

Python's subprocess falls back from vfork to fork as soon as a uid or groups are set. Instead this process *becomes the
user itself* for the moment of the spawn, real and effective, keeping a saved uid of 0 to return: the child inherits the
identity, and execve replaces the saved uid and clears all capabilities. In that moment a process of the same user
*outside* the node's PID namespace could send a signal to this one; nothing inside can.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import stat
from collections.abc import Callable

from heorot.core.messages import Ticket
from heorot.core.space_events import SpaceConfig
from heorot.images.find import interpreter_line, line_ends_of, why_not_executable
from heorot.images.identity import shown
from heorot.procs import builtins
from heorot.procs.rooms import RoomError, Rooms, lost_view
from heorot.procs.terminal import set_size

_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
_RESET_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
"""Python ignores some, and every handler is reset by execve anyway. Of those that are not named here, posix_spawn(3)
asks the kernel first, one by one."""
_CAP_SYS_RESOURCE = 24
_HEAD_BYTES = 256
"""So much the kernel looks at."""
Spawned = tuple[int, int, int, int]
"""PID, and our ends of stdin, stdout and stderr (-1: there is none)."""


class StartError(Exception):
    """A process could not be started. `error` is an errno, or 0 if the text says it all."""

    def __init__(self, error: int, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.text = text


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
        self.directory = ticket.directory or b"/"
        """Where they are started."""
        self.path: bytes | None = ticket.program or None
        self.builtin = bool(ticket.argv) and ticket.argv[0] in builtins.NAMES
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
        for entry in ticket.environment:
            name, found, value = entry.partition(b"=")
            if name and found:
                environment[name] = value
        environment[b"BPROC_PROGNAME"] = ticket.argv[0] if ticket.argv else b""
        environment[b"HEOROT_JOB"] = job.encode()
        environment[b"HEOROT_SIZE"] = b"%d" % size
        environment[b"HEOROT_NODE"] = b"%d" % config.node
        environment[b"HEOROT_SPACE"] = config.marker.encode()
        self.environment = environment

    def close(self) -> None:
        """Close the files that the ranks shared."""
        for fd in {*self.shared_files.values(), *self.given}:
            os.close(fd)
        self.shared_files = {}
        self.given = []


class Starter:
    """Starts processes for this node. `restore` is called whenever the identity was changed and is root's again."""

    def __init__(self, config: SpaceConfig, restore: Callable[[], None] | None = None) -> None:
        self.config = config
        self._restore = restore
        self.rooms = Rooms() if config.isolated else None
        """None: this node cannot show files that it does not have."""
        self._uid = os.getuid()
        self._gid = os.getgid()
        self._groups = sorted(os.getgroups())
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._baseline = {number: resource.getrlimit(number) for number in range(16)}
        self._current = dict(self._baseline)
        self._may_raise = _has_capability(_CAP_SYS_RESOURCE)
        hard = self._baseline[resource.RLIMIT_NOFILE][1]
        if self._uid == 0:
            with open("/proc/sys/fs/nr_open", "rb") as file:
                hard = max(hard, min(1_048_576, int(file.read())))
        if self._try_limit(resource.RLIMIT_NOFILE, hard, hard):
            self._current[resource.RLIMIT_NOFILE] = (hard, hard)

    def start(self, plan: Plan, ranks: list[int]) -> list[Spawned | StartError]:
        """Start these ranks of one job; one answer for each."""
        if plan.failure is not None:
            return [plan.failure] * len(ranks)
        ticket = plan.ticket
        results: list[Spawned | StartError] = []
        ends: list[_Ends] = []
        lowered: list[int] = []
        changed = moved = entered = False
        masked = ticket.umask & 0o777 != self._umask
        if masked:
            os.umask(ticket.umask & 0o777)
        try:
            for _ in ranks:
                ends.append(_Ends())
            self._open_pipes(ticket, ends)
            if plan.limits is None:
                plan.limits = self._plan_limits(plan)
            if plan.builtin:
                if plan.view and not plan.given:
                    plan.given = _open_view(plan.view)
            elif plan.view:
                moved = True
                self._enter_room(plan)
            changed = self._become(ticket)
            if moved or ticket.directory not in (b"/", b""):
                entered = True
                self._enter(plan)
            if not plan.builtin:
                self._find(plan)
            self._open_files(plan, ends)
            for number, soft, hard in plan.limits:
                # A limit on CPU time would end the daemon itself: the child gets it right after its start.
                if number != resource.RLIMIT_CPU:
                    lowered.append(number)
                    self._try_limit(number, soft, hard if self._may_raise else self._current[number][1])
            for rank, end in zip(ranks, ends, strict=True):
                try:
                    start = self._fork if plan.builtin else self._spawn
                    results.append(end.error or start(plan, rank, end))
                except StartError as error:
                    results.append(error)
        except StartError as error:
            # Something that all ranks need: each of the next ones would fail in the same way.
            if not results and error.error not in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
                plan.failure = error
            results += [error] * (len(ranks) - len(results))
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            # Whatever else a hostile ticket brings about: it fails this job, and not the daemon.
            failure = StartError(0, f"cannot start the command: {_reason(error)}")
            results += [failure] * (len(ranks) - len(results))
        finally:
            if changed:
                self._return(ticket)
            if moved and self.rooms is not None:
                self.rooms.leave()
            for number in lowered:
                self._try_limit(number, *self._current[number])
            if entered or moved:
                os.chdir("/")
            if masked:
                os.umask(self._umask)
            for index, end in enumerate(ends):
                end.close_theirs()
                if isinstance(results[index], StartError):
                    end.close_ours()
        return results

    # ------------------------------------------------------------------ before

    def _open_pipes(self, ticket: Ticket, ends: list[_Ends]) -> None:
        if ticket.terminal:
            return
        for position, end in enumerate(ends):
            try:
                if ticket.stdin == b"":
                    end.stdin, end.our_stdin = os.pipe2(os.O_CLOEXEC)
                    os.set_blocking(end.our_stdin, False)
                if ticket.stdout == b"":
                    end.our_stdout, end.stdout = os.pipe2(os.O_CLOEXEC)
                    os.set_blocking(end.our_stdout, False)
                if ticket.stderr == b"":
                    end.our_stderr, end.stderr = os.pipe2(os.O_CLOEXEC)
                    os.set_blocking(end.our_stderr, False)
            except OSError as error:
                number = error.errno or 0
                failure = StartError(number, f"the node cannot open more pipes: {os.strerror(number)}")
                for late in ends[position:]:
                    late.error = failure
                return

    def _return(self, ticket: Ticket) -> None:
        if self._keeps_ids(ticket):
            os.setgroups(self._groups)
            return
        os.setresuid(self._uid, self._uid, self._uid)
        os.setresgid(self._gid, self._gid, self._gid)
        os.setgroups(self._groups)
        if self._restore is not None:
            self._restore()

    def _keeps_ids(self, ticket: Ticket) -> bool:
        """Say whether only the groups change: root for root, whose other identity need not be set again."""
        return ticket.uid == self._uid == 0 and ticket.gid == self._gid == 0

    def _enter_room(self, plan: Plan) -> None:
        if self.rooms is None:
            raise StartError(
                0,
                f"this node cannot show processes the head's {_shown(plan.ticket.program)}: that needs root, and its"
                " daemons run without; --image path runs the node's own",
            )
        try:
            self.rooms.enter(
                plan.ticket, plan.view, lambda: self._become(plan.ticket), lambda: self._return(plan.ticket)
            )
        except RoomError as error:
            raise StartError(0, str(error)) from error

    def _become(self, ticket: Ticket) -> bool:
        if self._uid != 0:
            if ticket.uid != self._uid:
                text = f"this node runs without root, as uid {self._uid}; it cannot start processes of {ticket.user}"
                raise StartError(errno.EPERM, text)
            return False
        if ticket.uid == 0 and ticket.gid == 0 and sorted(ticket.groups) == self._groups:
            return False
        try:
            os.setgroups(ticket.groups)
            if self._keeps_ids(ticket):
                return True
            os.setresgid(ticket.gid, ticket.gid, 0)
            os.setresuid(ticket.uid, ticket.uid, 0)
        except (OSError, OverflowError, ValueError) as error:
            os.setresuid(0, 0, 0)
            os.setresgid(self._gid, self._gid, self._gid)
            os.setgroups(self._groups)
            raise StartError(errno.EPERM, f"cannot become user {ticket.user}: {error}") from error
        return True

    def _enter(self, plan: Plan) -> None:
        try:
            os.chdir(plan.directory)
        except (OSError, ValueError) as error:
            name = _shown(plan.directory)
            # A copy to a relative path would end up where nobody looks for it.
            if not self.config.bare or plan.builtin or not isinstance(error, FileNotFoundError):
                raise StartError(0, f"cannot enter the directory {name}: {_reason(error)}") from error
            # Nothing of the user's is there that a relative path could mean instead.
            plan.directory = b"/"
            plan.caveat = f"nodes with an empty file system (heorot up --bare) have no directory {name}: it ran in /"
            os.chdir(b"/")

    def _find(self, plan: Plan) -> None:
        """Look the command up in the job's PATH, as execvp(3) does, as the user, from the job's directory."""
        if plan.path is not None:
            return
        argv = plan.ticket.argv
        if not argv or not argv[0]:
            raise StartError(errno.ENOENT, "the command is empty")
        name = argv[0]
        if b"/" in name:
            plan.path = name
            return
        search = plan.environment.get(b"PATH", _DEFAULT_PATH)
        denied: bytes | None = None
        for directory in search.split(b":"):
            candidate = directory + b"/" + name if directory else b"./" + name
            try:
                if not stat.S_ISREG(os.stat(candidate).st_mode):
                    continue
            except PermissionError:
                denied = denied or candidate
                continue
            except (OSError, ValueError):
                continue
            if os.access(candidate, os.X_OK):
                plan.path = candidate
                return
            denied = denied or candidate
        if denied is not None:
            raise StartError(errno.EACCES, f"cannot execute {_shown(denied)}: Permission denied")
        if b" " in name:  # as one gives it to ssh(1)
            hint = "a line for a shell needs one: sh -c '...'"
            raise StartError(errno.ENOENT, f"no such command: {_shown(name)} ({hint})")
        raise StartError(errno.ENOENT, f"no such command: {_shown(name)} (PATH is {_shown(search)})")

    def _open_files(self, plan: Plan, ends: list[_Ends]) -> None:
        ticket = plan.ticket
        for number, path in ((1, ticket.stdout), (2, ticket.stderr)):
            if path and number not in plan.shared_files:
                if number == 2 and path == ticket.stdout:
                    plan.shared_files[2] = plan.shared_files[1]
                else:
                    plan.shared_files[number] = _open(path, plan.write_flags, "write to")
        for end in ends:
            if ticket.stdin:
                end.stdin = _open(ticket.stdin, os.O_RDONLY, "read")
            if ticket.terminal:
                end.open_terminal(ticket.terminal)

    # ------------------------------------------------------------------ limits

    def _try_limit(self, number: int, soft: int, hard: int) -> bool:
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError):
            return False
        return True

    def _wanted(self, ticket: Ticket) -> dict[int, tuple[int, int]]:
        wanted = dict(self._baseline)
        flat = ticket.limits
        for index in range(0, len(flat) - 2, 3):
            number, soft, hard = flat[index : index + 3]
            # Anything else is no rlim_t.
            if number in wanted and min(soft, hard) >= -1 and max(soft, hard) < 1 << 63:
                wanted[number] = (soft, hard)
        return wanted

    def _plan_limits(self, plan: Plan) -> list[tuple[int, int, int]]:
        """Return the limits that have to be set. Called as root: raises our own hard limits to the job's if it can."""
        changes: list[tuple[int, int, int]] = []
        for number, (soft, hard) in self._wanted(plan.ticket).items():
            own_soft, own_hard = self._current[number]
            if own_hard != -1 and (hard == -1 or hard > own_hard) and self._try_limit(number, own_soft, hard):
                own_hard = hard
                self._current[number] = (own_soft, hard)
            if own_hard != -1:
                hard = own_hard if hard == -1 else min(hard, own_hard)
            if hard != -1:
                soft = hard if soft == -1 else min(soft, hard)
            if (soft, hard) != self._current[number]:
                changes.append((number, soft, hard))
        return changes

    # ------------------------------------------------------------------ the start itself

    def _spawn(self, plan: Plan, rank: int, end: _Ends) -> Spawned:
        ticket = plan.ticket
        null = self._null
        actions: list[tuple[int, int, int] | tuple[int, int, bytes, int, int]] = []
        dup2 = os.POSIX_SPAWN_DUP2
        stdout = plan.shared_files.get(1, end.stdout if end.stdout >= 0 else null)
        stderr = plan.shared_files.get(2, end.stderr if end.stderr >= 0 else null)
        if end.terminal:
            # Opened after setsid, it becomes the controlling terminal.
            actions.append((os.POSIX_SPAWN_OPEN, 1, end.terminal, os.O_RDWR, 0))
            actions.append((dup2, 1, 2))
            actions.append((dup2, 1 if ticket.stdin == b"" else end.stdin if end.stdin >= 0 else null, 0))
            actions += [(dup2, fd, number) for number, fd in sorted(plan.shared_files.items())]
        else:
            actions.append((dup2, end.stdin if end.stdin >= 0 else null, 0))
            actions.append((dup2, stdout, 1))
            actions.append((dup2, stderr, 2))
        environment = plan.environment
        environment[b"BPROC_RANK"] = b"%07d" % rank
        environment[b"HEOROT_RANK"] = b"%d" % rank
        path = plan.path
        assert path is not None
        argv = [b"/bin/sh", path, *ticket.argv[1:]] if plan.through_shell else ticket.argv
        try:
            pid = os.posix_spawn(
                b"/bin/sh" if plan.through_shell else path,
                argv,
                environment,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=_RESET_SIGNALS,
            )
        except OSError as error:
            if error.errno == errno.ENOEXEC and not plan.through_shell and not _is_binary(path):
                # A script without an interpreter line: execvp(3) gives it to the shell.
                plan.through_shell = True
                return self._spawn(plan, rank, end)
            raise _spawn_error(error, path) from error
        except (ValueError, MemoryError) as error:
            raise StartError(errno.EINVAL, f"cannot start {_shown(path)}: {error}") from error
        self._limit_child(plan, pid)
        return pid, end.our_stdin, end.our_stdout, end.our_stderr

    def _fork(self, plan: Plan, rank: int, end: _Ends) -> Spawned:
        """Start a built-in command."""
        ticket = plan.ticket
        streams = (
            end.stdin if end.stdin >= 0 else self._null,
            plan.shared_files.get(1, end.stdout if end.stdout >= 0 else self._null),
            plan.shared_files.get(2, end.stderr if end.stderr >= 0 else self._null),
        )
        identity = (ticket.uid, ticket.gid) if self._uid == 0 else None
        try:
            pid = builtins.fork(ticket.argv, streams, plan.given, identity, self.config.node)
        except OSError as error:
            raise StartError(error.errno or 0, f"cannot start the copy: {_reason(error)}") from error
        self._limit_child(plan, pid)
        return pid, end.our_stdin, end.our_stdout, end.our_stderr

    def _limit_child(self, plan: Plan, pid: int) -> None:
        for number, soft, hard in plan.limits or ():
            # So does one whose hard limit we could not raise again for ourselves.
            if number == resource.RLIMIT_CPU or (hard != self._current[number][1] and not self._may_raise):
                with contextlib.suppress(OSError, ValueError):
                    resource.prlimit(pid, number, (soft, hard))


class _Ends:
    """Both ends of one rank's three streams; -1: none."""

    __slots__ = ("error", "our_stderr", "our_stdin", "our_stdout", "stderr", "stdin", "stdout", "terminal")

    def __init__(self) -> None:
        self.stdin = self.stdout = self.stderr = -1
        self.our_stdin = self.our_stdout = self.our_stderr = -1
        self.terminal = b""
        self.error: StartError | None = None

    def open_terminal(self, size: list[int]) -> None:
        """Open a pseudo-terminal that belongs to the current user."""
        rows, columns = (*size, 0, 0)[:2]
        try:
            # Our slave is kept open until the child has its own, so that the terminal does not hang up before.
            self.our_stdout, self.stdout = master, slave = os.openpty()
            set_size(master, rows, columns)
            self.terminal = os.ttyname(slave).encode()
            os.set_blocking(master, False)
            self.our_stdin = os.dup(master)
        except OSError as error:
            self.error = StartError(error.errno or 0, f"cannot open a pseudo-terminal: {_reason(error)}")

    def close_theirs(self) -> None:
        """Close the child's ends."""
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)

    def close_ours(self) -> None:
        """Close our ends."""
        for fd in (self.our_stdin, self.our_stdout, self.our_stderr):
            if fd >= 0:
                os.close(fd)


def _has_capability(number: int) -> bool:
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def _shown(name: bytes) -> str:
    """Return a name of any bytes as text that can be sent: UTF-8 has no surrogates."""
    return name.decode("utf-8", "backslashreplace")


def _reason(error: Exception) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def _open(path: bytes, flags: int, purpose: str) -> int:
    try:
        # Opening a FIFO would wait for its other end, and the whole node with it.
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o666)
        os.set_blocking(fd, True)
        return fd
    except (OSError, ValueError) as error:
        raise StartError(0, f"cannot {purpose} {_shown(path)}: {_reason(error)}") from error


def _open_view(view: bytes) -> list[int]:
    try:
        return builtins.open_view(view)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StartError(0, lost_view(view, error)) from error


def _head(path: bytes) -> bytes:
    """Return how a file begins, if it can be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _is_binary(path: bytes) -> bool:
    """Say whether this is an ELF file: then it is for another architecture, and nothing for a shell."""
    return _head(path).startswith(b"\x7fELF")


def _no_interpreter(path: bytes) -> str:
    """Return what execve(2) did not find of what this program needs, in words."""
    words = interpreter_line(_head(path))
    if not words:
        return "its interpreter does not exist"
    return f"its interpreter {shown(words[0])} does not exist{line_ends_of(words[0])}"


def _spawn_error(error: OSError, path: bytes) -> StartError:
    name = _shown(path)
    number = error.errno or 0
    if number == errno.ENOENT:
        if os.path.exists(path):
            return StartError(number, f"cannot execute {name}: {_no_interpreter(path)}")
        return StartError(number, f"no such command: {name}")
    if number == errno.EACCES:
        with contextlib.suppress(OSError):
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode) or not mode & 0o111:
                return StartError(number, f"cannot execute {name}: {why_not_executable(mode)}")
    if number == errno.ENOEXEC:
        return StartError(number, f"cannot execute {name}: it is for another kind of machine than this node")
    if number == errno.E2BIG:
        return StartError(number, f"cannot execute {name}: the arguments and environment are too long for this node")
    if number == errno.EAGAIN:
        return StartError(number, f"cannot start {name}: the limit on processes is reached")
    return StartError(number, f"cannot execute {name}: {os.strerror(number)}")
