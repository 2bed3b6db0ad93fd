"""`bpsh`: run a command on nodes, as if it were here."""

from __future__ import annotations

import os
import sys
from time import monotonic_ns

from heorot.start import EXIT_OUTPUT, EXIT_REFUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from heorot.cli.foreground.forms import Form, Sink
    from heorot.cli.foreground.options import BpshOptions
    from heorot.client.connection import Connection
    from heorot.core.client.job import JobState
    from heorot.core.client.read_stream import ReadStream
    from heorot.core.client.session import Session
    from heorot.images.offer import Offer

EXIT_USAGE = 2
MAX_HELD_BYTES = 1024 * 1024 * 1024
"""How much of the output of ranks whose turn has not come is held with -s; beyond, these ranks wait."""


def main() -> int:
    """Run the command; return the status to exit with."""
    return run_bpsh(sys.argv[1:])


def run_bpsh(words: list[str]) -> int:
    """Run the command with these arguments; return the status to exit with."""
    from heorot.cli.foreground.options import USAGE, BpshOptions, help_text
    from heorot.cli.options import UsageError

    try:
        options = BpshOptions(words)
    except UsageError as error:
        sys.stderr.write(f"bpsh: {error}\n{USAGE}\nTry 'bpsh --help'.\n")
        return EXIT_USAGE
    if options.help:
        sys.stdout.write(help_text())
        return 0
    if options.version:
        from heorot import __version__

        sys.stdout.write(f"bpsh (Heorot) {__version__}\n")
        return 0
    try:
        return run_job(options)
    finally:
        if options.time:
            _say_time()


def _say(text: str) -> None:
    sys.stderr.write(f"bpsh: {text}\n")


def _is_null_device(fd: int) -> bool:
    status = os.fstat(fd)
    return status.st_mode & 0o170000 == 0o020000 and status.st_rdev == os.makedev(1, 3)


def run_job(options: BpshOptions) -> int:
    """Run the job that these options ask for; return the status to exit with."""
    from heorot.client import caller
    from heorot.client.connection import Connection
    from heorot.client.endpoint import cluster_directory
    from heorot.core.client.session import Session
    from heorot.core.errors import HeorotError

    if options.stdin == b"" and not options.pty and _is_null_device(0):
        # Our /dev/null may as well be theirs: that saves a message to every node which says that there is no input.
        options.stdin = None
    session = Session()
    directory = cluster_directory(options.directory)
    connection = Connection(directory, session)
    environment = options.environment or caller.environment_at_start()
    try:
        connection.reach()
        _see_that_files_can_be_opened()
        offer = _offer(options, session, environment)
        if offer is not None and options.detach:
            from heorot.cli.foreground.staging import stage_program

            # We shall be gone when a node asks for the program.
            stage_program(session, connection, offer.image, _say)
        if options.rolling:
            from heorot.cli.foreground.rolling import Rolling

            def launch(nodes: str) -> JobState:
                return _launch(options, session, environment, offer, nodes, "list")

            return Rolling(options, session, connection, launch, _form).run()
        job = _launch(options, session, environment, offer, options.nodes, options.select)
    except HeorotError as error:
        sys.stderr.write(f"{options.name}: {error}\n")
        from heorot.core.client.end import EXIT_NO_COMMAND
        from heorot.images.identity import CommandError

        if options.trouble_status or not isinstance(error, CommandError):
            return options.trouble_status or EXIT_REFUSED
        if error.exit_status == EXIT_NO_COMMAND:
            _hint(options, directory, _say)
        return error.exit_status
    # The cluster works while we load the rest.
    connection.flush()
    return _follow(options, session, connection, job)


def _launch(
    options: BpshOptions, session: Session, environment: list[bytes], offer: Offer | None, nodes: str, select: str
) -> JobState:
    """Ask for the job on these nodes."""
    from heorot.client import caller
    from heorot.core.client.messages import KEY_BYTES

    return session.spawn(
        monotonic_ns() // 1_000_000,
        nodes=nodes,
        select=select,
        argv=options.argv,
        environment=environment,
        directory=caller.directory() if not options.stage else b"/",
        umask=caller.umask(),
        limits=caller.limits(),
        stdin=options.stdin,
        stdout=options.stdout,
        stderr=options.stderr,
        terminal=_terminal_size() if options.pty else [],
        detached=options.detach,
        max_processes=options.max_processes,
        tell_started=options.json,
        key=os.urandom(KEY_BYTES),
        headless_ms=options.headless_ms,
        linger=options.linger,
        pmi=options.mpi,
        ranks=options.ranks,
        ranks_per_node=options.ranks_per_node,
        patterns=options.patterns,
        time_limit_ms=options.time_limit_ms,
        bind=options.bind,
        stdin_ranks=options.stdin_ranks,
        image=offer.image if offer is not None else b"",
        program=offer.program if offer is not None else b"",
        program_id=offer.program_id if offer is not None else b"",
    )


def _see_that_files_can_be_opened() -> None:
    """Raise OSError if we may not open what it takes to follow the job: it shall not be started then."""
    for fd in (*os.pipe(), *os.pipe()):
        os.close(fd)


def _offer(options: BpshOptions, session: Session, environment: list[bytes]) -> Offer | None:
    """Return the image that we offer with the launch; None: the nodes run what they have."""
    if options.image == "path":
        return None
    from heorot.client import caller
    from heorot.images.offer import Upload, offer_command

    offer = offer_command(
        options.argv[0],
        environment,
        caller.directory(),
        extra=options.extra,
        always_send=options.image == "send" or options.stage,
        terminal=options.pty,
        say=_say,
    )
    if offer is not None:
        session.offer(Upload(offer), offer.image)
        if options.stage:
            from heorot.client.stage import stage_argv

            options.argv = stage_argv(offer)
    return offer


def _terminal_size() -> list[int]:
    from heorot.cli.foreground import terminal

    return list(terminal.size(0, 1, 2))


def _follow(options: BpshOptions, session: Session, connection: Connection, job: JobState) -> int:
    from heorot.cli.foreground import terminal
    from heorot.cli.foreground.forms import Sink
    from heorot.cli.foreground.loop import ForegroundLoop

    def consumed(stream: ReadStream, count: int) -> None:
        session.consumed(job, stream, count)

    sinks = {number: Sink(number, consumed) for number in (1, 2)}

    def form() -> Form:
        return _form(options, session, job, sinks)

    raw_mode = terminal.RawMode(0) if options.pty and options.stdin == b"" and os.isatty(0) else None
    if raw_mode is not None:
        from heorot.cli.foreground.escape import Escape
        from heorot.cli.foreground.terminal_loop import TerminalLoop

        keys = Escape(options.escape) if options.escape else None
        relay: ForegroundLoop = TerminalLoop(session, connection, job, sinks, form, raw_mode=raw_mode, keys=keys)
    else:
        read_stdin = options.stdin == b""
        relay = ForegroundLoop(
            "bpsh", session, connection, job, sinks, form, read_stdin=read_stdin, forward_size=options.pty
        )
    relay.says_failures = not options.json
    relay.name, relay.refused_status = options.name, options.trouble_status or EXIT_REFUSED
    try:
        status = relay.run_until_acknowledged()
        if status is not None:
            return status
        if options.stdout or options.stderr:
            from heorot.cli.foreground.shared_files import warning_of

            if warning := warning_of(job.nodes, options.stdout, options.stderr, options.patterns):
                relay.say(warning)
        if options.detach:
            return _print_id(job.id)
        status = relay.run()
        relay.release()
        if status:
            from heorot.core.client.end import EXIT_NO_COMMAND

            failed = any(end.error is not None for end in job.statuses.values())
            if failed and options.trouble_status:
                return options.trouble_status
            if status == EXIT_NO_COMMAND and failed and not options.json:
                _hint(options, connection.directory, relay.say)
        if relay.interrupted:
            raise KeyboardInterrupt
        return status
    finally:
        if raw_mode is not None:
            raw_mode.leave()


def _print_id(job: str) -> int:
    """Print the id of a detached job; return the status to exit with."""
    try:
        sys.stdout.write(f"{job}\n")
        sys.stdout.flush()
    except OSError as error:
        # It runs, and whoever takes this for a refusal would start it twice.
        _say(f"job {job} runs, but its id could not be written: {error.strerror}; 'bpjob kill {job}' ends it")
        if isinstance(error, BrokenPipeError):
            raise
        # Python would try to write it again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
        return EXIT_OUTPUT
    return 0


def _hint(options: BpshOptions, directory: str, say: Callable[[str], object]) -> None:
    """There is no such command: say so if it is a node, or something for a shell."""
    from heorot.cli.foreground.shell_hint import shell_hint

    text = shell_hint(options.nodes or f"-{'a' if options.select == 'up' else 'A'}", options.argv)
    if not text and b"/" not in options.argv[0]:
        from heorot.cli.foreground.node_hint import hint

        text = hint(directory, options.nodes, options.argv)
    if text:
        say(text)


def _form(options: BpshOptions, session: Session, job: JobState, sinks: dict[int, Sink]) -> Form:
    from heorot.cli.foreground import words as messages
    from heorot.cli.foreground.forms import LineForm, PlainForm, SequentialForm

    def consumed(stream: ReadStream, count: int) -> None:
        session.consumed(job, stream, count)

    if options.gather or options.json:
        from heorot.cli.foreground import collect
        from heorot.cli.foreground.held import Held

        held = Held(consumed)
        return collect.JsonForm(held, job, sinks[1]) if options.json else collect.GatherForm(held, job, sinks)
    form: Form = PlainForm(sinks)
    if options.lines:
        prefixes: list[bytes] = []
        if options.prefix:
            prefixes = [b"%3d: " % node for node in job.nodes]
        elif options.label:
            prefixes = [f"{messages.node_name(node)}: ".encode() for node in job.nodes]
        form = LineForm(sinks, consumed, prefixes, options.line_bytes)
    if options.sequential:
        from heorot.cli.foreground.held import Held

        def divide(rank: int) -> None:
            sinks[1].write(b"%3d %s\n" % (job.nodes[rank], b"-" * 72))

        def kept(stream: ReadStream, count: int) -> None:
            session.consumed_ahead(job, stream, count)

        form = SequentialForm(form, job, sinks, Held(kept, MAX_HELD_BYTES), divide if options.divide else None)
    return form


def _say_time() -> None:
    """Write to stderr how long this process has lived."""
    import time

    with open("/proc/self/stat", "rb") as file:
        # After the parenthesized name; field 22 of proc(5), in clock ticks since boot.
        started_ticks = int(file.read().rpartition(b")")[2].split()[19])
    elapsed_s = time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
    sys.stderr.write(f"bpsh: {elapsed_s:.3f} s\n")
