"""What bpinit has done in children while it waits, and how long that is: all other users wait with it.

Nearly all of it a user can make slow: by a lease, by a process that is stopped, by a file system of their own or one
that does not answer. So each user has a second in a minute. Who has used it up is waited for only as long as such
things take when nothing is wrong. A child that is late is killed, and nobody waits for its end, which may never come.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Callable, Iterable, Iterator

from heorot.bpinit import as_user
from heorot.bpinit.as_user import UserIds
from heorot.bpinit.patience import FREE_MS, Patience
from heorot.linux.clock import now_ms

PATIENCE_MS = 1_000
"""So long each user is waited for within `_WINDOW_MS`."""
START_MS = 10
"""How long a process of somebody who has used that up may take to come to its program; it counts as started then."""
ERRAND_MS = 100
"""How long anything else may take then; it has failed after that."""
MAX_UNREAPED = 16
"""So many children that did something for a user may still have to end before nothing more is done for them."""
_WINDOW_MS = 60_000


class Errands:
    """Makes such children, and keeps account of the time.

    Parameters
    ----------
    began:
        Is told the PID of each child.
    unreaped:
        Children that nobody waits for, and for whom they were made; whoever reaps one removes it.
    """

    def __init__(self, began: Callable[[int], None], unreaped: dict[int, int]) -> None:
        self._began = began
        self._unreaped = unreaped
        self._waited: dict[int, tuple[int, float]] = {}
        """By user: until when what they were waited for counts, and how long that was."""

    @contextlib.contextmanager
    def waiting(self, uid: int, least_ms: int) -> Iterator[Patience]:
        """Give how long this user may be waited for now, and count how long that was."""
        until_ms, waited_ms = self._waited.get(uid, (0, 0.0))
        counts = until_ms > now_ms()
        patience = Patience(max(least_ms, math.ceil(PATIENCE_MS - waited_ms)) if counts else PATIENCE_MS)
        try:
            yield patience
        finally:
            used_ms = patience.used_ms - FREE_MS
            if used_ms > 0:
                now = now_ms()
                self._waited = {user: entry for user, entry in self._waited.items() if entry[0] > now}
                until_ms, waited_ms = self._waited.get(uid, (now + _WINDOW_MS, 0.0))
                self._waited[uid] = until_ms, waited_ms + used_ms

    def admit(self, uid: int) -> None:
        """See that something more may be done for this user.

        Raises
        ------
        TimeoutError
            If too much of what was is not over.
        """
        if list(self._unreaped.values()).count(uid) < MAX_UNREAPED:
            return
        for pid in [pid for pid, user in self._unreaped.items() if user == uid]:
            self.reap(pid, uid)
        if list(self._unreaped.values()).count(uid) >= MAX_UNREAPED:
            raise TimeoutError(errno.ETIMEDOUT, "file systems did not answer before, and processes still wait for them")

    def began(self, pid: int) -> None:
        """A child was made."""
        self._began(pid)

    def reap(self, pid: int, uid: int) -> None:
        """Reap a child if it has ended; else that is done whenever it ends."""
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                self._unreaped[pid] = uid
                return
        self._unreaped.pop(pid, None)

    def call(
        self,
        uid: int,
        identity: UserIds | None,
        function: Callable[[], tuple[object, list[int]]],
        needed: Iterable[int] = (),
    ) -> tuple[object, list[int]]:
        """Have a child call a function: see `as_user.call`.

        Parameters
        ----------
        uid:
            For whom that is.

        Raises
        ------
        OSError
            Which the function raised; or if the child could not be made, or has ended. TimeoutError: if it was late.
        """
        self.admit(uid)
        with self.waiting(uid, ERRAND_MS) as patience:
            return as_user.call(identity, function, self._began, lambda pid: self.reap(pid, uid), patience, needed)
