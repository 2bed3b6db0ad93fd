"""The way into every command: find its module, call it, end the process. bin/heorot imports it at each start."""

from __future__ import annotations

import sys

DAEMONS = ("bphead", "bpnode", "bpinit")
SHORT_COMMANDS = ("bpsh", "bpstat", "bpps", "bpkill", "bpjob", "bpctl", "bpcp")
"""Commands that own nothing which an exit handler must clean up."""

OUTPUT_FAILURES = (5, 27, 28, 122)
"""EIO, EFBIG, ENOSPC, EDQUOT: what a file that is our output may answer. A number costs no import."""


def run(name: str) -> None:
    """Run the command `name` with the arguments of this process, and exit with its status. Does not return."""
    package = "daemons" if name in DAEMONS else "cli"
    module_name = f"heorot.{package}.{name}"
    status = 1
    try:
        _open_missing_descriptors()
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
        if error.filename is not None or error.errno not in OUTPUT_FAILURES:
            raise
        sys.stderr.write(f"{name}: cannot write output: {error.strerror}\n")
        status = 125
    # Nothing is left to do: taking the interpreter apart object by object would cost 2 ms more.
    import posix

    posix._exit(status)


def _open_missing_descriptors() -> None:
    """Put /dev/null where stdin, stdout or stderr are closed, lest a connection or a file take their place."""
    import posix

    for fd in (0, 1, 2):
        try:
            posix.fstat(fd)
        except OSError:
            # The lowest free number is this one.
            posix.open("/dev/null", posix.O_RDWR)
    # Python has none for a descriptor that was closed.
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def _end_by_signal(number: int) -> None:
    """End as a program does that does not handle the signal; the shell must see that to end a loop or a script."""
    import _signal  # type: ignore[import-not-found]  # `signal` imports enum, which takes 4 ms
    import posix

    _signal.signal(number, _signal.SIG_DFL)
    posix.kill(posix.getpid(), number)
