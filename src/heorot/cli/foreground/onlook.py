"""Looking at a job beside whoever reads it: what ``bpjob attach --watch`` does. Nothing done here reaches it."""

from __future__ import annotations

from heorot.cli import table
from heorot.cli.foreground import words
from heorot.cli.foreground.forms import LineForm, PlainForm, Sink
from heorot.cli.foreground.options import DEFAULT_LINE_BYTES
from heorot.client.connection import Connection
from heorot.core.client import messages
from heorot.core.client.conversation import Conversation
from heorot.core.client.end import Status
from heorot.core.client.onlooking import begin_onlook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from heorot.cli.foreground.forms import Form
    from heorot.core.client.onlooking import OnlookRequest
    from heorot.core.client.read_stream import ReadStream


def look_on(directory: str, job: str, style: str) -> int:
    """Show a job's output from now on, until it is over; return the status to exit with, which is the job's.

    Parameters
    ----------
    style:
        As for `heorot.cli.foreground.attach.attach`.

    Raises
    ------
    RequestError
        If there is no cluster or no such job, or it is somebody else's.
    """
    conversation = Conversation()
    connection = Connection(directory, conversation)
    connection.reach()
    shown = conversation.ask(messages.show_job, job)
    while not shown.finished:
        connection.wait()
    if shown.error is not None:
        raise shown.error
    return Onlook(conversation, connection, job, style, shown.value[0]["rank_nodes"]).run()


class Onlook:
    """See `look_on`."""

    def __init__(
        self, conversation: Conversation, connection: Connection, job: str, style: str, nodes: list[int]
    ) -> None:
        self._conversation = conversation
        self._connection = connection
        self._job = job
        self._request: OnlookRequest = begin_onlook(conversation, job)
        self._heads_lost = 0
        self._written_bytes = 0
        self._sinks = {number: Sink(number, self._consumed) for number in (1, 2)}
        self._form = self._form_of(style, nodes)

    def _form_of(self, style: str, nodes: list[int]) -> Form:
        if not style:
            return PlainForm(self._sinks)
        prefixes: list[bytes] = []
        if style == "number":
            prefixes = [b"%3d: " % node for node in nodes]
        elif style == "label":
            prefixes = [f"{table.node_name(node)}: ".encode() for node in nodes]
        return LineForm(self._sinks, self._consumed, prefixes, DEFAULT_LINE_BYTES)

    def _consumed(self, stream: ReadStream, count: int) -> None:
        self._written_bytes += count

    def run(self) -> int:
        """Show it; return the status to exit with."""
        request = self._request
        while not request.finished:
            self._connection.wait()
            self._show()
        self._form.finish()
        self._write()
        if request.error is not None:
            raise request.error
        row: dict[str, Any] = request.value[0]
        if row["text"]:
            self._say(f"job {self._job}: {row['text']}")
        return max((Status.of_json(status).exit_status for status in row["statuses"].values()), default=0)

    def _show(self) -> None:
        for text in self._conversation.notices:
            self._say(text)
        self._conversation.notices = []
        for stream, data, missed_bytes in self._request.take():
            if missed_bytes:
                self._write()
                self._say(
                    f"{missed_bytes} bytes of the job's output are missing here: they came faster than they were taken"
                )
            if self._heads_lost != self._request.heads_lost:
                self._heads_lost = self._request.heads_lost
                self._say("another head leads: what was written meanwhile may be missing here")
            if data:
                self._form.output(stream, data)
            # Whoever takes our output may be as slow as it likes: then there is more that is missing.
            self._write()
        self._request.written(self._written_bytes)
        self._written_bytes = 0

    def _write(self) -> None:
        for sink in self._sinks.values():
            while not sink.flush():
                sink.writable(-1)

    def _say(self, text: str) -> None:
        words.write_line("bpjob: ", text, "\n")
