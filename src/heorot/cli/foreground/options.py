"""The command line of `bpsh`."""

from __future__ import annotations

import os

from heorot.cli.options import OptionSyntax, OptionTable, UsageError, integer

USAGE = "usage: bpsh [options] NODES COMMAND [ARG...]"
HELP = """\
usage: bpsh [options] NODES COMMAND [ARG...]
       bpsh [options] -a|-A COMMAND [ARG...]

Run a command on nodes. NODES is a list such as 3, n3, 0-7, n[0-63,70], up, master; options may also follow it.

Which nodes:
  -a                    all nodes that are up
  -A                    all nodes that are not down
Input and output:
  -n                    stdin from /dev/null
  -N                    no input and output at all (/dev/null on the nodes)
  -I, --stdin FILE      stdin from a file on the node
  -O, --stdout FILE     stdout into a file on the node
  -E, --stderr FILE     stderr into a file on the node
  --pty                 give each process a terminal
The program:
  --image auto          run the node's own file if it is the same as here, else send this one (the default)
  --image send          send the program with its interpreter and libraries, whatever the node has
  --image path          run what the node itself has under this name
  --with PATH           send this file or directory, too; may be repeated
How output is shown:
  -L                    whole lines, never mixed
  -b N                  longest line kept together by -L, in bytes (4096)
  -p                    each line with the number of its node in front (implies -L)
  --label               each line with the name of its node in front (implies -L)
  -s                    one node after the other, in order
  -d                    a divider line before each node's output (implies -s)
  --gather              at the end, equal output of several nodes shown once
  --json                at the end, one JSON document with statuses and output
The job:
  --detach              leave the job running, print its id and end
  --linger              what a process leaves running stays part of the job until it ends, and is not killed
  --headless SECONDS    end the job on a node that has been without any head for so long
  --max-processes N     end the job if it has more than N processes on a node
  -t, --time            print the wall time to stderr
  --dir DIR             the cluster's directory (HEOROT_DIR, /run/heorot)
  -l USER               ignored, for callers that expect rsh
  -h, --help            this text
  -v, -V, --version     the version

The exit status is the largest of the processes': 128+N for death by signal N, 127 no such command, 126 not executable,
255 node lost, 125 refused, 74 output not written, 2 wrong usage.
"""

DEFAULT_LINE_BYTES = 4096
MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_PROCESSES = 4 * 1024 * 1024
MAX_HEADLESS_S = 10 * 365 * 86400

_TABLE = OptionTable((
    OptionSyntax("up", "-a"),
    OptionSyntax("not_down", "-A"),
    OptionSyntax("no_stdin", "-n"),
    OptionSyntax("no_io", "-N"),
    OptionSyntax("lines", "-L"),
    OptionSyntax("prefix", "-p"),
    OptionSyntax("sequential", "-s"),
    OptionSyntax("divide", "-d"),
    OptionSyntax("line_bytes", "-b", argument="BYTES"),
    OptionSyntax("stdin", "-I", "--stdin", argument="FILE"),
    OptionSyntax("stdout", "-O", "--stdout", argument="FILE"),
    OptionSyntax("stderr", "-E", "--stderr", argument="FILE"),
    OptionSyntax("time", "-t", "--time"),
    OptionSyntax("user", "-l", argument="USER"),
    OptionSyntax("help", "-h", "--help"),
    OptionSyntax("version", "-v", "-V", "--version"),
    OptionSyntax("pty", "--pty"),
    OptionSyntax("gather", "--gather"),
    OptionSyntax("json", "--json"),
    OptionSyntax("detach", "--detach"),
    OptionSyntax("label", "--label"),
    OptionSyntax("max_processes", "--max-processes", argument="N"),
    OptionSyntax("headless", "--headless", argument="SECONDS"),
    OptionSyntax("linger", "--linger"),
    OptionSyntax("image", "--image", argument="auto|send|path"),
    OptionSyntax("extra", "--with", argument="PATH", repeated=True),
    OptionSyntax("directory", "--dir", argument="DIR"),
))  # fmt: skip


_LINES = ("lines", "prefix", "label")
_SEQUENTIAL = ("sequential", "divide")
_CONFLICTS = (
    ("prefix", ("label",)),
    ("gather", ("json", "pty", *_LINES, *_SEQUENTIAL)),
    ("json", ("pty", *_LINES, *_SEQUENTIAL)),
    ("detach", ("pty", "gather", "json", *_LINES, *_SEQUENTIAL)),
    ("no_io", ("pty",)),
)
_SPELLINGS = {"lines": "-L", "prefix": "-p", "sequential": "-s", "divide": "-d", "no_io": "-N"}


def _refuse_conflicts(values: dict[str, str]) -> None:
    for option, others in _CONFLICTS:
        for other in others:
            if option in values and other in values:
                spelled = (_SPELLINGS.get(name, f"--{name}") for name in (option, other))
                raise UsageError(f"{' and '.join(spelled)} exclude each other")


class BpshOptions:
    """What the user asked for."""

    __slots__ = (
        "argv", "detach", "directory", "divide", "extra", "gather", "headless_ms", "help", "image", "json", "label",
        "line_bytes", "lines", "linger", "max_processes", "nodes", "prefix", "pty", "select", "sequential", "stderr",
        "stdin", "stdout", "time", "version",
    )  # fmt: skip

    def __init__(self, words: list[str]) -> None:
        values: dict[str, str] = {}
        index = _TABLE.parse(words, 0, values)
        self.help = "help" in values
        self.version = "version" in values
        self.argv: list[bytes] = []
        if self.help or self.version:
            return
        everything = "up" in values or "not_down" in values
        self.nodes = ""
        if not everything:
            if index >= len(words):
                raise UsageError("no nodes given; say which, or -a for all that are up")
            self.nodes = words[index]
            # Options may follow the nodes, and one more "--" may end those.
            index = _TABLE.parse(words, index + 1, values)
            if "up" in values or "not_down" in values:
                raise UsageError(f"-a and -A replace the node list, but {self.nodes!r} is given as well")
            self.help = "help" in values
            self.version = "version" in values
            if self.help or self.version:
                return
        if "up" in values and "not_down" in values:
            raise UsageError("-a and -A exclude each other")
        self.select = "up" if "up" in values else "notdown" if "not_down" in values else "list"
        if index >= len(words):
            raise UsageError("no command given" + (_after(self.nodes) if self.nodes else ""))
        self.argv = [os.fsencode(word) for word in words[index:]]
        if not self.argv[0]:
            raise UsageError("the command is empty")
        self._set(values)
        _refuse_conflicts(values)

    def _set(self, values: dict[str, str]) -> None:
        self.directory = values.get("directory")
        self.line_bytes = integer(values, "line_bytes", "-b", DEFAULT_LINE_BYTES, 1, MAX_LINE_BYTES)
        self.max_processes = integer(values, "max_processes", "--max-processes", 0, 1, MAX_PROCESSES)
        self.headless_ms = 1000 * integer(values, "headless", "--headless", 0, 1, MAX_HEADLESS_S)
        self.image = values.get("image", "auto")
        if self.image not in ("auto", "send", "path"):
            raise UsageError(f"--image is auto, send or path, not {self.image!r}")
        self.extra = [_path(name, "--with") for name in values["extra"].split("\0")] if "extra" in values else []
        if self.extra and self.image == "path":
            raise UsageError("--with and --image path exclude each other: nothing is sent")
        self.pty = "pty" in values
        self.gather = "gather" in values
        self.json = "json" in values
        self.detach = "detach" in values
        self.label = "label" in values
        self.linger = "linger" in values
        self.prefix = "prefix" in values
        self.lines = "lines" in values or self.prefix or self.label
        self.divide = "divide" in values
        self.sequential = "sequential" in values or self.divide
        self.time = "time" in values
        default: bytes | None = None if "no_io" in values else b""
        self.stdin = default
        if "stdin" in values:
            self.stdin = _path(values["stdin"], "-I")
        elif "no_stdin" in values or self.detach:
            # Nobody would feed a detached job.
            self.stdin = None
        self.stdout = _path(values["stdout"], "-O") if "stdout" in values else default
        self.stderr = _path(values["stderr"], "-E") if "stderr" in values else default


def _after(nodes: str) -> str:
    """Return what to say of the one word that was given."""
    if any(character.isdigit() for character in nodes) or nodes in ("up", "all", "master"):
        return f" after the nodes {nodes!r}; for a shell there: bpsh {nodes} --pty bash"
    return f": {nodes!r} was taken for the nodes; on all that are up: bpsh -a {nodes}"


def _path(text: str, spelling: str) -> bytes:
    if not text:
        raise UsageError(f"the file of {spelling} is empty")
    return os.fsencode(text)
