"""`bprsh`: run a command on one node for programs that want ssh or rsh."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.cli.foreground.options import BpshOptions
    from heorot.cli.foreground.ssh_options import SshOptions

EXIT_TROUBLE = 255
"""What callers of ssh take for trouble on the way: the command has not run, or what became of it is not known."""


def main() -> int:
    """Run the command; return the status to exit with."""
    return run_bprsh(sys.argv[1:])


def run_bprsh(words: list[str]) -> int:
    """Run the command with these arguments; return the status to exit with."""
    from heorot.cli.foreground.ssh_options import USAGE, SshOptions, ssh_help
    from heorot.cli.options import UsageError
    from heorot.core.errors import HeorotError

    try:
        options = SshOptions(words)
    except UsageError as error:
        sys.stderr.write(f"bprsh: {error}\n{USAGE}\nTry 'bprsh --help'.\n")
        return EXIT_TROUBLE
    if options.help:
        sys.stdout.write(ssh_help())
        return 0
    if options.version:
        from heorot import __version__

        sys.stdout.write(f"bprsh (Heorot) {__version__}\n")
        return 0
    try:
        if options.show:
            return _show(options)
        job = _job(options)
    except (HeorotError, UsageError) as error:
        sys.stderr.write(f"bprsh: {error}\n")
        return EXIT_TROUBLE
    from heorot.cli.bpsh import run_job

    return run_job(job)


def _show(options: SshOptions) -> int:
    """Say what ``ssh -G`` says, as far as it means anything here: git asks so whether we are an ssh."""
    from heorot.cli.foreground.remote_shell import own_login

    user = options.user or own_login().name
    sys.stdout.write(f"host {options.host}\nuser {user}\nhostname {options.host}\nport 22\n")
    return 0


def _job(options: SshOptions) -> BpshOptions:
    """Return the job that does what the caller wants.

    Raises
    ------
    RequestError
        If the user cannot be who is wanted, or the host is no node, or several.
    UsageError
        If the escape character is none.
    """
    from heorot.cli.foreground import remote_shell
    from heorot.cli.foreground.options import BpshOptions
    from heorot.client import caller
    from heorot.client.endpoint import cluster_directory

    if options.user:
        remote_shell.become(options.user)
    _check_host(options)
    here = os.isatty(0)
    terminal = options.wants_terminal(here)
    _say_what_is_left_out(options, terminal)
    # The node's own shell, as ssh has it: ours may come with libraries that the node's programs are not made for.
    directory = os.path.abspath(cluster_directory(options.directory))
    words = ["--image", "path", "--dir", directory]
    words += ["-n"] * (not options.stdin) + ["--pty"] * terminal
    words += ["--escape", options.escape] if terminal and options.escape else []
    command = [options.command] if options.command and not options.subsystem else []
    job = BpshOptions([*words, "--", options.host, "--", *remote_shell.ARGV, *command])
    named = bool(options.directory or os.environ.get("HEOROT_DIR"))
    assignments = [f"HEOROT_DIR={directory}"] * named + options.set
    login, local = remote_shell.own_login(), caller.environment_at_start()
    job.environment = remote_shell.login_environment(login, local, options.send, assignments, terminal)
    job.environment.append(remote_shell.BEGIN + b"=" + remote_shell.begin_with(options.command, options.subsystem))
    # Every node has this directory; where the caller is may not be there.
    os.chdir("/")
    job.name = "bprsh"
    job.trouble_status = EXIT_TROUBLE
    return job


def _check_host(options: SshOptions) -> None:
    """See that the host is one node; what is plainly one costs no question.

    Raises
    ------
    RequestError
        What the head says of a name that it does not know; ``nodes`` if there are several of this name.
    """
    from heorot.cli.foreground.ssh_options import is_node

    if is_node(options.host):
        return
    import contextlib

    from heorot.cli.request import Head
    from heorot.core.errors import RequestError

    with contextlib.closing(Head(options.directory)) as head:
        found = head.ask("resolve", options.host, "list")
    if len(found) != 1:
        raise RequestError("nodes", f"'{options.host}' is {len(found)} nodes, and a host is one; 'bpsh' takes lists")


def _say_what_is_left_out(options: SshOptions, terminal: bool) -> None:
    if options.quiet:
        return
    for option in options.left_out:
        sys.stderr.write(f"bprsh: {option} changes nothing: neither an agent nor windows are forwarded\n")
    if options.terminal and not terminal:
        sys.stderr.write("bprsh: no terminal for the command, as stdin is none here; -tt gives one in any case\n")
