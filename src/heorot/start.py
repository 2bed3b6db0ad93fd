"""The way into every command: find its module, call it, end the process. bin/heorot imports it at each start."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

DAEMONS = ("bphead", "bpnode", "bpinit")
SHORT_COMMANDS = ("bpsh", "bprsh", "bpstat", "bpps", "bpkill", "bpjob", "bpcp", "bpctl", "mpprun", "bpsrun")
"""Commands that own nothing which an exit handler must clean up."""

OUTPUT_FAILURES = (5, 9, 27, 28, 122)
"""EIO, EBADF, EFBIG, ENOSPC, EDQUOT: what a file that is our output may answer. A number costs no import."""
TOO_MANY_FILES = (23, 24)
"""ENFILE, EMFILE."""
EXIT_REFUSED = 125
"""Heorot has refused: nothing was started."""
EXIT_OUTPUT = 74
"""Our output could not be written: EX_IOERR of sysexits.h."""


def run(name: str) -> None:
    """Run the command `name` with the arguments of this process, and exit with its status. Does not return."""
    import posix

    package = "daemons" if name in DAEMONS else "cli"
    module_name = f"heorot.{package}.{name}"
    status = 1
    try:
        _open_missing_descriptors(name in DAEMONS)
        _show_any_bytes()
        __import__(module_name)
        status = sys.modules[module_name].main()
        sys.stdout.flush()
        sys.stderr.flush()
        if name not in SHORT_COMMANDS:
            sys.exit(status)
    except KeyboardInterrupt:
        _end_by_signal(2)
    except BrokenPipeError:
        # The reader of our output is gone, as in `bpps | head`: end silently, as any other program would.
        _end_by_signal(13)
    except OSError as error:
        if error.errno in TOO_MANY_FILES and name not in DAEMONS:
            hint = "; 'ulimit -n' says how many this shell allows, and 'ulimit -n 1024' more" * (error.errno == 24)
            sys.stderr.write(f"{name}: cannot go on: {error.strerror}{hint}\n")
            # Callers of ssh know one status for trouble.
            posix._exit(EXIT_REFUSED if name != "bprsh" else 255)
        if error.filename is not None or error.errno not in OUTPUT_FAILURES:
            raise
        sys.stderr.write(f"{name}: cannot write output: {error.strerror}\n")
        status = EXIT_OUTPUT
    # Nothing is left to do: taking the interpreter apart object by object would cost 2 ms more.
    posix._exit(status)


def _open_missing_descriptors(daemon: bool) -> None:
    """Put /dev/null where stdin, stdout or stderr are closed, lest a connection or a file take their place.

    Writing to a closed stdout or stderr is an error all the same, except for a daemon.
    """
    import posix

    for fd in (0, 1, 2):
        try:
            posix.fstat(fd)
        except OSError:
            # The lowest free number is this one.
            posix.open("/dev/null", posix.O_RDONLY if fd and not daemon else posix.O_RDWR)
    # Python has none for a descriptor that was closed.
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


class _Messages:
    """What commands write to stderr: arguments of any bytes are quoted there, and must not drive a terminal."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write text; progress, which drives the terminal on purpose, begins with a carriage return."""
        if "\\udc" in text or not (text.startswith("\r") or text.replace("\n", "").isprintable()):
            from heorot.core import safe_text

            text = safe_text.lines(text)
        try:
            self._file.write(text)
            self._file.flush()
        except OSError:
            pass  # nobody listens
        return len(text)

    def flush(self) -> None:
        """All is written."""


def _show_any_bytes() -> None:
    """Have stderr quote what could drive a terminal, and stdout show what it cannot encode instead of raising."""
    from _codecs import register_error

    def escaped(error: UnicodeError) -> tuple[str, int]:
        from heorot.core import safe_text

        assert isinstance(error, UnicodeEncodeError)
        return "".join(map(safe_text.escape, error.object[error.start : error.end])), error.end

    register_error("heorot.escape", escaped)
    output: Any = sys.stdout
    output.reconfigure(errors="heorot.escape")
    messages: Any = _Messages(sys.stderr)
    sys.stderr = messages


def _end_by_signal(number: int) -> None:
    """End as a program does that does not handle the signal; the shell must see that to end a loop or a script."""
    import _signal  # type: ignore[import-not-found]  # `signal` imports enum, which takes 4 ms
    import posix

    _signal.signal(number, _signal.SIG_DFL)
    posix.kill(posix.getpid(), number)
