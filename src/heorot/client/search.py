"""Looking for a head that is to come. Imported by `heorot.client.connection` when there is none."""

from __future__ import annotations

import os
from time import monotonic

from heorot.client.endpoint import cluster_mark, connect_head, no_head
from heorot.core.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5
GROWTH = 1.4
GONE_S = 30.0
"""How long the directory of a head's socket may be missing: a service manager makes it anew at a restart."""


class HeadSearch:
    """Attempts to connect to the next head of a cluster, ever more slowly; each caller a little differently, because a
    thousand may look for the same head.

    Parameters
    ----------
    mark:
        What `cluster_mark` said when the first connection was made.
    limit_s:
        Give up after this; None: look as long as the cluster is there.

    Attributes
    ----------
    next_at:
        When to make the next attempt, on the clock of `time.monotonic`.
    since:
        When the search began.
    """

    def __init__(self, directory: str, mark: tuple[int, int] | None, limit_s: float | None = None) -> None:
        self._directory = directory
        self._mark = mark
        self._limit_s = limit_s
        self._pause_s = FIRST_PAUSE_S
        self._missing_since: float | None = None
        self._attempts = 0
        self.since = self.next_at = monotonic()

    def attempt(self) -> _socket.socket | None:
        """Return a connection, or None: try again at `next_at`.

        Raises
        ------
        RequestError
            ``no-cluster`` if the cluster was taken down, or another one is in its place; ``no-warden`` if it has lost
            its warden; ``untrusted`` if another user's program is there; ``no-head`` if the limit is over. There is one
            attempt in any case.
        """
        now = monotonic()
        # A head that takes connections and drops them must not be asked any faster.
        pause_s = self._pause_s * (0.75 + os.urandom(1)[0] / 512)
        self._pause_s = min(self._pause_s * GROWTH, LONGEST_PAUSE_S)
        self.next_at = now + pause_s
        if self._taken_down(now):
            raise RequestError("no-cluster", self._why_gone())
        # Nor without end: this counts what was connected in vain, too.
        late = self._limit_s is not None and now - self.since >= self._limit_s
        if late and self._attempts:
            raise no_head(self._directory)
        self._attempts += 1
        try:
            return connect_head(self._directory)
        except RequestError as error:
            # Somebody else at the head's place is no head that is late, and a cluster without its warden gets none.
            if late or error.code in ("untrusted", "no-warden"):
                raise
            return None

    def _why_gone(self) -> str:
        if self._mark is None:
            # The service of a head takes the directory along when it is stopped: no cluster has ended with it.
            from heorot.config.host_role import without_head

            text = without_head(self._directory)
            if text:
                return text
        return f"the cluster at {self._directory} was taken down"

    def _taken_down(self, now: float) -> bool:
        if self._mark is not None:
            return cluster_mark(self._directory) != self._mark
        if os.path.isdir(self._directory):
            self._missing_since = None
            return False
        if self._missing_since is None:
            self._missing_since = now
        return now - self._missing_since >= GONE_S
