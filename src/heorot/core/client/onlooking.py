"""A look at a job beside the client that reads it: what is shown, and how much was missed.

What comes twice, because a node has sent it again, is left out by its offset. Under another head it begins anew by
itself, as every question is asked again; what was written in between may be missing then.
"""

from __future__ import annotations

from heorot.core.client import messages
from heorot.core.client.conversation import Request
from heorot.core.client.read_stream import ReadStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from heorot.core.client.conversation import Conversation


def look_on_job(request: int, job: str) -> list[object]:
    """Answered by ``shown``, any number of times, and by ``result`` with the job when it is over."""
    return ["look-on", request, messages.job_id(job)]


def look_took(request: int, size_bytes: int) -> list[object]:
    """So much more of what was shown was taken."""
    return ["look-took", request, size_bytes]


class OnlookRequest(Request):
    """See the module. It is answered, with the job, when that is over."""

    __slots__ = ("_conversation", "_pieces", "_streams", "_taken_bytes", "heads_lost")

    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self._conversation = conversation
        self._pieces: list[tuple[ReadStream, bytes, int]] = []
        self._streams: dict[tuple[int, int], ReadStream] = {}
        self._taken_bytes = 0
        self.heads_lost = 0
        """How often a head was lost meanwhile."""

    def changed(self, message: list[Any]) -> None:
        """See `Request`."""
        _tag, _number, rank, number, offset, data, missed_bytes = message[:7]
        stream = self._streams.get((rank, number))
        if stream is None:
            stream = self._streams[rank, number] = ReadStream(rank, number)
            stream.received = offset
        fresh = data[max(0, stream.received - offset) :]
        stream.received = max(stream.received, offset + len(data))
        # Whatever is left out was shown, too.
        self._taken_bytes += len(data) - len(fresh)
        self._pieces.append((stream, fresh, missed_bytes))

    def interrupted(self) -> bool:
        """See `Request`."""
        self.heads_lost += 1
        self._taken_bytes = 0
        return super().interrupted()

    def take(self) -> list[tuple[ReadStream, bytes, int]]:
        """Return what is new: whose it is, the bytes, and how many bytes of the job were missed before them."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def written(self, size_bytes: int) -> None:
        """So much of it is where it belongs: as much more may be shown."""
        self._taken_bytes += size_bytes
        if self._taken_bytes and self._conversation.connected and not self.finished:
            self._conversation.outgoing += messages.encode(look_took(self.message[1], self._taken_bytes))
            self._taken_bytes = 0


def begin_onlook(conversation: Conversation, job: str) -> OnlookRequest:
    """Queue the wish to look at a job's output."""
    request = OnlookRequest(conversation)
    conversation.ask(look_on_job, job, into=request)
    return request
