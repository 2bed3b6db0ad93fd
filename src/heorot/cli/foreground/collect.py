"""Output that is shown at the end: equal outputs folded, or one JSON document."""

from __future__ import annotations

from heorot.cli.foreground.words import node_name
from heorot.core.client.job import STDERR, STDOUT
from heorot.core.tree.nodeset import names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.cli.foreground.forms import Sink
    from heorot.cli.foreground.held import Held
    from heorot.core.client.job import JobState
    from heorot.core.client.read_stream import ReadStream

_RULE = b"-" * 16 + b"\n"


class GatherForm:
    """Equal outputs of several nodes are shown once, under the list of these nodes."""

    def __init__(self, held: Held, job: JobState, sinks: dict[int, Sink]) -> None:
        self._held = held
        self._job = job
        self._sinks = sinks

    def output(self, stream: ReadStream, data: bytes) -> None:
        """Keep it."""
        self._held.add(stream, data)

    def ended(self, rank: int) -> None:
        """Nothing is shown before the end."""

    def finish(self) -> None:
        """Show equal outputs once, under the list of their nodes."""
        for number in (STDOUT, STDERR):
            groups: dict[bytes, list[int]] = {}
            for rank in range(len(self._job.nodes)):
                if self._held.has(rank, number):
                    groups.setdefault(self._held.digest(rank, number), []).append(rank)
            sink = self._sinks[number]
            for ranks in groups.values():
                sink.write(_RULE + names_of(self._job.nodes[rank] for rank in ranks).encode() + b"\n" + _RULE)
                last = b""
                for data in self._held.read(ranks[0], number):
                    sink.write(data)
                    sink.drain_beyond_bound()
                    last = data
                if not last.endswith(b"\n"):
                    sink.write(b"\n")


class JsonForm:
    """One JSON document: ``{"job", "status", "text", "ranks": [...]}``.

    A rank has ``rank``, ``node``, ``name``, ``pid`` (null if it never ran), one of ``code``, ``signal`` and ``lost``
    (with ``error`` if it could not be started), and for each of ``stdout`` and ``stderr`` the text if it is UTF-8, else
    ``stdout_base64`` or ``stderr_base64``. Ranks that had not ended have none of the statuses.
    """

    def __init__(self, held: Held, job: JobState, sink: Sink) -> None:
        self._held = held
        self._job = job
        self._sink = sink

    def output(self, stream: ReadStream, data: bytes) -> None:
        """Keep it."""
        self._held.add(stream, data)

    def ended(self, rank: int) -> None:
        """Nothing is shown before the end."""

    def finish(self) -> None:
        """Write the document."""
        from json import dumps

        job, write = self._job, self._write
        write(f'{{"job": {dumps(job.id)}, "status": {job.exit_status}, "text": {dumps(job.done_text)}, "ranks": [')
        for rank, node in enumerate(job.nodes):
            row = {"rank": rank, "node": node, "name": node_name(node), "pid": job.pids.get(rank)}
            if rank in job.statuses:
                row.update(job.statuses[rank].as_json())
            write((", " if rank else "") + "\n  " + dumps(row)[:-1])
            for name, number in (("stdout", STDOUT), ("stderr", STDERR)):
                if self._is_text(rank, number):
                    write(f', "{name}": "')
                    self._write_text(rank, number)
                else:
                    write(f', "{name}_base64": "')
                    self._write_base64(rank, number)
                write('"')
            write("}")
        write("\n]}\n")

    def _write(self, text: str) -> None:
        self._sink.write(text.encode())
        self._sink.drain_beyond_bound()

    def _is_text(self, rank: int, number: int) -> bool:
        from codecs import getincrementaldecoder

        decoder = getincrementaldecoder("utf-8")()
        try:
            for data in self._held.read(rank, number):
                decoder.decode(data)
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            return False
        return True

    def _write_text(self, rank: int, number: int) -> None:
        from codecs import getincrementaldecoder
        from json import dumps

        decoder = getincrementaldecoder("utf-8")()
        for data in self._held.read(rank, number):
            self._write(dumps(decoder.decode(data))[1:-1])

    def _write_base64(self, rank: int, number: int) -> None:
        from binascii import b2a_base64

        rest = b""
        for data in self._held.read(rank, number):
            data = rest + data
            whole = len(data) - len(data) % 3
            rest = data[whole:]
            self._write(b2a_base64(data[:whole], newline=False).decode())
        self._write(b2a_base64(rest, newline=False).decode())
