"""The command line of `bpsh`."""

from __future__ import annotations

import os

from heorot.cli.options import Option, OptionTable, Parsed, UsageError
from heorot.client.here import with_here

USAGE = "usage: bpsh [options] NODES COMMAND [ARG...]"
ABOUT = """\
       bpsh [options] -a|-A COMMAND [ARG...]

Run a command on nodes. NODES is a list such as 3, n3, 0-7, n[0-63,70], up, master; options may also follow it.
"""
NOTES = """
The exit status is the largest of the processes': 128+N for death by signal N, 127 no such command, 126 not executable,
255 node lost, 125 refused, 74 output not written, 2 wrong usage.
"""

DEFAULT_LINE_BYTES = 4096
MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_PROCESSES = 4 * 1024 * 1024
MAX_HEADLESS_S = MAX_TIME_LIMIT_S = 10 * 365 * 86400
MAX_RANKS, MAX_RANKS_PER_NODE = 131_072, 4096
"""As in `heorot.core.wire.launch`, which costs more to load."""

SECTIONS = (
    ("Which nodes, and how many processes", (
        Option("-a", "all nodes that are up", key="up"),
        Option("-A", "all nodes that are not down", key="not_down"),
        Option("--ranks", "start N processes, in equal blocks on the nodes", "N"),
        Option("--ranks-per-node", "start K on each node; with --ranks, at most K", "K"),
        Option(
            "--bind",
            "bind each process to a core or CPU of its node, or the first one to the CPUs before the first colon,\n"
            "the second to those behind it: 0-3:4-7",
            "core|cpu|CPUS",
        ),
    )),
    ("Input and output", (
        Option("-n", "stdin from /dev/null", key="no_stdin"),
        Option("-N", "no input and output at all (/dev/null on the nodes)", key="no_io"),
        Option("--input", "stdin to these ranks only, such as 0 or 0,4-7; the others have /dev/null", "RANKS"),
        Option("-I --stdin", "stdin from a file on the node; %r, %n, %j in its name: rank, node, job", "FILE"),
        Option("-O --stdout", "stdout into a file on the node, named in the same way", "FILE"),
        Option("-E --stderr", "stderr into a file on the node, named in the same way", "FILE"),
        Option("--pty", "give each process a terminal"),
        Option(
            "-e --escape", "with --pty, at the start of a line: what follows is for bpsh (~, and ~? lists)", "CHAR|none"
        ),
    )),
    ("The program", (
        Option(
            "--image",
            "auto (the default): run the node's own file if it is the same as here, else send this one;\n"
            "send: the program with its interpreter and libraries, whatever the node has;\n"
            "path: run what the node itself has under this name",
            "auto|send|path",
        ),
        Option("--with", "send this file or directory, too; may be repeated", "PATH"),
        Option("--stage", "send the program ahead, to every one of the nodes, and start nothing"),
    )),
    ("How output is shown", (
        Option("-L", "whole lines, never mixed", key="lines"),
        Option("-b", "longest line kept together by -L, in bytes (4096)", "N", key="line_bytes"),
        Option("-p", "each line with the number of its node in front (implies -L)", key="prefix"),
        Option("--label", "each line with the name of its node in front (implies -L)"),
        Option("-s", "one node after the other, in order", key="sequential"),
        Option("-d", "a divider line before each node's output (implies -s)", key="divide"),
        Option("--gather", "at the end, equal output of several nodes shown once"),
        Option("--json", "at the end, one JSON document with statuses and output"),
    )),
    ("The job", (
        Option(
            "--fanout --rolling",
            "on N nodes at a time, and on the next N when these are over; stdin is /dev/null",
            "N",
        ),
        Option("--stop-on-failure", "with --rolling: begin with no further nodes when one has failed"),
        Option("--detach", "leave the job running, print its id and end"),
        Option("--linger", "what a process leaves running stays part of the job until it ends, and is not killed"),
        Option("--mpi", "processes of MPI (MPICH) find each other, and end together"),
        Option("--timeout", "end the job on a node after so long: 90, 1.5m, 2h or 1d; its status is 124 then", "TIME"),
        Option("--headless", "end the job on a node that has been without any head for so long", "SECONDS"),
        Option("--max-processes", "end the job if it has more than N processes on a node", "N"),
        Option("-t --time", "print the wall time to stderr"),
        Option("--dir", "the cluster's directory (HEOROT_DIR, /run/heorot)", "DIR"),
        Option("-l", "ignored, for callers that expect rsh", "USER"),
        Option("-h --help", "this text"),
        Option("-v -V --version", "the version"),
    )),
)  # fmt: skip
_TABLE = OptionTable(option for _, options in SECTIONS for option in options)


def help_text() -> str:
    """Return what ``--help`` prints."""
    from heorot.cli.arguments import option_lines

    lines = [USAGE, ABOUT]
    for title, options in SECTIONS:
        lines += [f"{title}:", *option_lines(options, 22)]
    return "\n".join(lines) + "\n" + NOTES


_LINES = ("lines", "prefix", "label")
_SEQUENTIAL = ("sequential", "divide")
_CONFLICTS = (
    ("prefix", ("label",)),
    ("gather", ("json", "pty", *_LINES, *_SEQUENTIAL)),
    ("json", ("pty", *_LINES, *_SEQUENTIAL)),
    ("detach", ("pty", "gather", "json", *_LINES, *_SEQUENTIAL)),
    ("no_io", ("pty", "input")),
    ("input", ("no_stdin", "stdin", "detach")),
    ("stage", ("stdin", "stdout", "stderr", "pty", "detach", "linger", "headless", "max-processes", "mpi")),
    ("stage", ("ranks", "ranks-per-node", "bind", "input", "timeout", "rolling")),
    ("rolling", ("json", "pty", "detach", "ranks", "input")),
)
_SPELLINGS = {"lines": "-L", "prefix": "-p", "sequential": "-s", "divide": "-d", "no_io": "-N", "no_stdin": "-n"}


def _refuse_conflicts(parsed: Parsed) -> None:
    for option, others in _CONFLICTS:
        for other in others:
            if parsed.has(option) and parsed.has(other):
                spelled = (_SPELLINGS.get(name, f"--{name}") for name in (option, other))
                raise UsageError(f"{' and '.join(spelled)} exclude each other")


class Manner:
    """In which way a job is run, where commands that are made of `bpsh` differ.

    Attributes
    ----------
    name:
        Of the command, for what it says.
    environment:
        Of the ranks; None: the caller's own.
    trouble_status:
        The status if no command has run, for callers who want one of their own; 0: `bpsh`'s statuses.
    """

    __slots__ = ("environment", "name", "trouble_status")

    def __init__(self) -> None:
        self.name = "bpsh"
        self.environment: list[bytes] | None = None
        self.trouble_status = 0


class BpshOptions(Manner):
    """What the user asked for."""

    __slots__ = (
        "argv", "bind", "detach", "directory", "divide", "escape", "extra", "gather", "headless_ms", "help", "image",
        "json", "label", "line_bytes", "lines", "linger", "max_processes", "mpi", "nodes", "patterns", "prefix", "pty",
        "ranks", "ranks_per_node", "rolling", "select", "sequential", "stage", "stderr", "stdin", "stdin_ranks",
        "stdout", "stop_on_failure", "time", "time_limit_ms", "version",
    )  # fmt: skip

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        parsed = Parsed()
        index = _TABLE.take(words, 0, parsed)
        self.help = parsed.has("help")
        self.version = parsed.has("version")
        self.argv: list[bytes] = []
        if self.help or self.version:
            return
        everything = parsed.has("up") or parsed.has("not_down")
        self.nodes = ""
        if not everything:
            if index >= len(words):
                raise UsageError("no nodes given; say which, or -a for all that are up")
            self.nodes = with_here(words[index])
            # Options may follow the nodes, and one more "--" may end those.
            index = _TABLE.take(words, index + 1, parsed)
            if parsed.has("up") or parsed.has("not_down"):
                raise UsageError(f"-a and -A replace the node list, but {self.nodes!r} is given as well")
            self.help = parsed.has("help")
            self.version = parsed.has("version")
            if self.help or self.version:
                return
        if parsed.has("up") and parsed.has("not_down"):
            raise UsageError("-a and -A exclude each other")
        self.select = "up" if parsed.has("up") else "notdown" if parsed.has("not_down") else "list"
        if index >= len(words):
            raise UsageError("no command given" + (_after(self.nodes) if self.nodes else ""))
        self.argv = [os.fsencode(word) for word in words[index:]]
        if not self.argv[0]:
            raise UsageError("the command is empty")
        self._set(parsed)
        _refuse_conflicts(parsed)

    def _set(self, parsed: Parsed) -> None:
        self.directory = parsed.values.get("dir")
        self.line_bytes = parsed.integer("line_bytes", DEFAULT_LINE_BYTES, 1, MAX_LINE_BYTES)
        self.max_processes = parsed.integer("max-processes", 0, 1, MAX_PROCESSES)
        self.bind = _binding(parsed)
        self.rolling = parsed.integer("rolling", 0, 1, MAX_RANKS)
        self.stop_on_failure = parsed.has("stop-on-failure")
        if self.stop_on_failure and not self.rolling:
            raise UsageError("--stop-on-failure needs --rolling: without it all nodes begin at once")
        self.time_limit_ms = parsed.milliseconds("timeout", 0, MAX_TIME_LIMIT_S)
        self.ranks = parsed.integer("ranks", 0, 1, MAX_RANKS)
        self.ranks_per_node = parsed.integer("ranks-per-node", 0, 1, MAX_RANKS_PER_NODE)
        self.headless_ms = 1000 * parsed.integer("headless", 0, 1, MAX_HEADLESS_S)
        self.image = parsed.get("image", "auto")
        if self.image not in ("auto", "send", "path"):
            raise UsageError(f"--image is auto, send or path, not {self.image!r}")
        self.extra = [_path(name, "--with") for name in parsed.all("with")]
        if self.extra and self.image == "path":
            raise UsageError("--with and --image path exclude each other: nothing is sent")
        self.stage = parsed.has("stage")
        if self.stage and self.image == "path":
            raise UsageError("--stage and --image path exclude each other: nothing is sent")
        if self.stage and len(self.argv) > 1:
            raise UsageError("--stage starts nothing: name the program alone, and other files with --with")
        self.pty = parsed.has("pty")
        self.escape = _escape(parsed.get("escape", "~"))
        self.gather = parsed.has("gather")
        self.json = parsed.has("json")
        self.detach = parsed.has("detach")
        self.label = parsed.has("label")
        self.linger = parsed.has("linger")
        self.mpi = parsed.has("mpi")
        self.prefix = parsed.has("prefix")
        self.lines = parsed.has("lines") or self.prefix or self.label
        self.divide = parsed.has("divide")
        self.sequential = parsed.has("sequential") or self.divide
        self.time = parsed.has("time")
        default: bytes | None = None if parsed.has("no_io") else b""
        self.stdin = default
        if parsed.has("stdin"):
            self.stdin = _path(parsed.get("stdin"), "-I")
        elif parsed.has("no_stdin") or self.detach or self.stage or self.rolling:
            # Nobody would feed a detached job, or one that only sends; and the first nodes would have the input of all.
            self.stdin = None
        self.stdout = _path(parsed.get("stdout"), "-O") if parsed.has("stdout") else default
        self.stderr = _path(parsed.get("stderr"), "-E") if parsed.has("stderr") else default
        self.stdin_ranks = _input_ranks(parsed) if self.stdin == b"" else None
        if self.stdin_ranks == []:
            self.stdin = self.stdin_ranks = None
        self.patterns = _has_patterns(self.stdin, self.stdout, self.stderr)


def _after(nodes: str) -> str:
    """Return what to say of the one word that was given."""
    if any(character.isdigit() for character in nodes) or nodes in ("up", "all", "master"):
        return f" after the nodes {nodes!r}; for a shell there: bpsh {nodes} --pty bash"
    return f": {nodes!r} was taken for the nodes; on all that are up: bpsh -a {nodes}"


def _escape(text: str) -> bytes | None:
    if text == "~":
        return b"~"
    from heorot.cli.foreground.escape import character_of

    try:
        return character_of(text)
    except ValueError:
        raise UsageError(f"--escape is one character, ^ and a letter, or none, not {text!r}") from None


def _path(text: str, spelling: str) -> bytes:
    if not text:
        raise UsageError(f"the file of {spelling} is empty")
    return os.fsencode(text)


def _binding(parsed: Parsed) -> str:
    """Return to which CPUs processes are bound; empty: to none. Raises UsageError."""
    bind = parsed.get("bind", "none")
    if bind == "none":
        return ""
    from heorot.core.wire.cpu_lists import why_no_binding

    why = why_no_binding(bind) if bind else "the CPUs of --bind are empty"
    if why:
        raise UsageError(why)
    return bind


def _input_ranks(parsed: Parsed) -> list[int] | None:
    """Return which ranks have our stdin, as ranges (first, last); None: all of them. Raises UsageError."""
    text = parsed.get("input", "all")
    if text in ("all", "none"):
        return None if text == "all" else []
    from heorot.cli.bpkill import parse_ranks
    from heorot.core.tree.nodeset import NodeSet

    return NodeSet.of(parse_ranks(text, f"--input {text}")).ranges()


def _has_patterns(*paths: bytes | None) -> bool:
    """Say whether one of these names is a pattern. Raises UsageError if it is and cannot be read."""
    patterns = [path for path in paths if path and b"%" in path]
    if patterns:
        from heorot.core.wire.path_patterns import why_no_pattern

        for pattern in patterns:
            why = why_no_pattern(pattern)
            if why:
                raise UsageError(why)
    return bool(patterns)
