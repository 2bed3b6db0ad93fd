"""Whose message comes next: users are served by turns, so that nobody keeps the others, or the loop, waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from heorot.runtime.loop import Loop, Timer

USER_S = 0.01
"""A user whose messages have taken so long waits for the next turn."""
TURN_S = 0.05
"""And so do all but root and the owner when the turn has. A message that was begun is served to its end."""

Act = Callable[[], None]


class Turns:
    """What clients have sent and is not served yet. Between two turns the loop serves its sockets and timers.

    Parameters
    ----------
    goes_first
        Whether a user, of this uid, comes before others: root and the owner.
    on_left
        Called with a client some of whose messages are left after a turn: nothing more should be read of it.
    on_served
        Called with such a client when nothing of it is left.
    """

    def __init__(
        self,
        loop: Loop,
        goes_first: Callable[[int], bool],
        on_left: Callable[[int], None],
        on_served: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._goes_first = goes_first
        self._on_left = on_left
        self._on_served = on_served
        self._queues: dict[int, dict[int, deque[Act]]] = {}
        """By uid and client; who is served next comes first."""
        self._left: set[int] = set()
        self._timer: Timer | None = None

    def put(self, uid: int, client: int, act: Act) -> None:
        """Call `act` when it is this client's turn: in this round of the loop, unless there is much to do."""
        self._queues.setdefault(uid, {}).setdefault(client, deque()).append(act)
        if self._timer is None:
            self._timer = self._loop.call_at(self._loop.time(), self._serve)

    def is_waiting(self, uid: int, client: int) -> bool:
        """Whether something of this client is not served yet."""
        return client in self._queues.get(uid, ())

    def drop(self, uid: int, client: int) -> None:
        """Forget what this client wants."""
        self._queues.get(uid, {}).pop(client, None)
        self._left.discard(client)

    def close(self) -> None:
        """Serve nothing any more."""
        self._queues.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _serve(self) -> None:
        end_s = self._loop.time() + TURN_S
        # Those that have had their turn go to the end: the next one begins with the others.
        for uid in sorted(self._queues, key=self._goes_first, reverse=True):
            now_s = self._loop.time()
            if now_s >= end_s:
                break
            clients = self._queues.pop(uid, {})
            self._queues[uid] = clients
            self._serve_user(clients, min(now_s + USER_S, end_s))
        self._queues = {uid: clients for uid, clients in self._queues.items() if clients}
        for client in [client for clients in self._queues.values() for client in clients if client not in self._left]:
            self._left.add(client)
            self._on_left(client)
        self._timer = self._loop.call_at(self._loop.time(), self._serve) if self._queues else None

    def _serve_user(self, clients: dict[int, deque[Act]], until_s: float) -> None:
        while clients:
            client = next(iter(clients))
            acts = clients.pop(client)
            act = acts.popleft()
            if acts:
                clients[client] = acts
            act()
            if client in self._left and client not in clients:
                self._left.discard(client)
                self._on_served(client)
            if self._loop.time() >= until_s:
                return
