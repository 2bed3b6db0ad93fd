"""`bpcp`: copy files to nodes, from nodes, and between nodes."""

# ruff: noqa: SIM105 - contextlib would cost a short command a millisecond

from __future__ import annotations

import os
import sys

from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.client.here import with_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from heorot.cli.arguments import Parsed
    from heorot.client.blocking import Cluster
    from heorot.client.copies import Copied

COMMAND = Command(
    "bpcp",
    "[-p] FILE1 FILE2\n[-r] [-p] FILE... DIR",
    "Copy files; a file is PATH, or NODES:PATH on nodes: n3:/tmp/x, n[0-63]:/tmp/, all:/tmp/.",
    [
        Option("-r --recursive", "copy directories with all that is in them"),
        Option("-p --preserve", "keep mode and modification time, and as root the owner"),
        Option("-q --quiet", "show no progress"),
        Option("--json", "at the end, one JSON document"),
    ],
    "A path of this host with a colon before its first slash is written ./a:b. From several nodes each file gets its\n"
    "node's name: bpcp n[0-3]:/tmp/log . makes log.n0, log.n1, ...; or it stands where FILE2 has %n: logs/%n.log.\n"
    "The exit status is 1 if anything was not copied.",
)
BAR_COLUMNS, LEAST_BAR_COLUMNS = 30, 10
FIRST_SHOWN_S, SHOWN_AGAIN_S = 0.3, 0.1
"""A copy that is over so soon shows nothing; and so often the line changes."""


THIS_HOST = ("master", "self", "localhost")
"""What names this host in the place of nodes, unless this is a rank on one."""


class CopyEnd:
    """One operand: nodes (empty: this host) and a path there."""

    __slots__ = ("nodes", "path")

    def __init__(self, word: str) -> None:
        head, colon, path = word.partition(":")
        remote = bool(colon) and bool(head) and "/" not in head
        nodes = with_here(head) if remote else ""
        self.nodes = nodes if nodes not in THIS_HOST else ""
        self.path = os.fsencode(path if remote else word)
        if not self.path:
            if not remote:
                raise UsageError("the name of a file is empty")
            self.path = b"."


def main() -> int:
    """Run the command; return the status to exit with."""
    from heorot.cli import request

    return request.run_command("bpcp", _body)


def _body(words: list[str]) -> int:
    parsed = parse(COMMAND, words)
    if parsed.has("help") or parsed.has("version"):
        from heorot.cli.request import show_help

        return show_help(COMMAND, parsed)
    if len(parsed.operands) < 2:
        raise UsageError("a file and where to copy it are needed")
    *sources, destination = [CopyEnd(word) for word in parsed.operands]
    if len({source.nodes for source in sources}) > 1:
        raise UsageError("the files are in different places: copy them one after the other")
    if not sources[0].nodes and not destination.nodes:
        raise UsageError("neither is on a node; say which: n0:PATH")
    return _copy(parsed, sources, destination)


def _copy(parsed: Parsed, sources: Sequence[CopyEnd], destination: CopyEnd) -> int:
    from heorot.client.blocking import connect

    _allow_many_files()
    shown = not (parsed.has("quiet") or parsed.has("json")) and os.isatty(2) and os.environ.get("TERM") != "dumb"
    bar = Bar() if shown else None
    nodes = sources[0].nodes
    paths = [source.path for source in sources]
    options = {"recursive": parsed.has("recursive"), "preserve": parsed.has("preserve")}
    try:
        with connect(parsed.get("dir") or None) as cluster:
            show = bar.show if bar is not None else None
            if not nodes:
                copied = cluster.copy_to(paths, destination.nodes, destination.path, progress=show, **options)
            elif not destination.nodes:
                copied = cluster.copy_from(nodes, paths, destination.path, progress=show, **options)
            else:
                copied = _between(cluster, nodes, paths, destination, show, options)
    finally:
        if bar is not None:
            bar.clear()
    return _report(parsed, copied)


def _between(
    cluster: Cluster,
    nodes: str,
    paths: Sequence[bytes],
    destination: CopyEnd,
    show: Callable[[int, int, int], object] | None,
    options: dict[str, bool],
) -> Copied:
    """Copy from nodes to nodes, by way of a directory here."""
    from heorot.client.put import name_of

    went: Copied | None = None
    several = len(paths) > 1
    for group in _apart(paths):
        contents = len(group) == 1 and not name_of(group[0])
        with _DirectoryBetween() as folder:
            place = os.path.join(folder, b"contents") if contents else folder
            came = cluster.copy_from(nodes, group, place.replace(b"%", b"%%"), progress=show, **options)
            names = sorted(os.listdir(folder))
            if not names:
                went = _joined(went, came)
                continue
            found = [os.path.join(folder, name) for name in names]
            if contents:
                found = [found[0] + b"/."]
            path = destination.path + b"/" if several else destination.path
            more = cluster.copy_to(found, destination.nodes, path, progress=show, **options)
            more.problems[:0] = came.problems
            went = _joined(went, more)
    assert went is not None
    return went


class _DirectoryBetween:
    """A directory for what is on its way; a signal that ends us does not leave it behind."""

    def __enter__(self) -> bytes:
        import _signal  # type: ignore[import-not-found]  # signal wraps these in enums: 3 ms
        from tempfile import mkdtemp

        self._signals = [n for n in (_signal.SIGTERM, _signal.SIGHUP) if _signal.getsignal(n) != _signal.SIG_IGN]
        for number in self._signals:
            _signal.signal(number, _end)
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, self._signals)
        self._path = mkdtemp(prefix="bpcp.")
        try:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        except BaseException:
            self.__exit__()
            raise
        return os.fsencode(self._path)

    def __exit__(self, *raised: object) -> None:
        import _signal
        from shutil import rmtree

        # What removes it is not broken off.
        for number in self._signals:
            _signal.signal(number, _signal.SIG_IGN)
        rmtree(self._path, ignore_errors=True)


def _apart(paths: Sequence[bytes]) -> list[list[bytes]]:
    """Return these paths in groups: on the way each directory whose contents are meant needs one of its own."""
    from heorot.client.put import name_of

    named = [path for path in paths if name_of(path)]
    return ([named] if named else []) + [[path] for path in paths if not name_of(path)]


def _joined(one: Copied | None, other: Copied) -> Copied:
    if one is None:
        return other
    other.problems[:0] = one.problems
    other.size_bytes += one.size_bytes
    return other


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _report(parsed: Parsed, copied: Copied) -> int:
    from heorot.client.copies import folded_problems

    status = 1 if copied.problems else 0
    if parsed.has("json"):
        from json import dumps

        problems = [{"node": problem.node, "text": problem.text} for problem in copied.problems]
        document = {"status": status, "nodes": copied.nodes, "bytes": copied.size_bytes, "problems": problems}
        sys.stdout.write(dumps(document) + "\n")
    for line in folded_problems(copied.problems):
        sys.stderr.write(f"bpcp: {_printable(line)}\n")
    return status


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    from heorot.cli.table import printable

    return printable(text)


def _allow_many_files() -> None:
    """From many nodes, as many files are open at once."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Bar:
    """The progress, on a terminal that is our stderr: one line, which is gone at the end."""

    def __init__(self) -> None:
        from time import monotonic

        self._now = monotonic
        self._due_s = monotonic() + FIRST_SHOWN_S
        self._shown = ""

    def show(self, done_bytes: int, over: int, nodes: int) -> None:
        """Show how far the copy is, unless that was shown just now."""
        now = self._now()
        if now < self._due_s:
            return
        self._due_s = now + SHOWN_AGAIN_S
        text = progress_line(done_bytes, over, nodes, _columns())
        if text != self._shown:
            self._shown = text
            self._write(f"\r{text}\x1b[K")

    def clear(self) -> None:
        """Take it away."""
        if self._shown:
            self._shown = ""
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        try:
            os.write(2, text.encode())
        except OSError:
            pass


def progress_line(done_bytes: int, over: int, nodes: int, columns: int) -> str:
    """Return how far a copy is, in less than so many columns: one that wraps could not be taken back."""
    size = f"{done_bytes / 1e9:.2f} GB" if done_bytes >= 1e9 else f"{done_bytes / 1e6:.1f} MB"
    text = f"{over} of {nodes} {'node' if nodes == 1 else 'nodes'}, {size}"
    room = columns - 1 - len(text) - len("[] ")
    more = " through this host"
    if room >= BAR_COLUMNS + len(more):
        text += more
    bar = min(BAR_COLUMNS, room)
    if bar < LEAST_BAR_COLUMNS:
        return text[: max(0, columns - 1)]
    filled = bar * over // max(1, nodes)
    return f"[{'#' * filled}{' ' * (bar - filled)}] {text}"


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80
