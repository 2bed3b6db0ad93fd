"""What waits for a new head to know more: in order of each client and job, in turn for users, and bounded.

Messages of one client about one job wait in one *line*: whatever depends on the first is tried after it. News let what
waits be looked at in small parts, one line of each user by turns: neither a user with thousands of questions nor one
with long node lists can hold up the head, or the answers of the others.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from heorot.core.errors import ProtocolError, RequestError
from heorot.core.head.context import Caller, HeadContext
from heorot.core.quota import ITEM_BYTES, MIB, Ledger, Quota
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m

MAX_WAITING_BYTES = 64 * 1024 * 1024
LOOKS = 256
"""So many lines are looked at for one piece of news; the others soon after ..."""
TRIES = 32
"""... and so many tried, or what is worth ..."""
TRIED_BYTES = 64 * 1024
"""... of messages: what a message costs grows with its length, a node list's most."""


@dataclass(slots=True)
class Waiting:
    """A message that waits."""

    caller: Caller
    message: c.ClientMessage
    since_ms: int
    size_bytes: int
    why: RequestError | None = None
    """The refusal that may be wrong in a moment; None: it has not been tried."""
    told: bool = False
    """Its client was told why it waits."""


@dataclass(slots=True)
class Line:
    """What waits of one client about one job, or a message about no job."""

    client: int
    uid: int
    job: str
    items: deque[Waiting] = field(default_factory=deque)


class WaitingRoom:
    """The lines of all clients.

    Parameters
    ----------
    is_ripe
        Says, at next to no cost, whether there is news for a message that waits.
    attempt
        Carries a message out; returns a refusal that is still premature, or None if it waits no longer.
    """

    def __init__(
        self,
        context: HeadContext,
        is_ripe: Callable[[Waiting], bool],
        attempt: Callable[[Waiting], RequestError | None],
    ) -> None:
        self._context = context
        self._is_ripe = is_ripe
        self._attempt = attempt
        self._lines: dict[int, Line] = {}
        """By number, in the order in which they began."""
        self._numbers: dict[tuple[int, str], int] = {}
        """Of the lines of clients and jobs."""
        self._by_client: dict[int, dict[int, None]] = {}
        self._by_user: dict[int, OrderedDict[int, None]] = {}
        """The lines of each user, those that were looked at last at the end."""
        self._next_number = 0
        self._unlooked: dict[int, int] = {}
        """By user: how many lines are still to be looked at because of the latest news."""
        self._held = Ledger[int]()
        """By user: how many messages wait, and what they take."""
        self._held_bytes = Ledger[int]()
        self._bytes = Quota(
            "MiB of requests that wait for the head to know its nodes", MAX_WAITING_BYTES, "", context.config.owner, MIB
        )

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __iter__(self) -> Iterator[Waiting]:
        for line in self._lines.values():
            yield from line.items

    @property
    def is_behind(self) -> bool:
        """Whether not all was looked at since the latest news."""
        return bool(self._unlooked)

    def is_kept_back(self, caller: Caller, message: c.ClientMessage) -> bool:
        """Say whether an earlier message of this client about this job waits."""
        return bool(self._numbers) and (caller.client, _job_of(message)) in self._numbers

    def add(self, caller: Caller, message: c.ClientMessage, why: RequestError | None) -> None:
        """Let a message wait.

        Raises
        ------
        RequestError, ProtocolError
            ``busy``, if too much waits already.
        """
        size_bytes = weight(message)
        refusal = self._context.early_quota.refusal(
            caller.uid, self._held.held, name=caller.user
        ) or self._bytes.refusal(caller.uid, self._held_bytes.held, size_bytes, caller.user)
        if refusal:
            if not hasattr(message, "request"):
                raise ProtocolError(refusal)
            raise RequestError("busy", refusal)
        self._held.add(caller.uid, 1)
        self._held_bytes.add(caller.uid, size_bytes)
        job = _job_of(message)
        number = self._numbers.get((caller.client, job), -1)
        if number < 0:
            number = self._next_number
            self._next_number += 1
            self._lines[number] = Line(caller.client, caller.uid, job)
            if job:
                self._numbers[caller.client, job] = number
            self._by_client.setdefault(caller.client, {})[number] = None
            self._by_user.setdefault(caller.uid, OrderedDict())[number] = None
        self._lines[number].items.append(Waiting(caller, message, self._context.now_ms, size_bytes, why))

    def client_gone(self, client: int) -> None:
        """Its messages wait for nothing."""
        for number in list(self._by_client.get(client, ())):
            line = self._lines[number]
            for item in line.items:
                self._uncount(item)
            line.items.clear()
            self._remove(number)

    def withdraw(self, client: int, request: int) -> bool:
        """Forget a watch that waits to begin; return False if there is none of this number."""
        for number in self._by_client.get(client, ()):
            line = self._lines[number]
            for item in line.items:
                if isinstance(item.message, c.Watch) and item.message.request == request:
                    line.items.remove(item)
                    self._uncount(item)
                    if not line.items:
                        self._remove(number)
                    return True
        return False

    def look(self, news: bool) -> None:
        """Look at a part of what waits, and try what is ripe; with `news`, all of it has to be looked at anew."""
        if news:
            self._unlooked = {uid: len(numbers) for uid, numbers in sorted(self._by_user.items())}
        looks, tries, room_bytes = LOOKS, TRIES, TRIED_BYTES
        users = deque(self._unlooked)
        while users and looks and tries and room_bytes > 0:
            uid = users.popleft()
            numbers = self._by_user.get(uid)
            if not numbers:
                self._unlooked.pop(uid, None)
                continue
            looks -= 1
            number = next(iter(numbers))
            numbers.move_to_end(number)
            line = self._lines[number]
            while line.items and tries and room_bytes > 0 and self._is_ripe(line.items[0]):
                tries -= 1
                room_bytes -= _cost_bytes(line.items[0])
                if not self._try(line):
                    break
            if not line.items and self._lines.get(number) is line:
                self._remove(number)
            self._unlooked[uid] -= 1
            if self._unlooked[uid] > 0:
                users.append(uid)
            else:
                del self._unlooked[uid]

    def _try(self, line: Line) -> bool:
        """Try the first message of a line; say whether the next one may be tried."""
        item = line.items[0]
        item.why = self._attempt(item)
        if not line.items or item.why is not None:
            return False  # its client is gone, or it waits on
        line.items.popleft()
        self._uncount(item)
        return True

    def _uncount(self, item: Waiting) -> None:
        self._held.add(item.caller.uid, -1)
        self._held_bytes.add(item.caller.uid, -item.size_bytes)

    def _remove(self, number: int) -> None:
        line = self._lines.pop(number)
        self._numbers.pop((line.client, line.job), None)
        del self._by_client[line.client][number]
        if not self._by_client[line.client]:
            del self._by_client[line.client]
        numbers = self._by_user[line.uid]
        del numbers[number]
        if not numbers:
            del self._by_user[line.uid]


def _job_of(message: c.ClientMessage) -> str:
    return getattr(message, "job", None) or ""


def _cost_bytes(item: Waiting) -> int:
    """Return what to try a message counts for. Input is only passed on."""
    return item.size_bytes // 16 if isinstance(item.message, c.ClientStdin) else item.size_bytes


def weight(message: c.ClientMessage) -> int:
    """Return what a message takes in memory, about: its length on the wire, and more for the elements of its lists."""
    values = [getattr(message, name) for name in message.__struct_fields__]
    elements = sum(len(value) for value in values if isinstance(value, list))
    return len(m.encode(message)) + elements * ITEM_BYTES
