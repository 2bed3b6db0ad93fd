"""A job in the foreground that has the whole terminal (``bpsh --pty``): escapes, and a job that stops itself."""

from __future__ import annotations

from heorot.cli.foreground import escape, signals
from heorot.cli.foreground.loop import ForegroundLoop
from heorot.core.client import messages
from heorot.core.client.end import EXIT_SIGNAL_BASE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from heorot.cli.foreground.escape import Escape
    from heorot.cli.foreground.forms import Form, Sink
    from heorot.cli.foreground.terminal import RawMode
    from heorot.client.connection import Connection
    from heorot.core.client.conversation import Request
    from heorot.core.client.job import JobState
    from heorot.core.client.session import Session

EXIT_LEFT = EXIT_SIGNAL_BASE + signals.SIGHUP


class TerminalLoop(ForegroundLoop):
    """When all ranks that are left have stopped, the terminal goes back to the shell, as with a job of its own that
    stops: in raw mode no key would reach anybody. ``fg`` lets the ranks go on.

    Parameters
    ----------
    keys:
        None: no key is for us.
    """

    def __init__(
        self,
        session: Session,
        connection: Connection,
        job: JobState,
        sinks: dict[int, Sink],
        make_form: Callable[[], Form],
        *,
        raw_mode: RawMode,
        keys: Escape | None,
    ) -> None:
        super().__init__(
            "bpsh", session, connection, job, sinks, make_form, read_stdin=True, raw_mode=raw_mode, forward_size=True
        )
        self._keys = keys
        self._known_changes: dict[int, int] = {}
        """By rank: up to which of its changes (`JobState.stops`) we have acted on them, or have caused them."""
        self._look: Request | None = None
        """We have heard that all have stopped, and ask whether it is so."""

    # -------------------------------------------------- keys

    def _stdin_room_bytes(self) -> int:
        held = self._keys is not None and self._keys.held
        return super()._stdin_room_bytes() - held

    def _take_stdin(self, data: bytes) -> None:
        if self._keys is None or not data:
            super()._take_stdin(data)
            return
        for piece, key in self._keys.take(data):
            if piece:
                super()._take_stdin(piece)
            if key == escape.LEAVE:
                self._leave_job()
                return
            if key == escape.SUSPEND:
                self._suspend()
            elif key == escape.HELP:
                for line in self._keys.help():
                    self.say(line)

    def _leave_job(self) -> None:
        job = self._job.id
        if self._session.connected and not self._job.resuming:
            self.say(f"left job {job}, which ends as by a hang-up")
        else:
            self.say(f"left job {job} while no head is there: it may run on unattended, see 'bpjob show {job}'")
        self._give_up(EXIT_LEFT)

    def _interests(self) -> float | None:
        was_raw = self._raw_mode is not None and self._raw_mode.active
        timeout_s = super()._interests()
        if self._raw_mode is not None and self._raw_mode.active and not was_raw:
            # We come from the background, where nobody is told of a new size.
            self._on_signal(signals.SIGWINCH)
        return timeout_s

    # -------------------------------------------------- a job that stops

    def _turn(self) -> None:
        super()._turn()
        if self._leave is not None:
            return
        look = self._look
        if look is not None and look.finished:
            self._look = None
            if look.error is None and not self._about_to_stop and self._are_stopped(look.value[0]["processes"]):
                self._suspend()
        elif look is None and self._job.stops and self._all_stand_still():
            self._known_changes = {rank: stands[0] for rank, stands in self._job.stops.items()}
            # The word may be older than what has let them go on, such as fg: only their node knows how they stand now.
            self._look = self._session.ask(messages.list_processes, "", self._job.id)

    @property
    def _about_to_stop(self) -> bool:
        """Whether we shall stop anyway, as Ctrl-Z from elsewhere wants it."""
        return self._relay is not None and self._relay.due_at is not None

    def _are_stopped(self, rows: list[dict[str, Any]]) -> bool:
        """Say whether all ranks that are left are stopped."""
        states = {row["rank"]: row["state"] for row in rows if row["leader"]}
        left = [rank for rank in range(len(self._job.nodes)) if rank not in self._job.statuses]
        return bool(left) and all(states.get(rank) == "T" for rank in left)

    def _all_stand_still(self) -> bool:
        """Whether all ranks that are left have stopped since we looked last, and all that they wrote is shown."""
        job = self._job
        if len(job.stops) + len(job.statuses) < len(job.nodes) or not job.all_consumed:
            return False
        if self._about_to_stop:
            return False
        for rank, (changes, _signal, *written) in job.stops.items():
            if changes % 2 == 0 or changes <= self._known_changes.get(rank, 0):
                return False
            for number, size in enumerate(written, 1):
                stream = job.streams.get((rank, number))
                if size > (stream.received if stream is not None else 0):
                    return False
        return True

    def _suspend(self) -> None:
        self._signals_to_job().suspend(group=True)

    def _on_signal(self, number: int) -> None:
        if number == signals.SIGTSTP:
            # The ranks are about to stop because we say so: that they have done it is no news then, however late.
            for rank in range(len(self._job.nodes)):
                self._known_changes[rank] = self._job.stops.get(rank, (0,))[0] | 1
        super()._on_signal(number)
