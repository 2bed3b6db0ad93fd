"""Carries out what a head's keeper decides (`heorot.core.keeper.machine`): the store, the head's process, the disk.

It is small and synchronous, with a bound on every wait, so that the head's event loop never speaks to the store.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from heorot.coord.port import Store
from heorot.core.errors import HeorotError
from heorot.core.keeper import steps as s
from heorot.core.keeper.election import Leadership, StoreRefused, Term
from heorot.core.keeper.machine import KeeperMachine, Listing
from heorot.core.keeper.settings import KeeperConfig
from heorot.core.keeper.shell import KeeperShell
from heorot.core.machine import Log
from heorot.daemons.keeper_control import KeeperControl
from heorot.daemons.listed_heads import ListedHeads
from heorot.daemons.stand_in import StandIn, StartPassing
from heorot.daemons.watchdog import has_spoken
from heorot.linux.process import how_ended, watch_child
from heorot.linux.slot_file import no_room
from heorot.runtime import state
from heorot.runtime.loop import boot_time

END_GRACE_S = 1.0
"""How long a head may take to end in good order."""
STATE_NAME = "keeper.json"
EPOCH_NAME = "epoch"

StartHead = Callable[[Term, int, int], int]
"""Starts the head's process for a term, with a descriptor from which it reads news, and one into which it writes that
it lives (see `heorot.daemons.watchdog`); returns its pid."""


class Keeper(KeeperShell):
    """Keeps one head. `directory` is the head's own, next to its identity. `start_passing` serves the clients of this
    host while the head is on standby. `hang_ms` is how long the head may be silent. `make_room` is asked for room when
    the disk has none. `listed` knows which heads the cluster is to have; None: that never changes. `publish` takes what
    has changed, for the process that has started this one; without it that goes into a file. `last_words` gives why the
    head's process has ended, if that has said so. `read_settings` reads the settings of the next head's process, and
    returns what of them has changed.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        store: Store,
        start: StartHead,
        log: Callable[[str, str], None],
        start_passing: StartPassing | None = None,
        hang_ms: int = 10_000,
        make_room: Callable[[], bool] = no_room,
        listed: ListedHeads | None = None,
        publish: Callable[[dict[str, Any]], None] | None = None,
        last_words: Callable[[], str] = str,
        read_settings: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        config = KeeperConfig(
            name, store.kind, store.lease_s, store.renew_every_s, store.look_every_s, hang_ms / 1000, os.getpid()
        )
        self._machine = KeeperMachine(config, random.random)
        self._directory = directory
        self._store = store
        self._start = start
        self._log = log
        self._make_room = make_room
        self._listed = listed
        self._publish = publish or self._write_down
        self._passing = StandIn(start_passing, log)
        self._process = -1
        """Of the head, while it lives or is not reaped yet."""
        self._pid = 0
        self._news = self._pulse = -1
        self._told = b""
        self._untold = b""
        """The rest of what the head was told in part."""
        self._wake = -1
        self._control: KeeperControl | None = None
        self._last_words = last_words
        self._read_settings = read_settings

    def run(self) -> None:
        """Serve until SIGTERM; the head is dead when this returns. Raises HeorotError if it cannot begin."""
        self._wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            signal.signal(number, lambda number, frame: None)
        state.reserve(self._directory, EPOCH_NAME, self._log, self._make_room)
        self._control = KeeperControl(self._directory, self._make_room)
        try:
            self._carry_out()
        finally:
            if self._process >= 0:
                self._end_head(force=True)
                with contextlib.suppress(HeorotError):
                    self._resign()
            self._passing.end(signal.SIGTERM)
            self._store.close()
            self._control.close()
            (self._directory / STATE_NAME).unlink(missing_ok=True)

    def _carry_out(self) -> None:
        machine = self._machine
        machine.now_s = boot_time()
        steps = machine.run()
        answer, error = None, None
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration:
                return
            answer, error = None, None
            try:
                answer = self.carry_out_one(step)
            except HeorotError as failure:
                error = failure
            machine.now_s = boot_time()
            if self._listed is not None and isinstance(step, (s.LookAtStore, s.Renew, s.WaitForNews)):
                machine.listing = Listing(self._listed.read(), self._listed.removed())

    # ------------------------------------------------------------------ the steps

    def look_at_store(self, step: s.LookAtStore) -> Leadership:
        """Ask the store."""
        return self._store.look()

    def campaign(self, step: s.Campaign) -> Term | None:
        """Ask the store, above each epoch that was kept here."""
        return self._store.campaign(max(step.floor, self._kept_epoch()))

    def hand_over(self, step: s.HandOver) -> None:
        """Tell the store the pid."""
        self._store.handed_over(self._pid)

    def renew(self, step: s.Renew) -> Leadership:
        """Ask the store."""
        return self._store.renew()

    def resign(self, step: s.Resign) -> None:
        """Close what leads to the head, and tell the store."""
        self._resign()

    def prefer(self, step: s.Prefer) -> None:
        """Tell the store."""
        self._store.prefer(step.name)

    def last_words(self, step: s.LastWords) -> str:
        """Ask whoever has started the process."""
        return self._last_words()

    def read_settings(self, step: s.ReadSettings) -> tuple[str, ...]:
        """Ask whoever knows where they stand."""
        return self._read_settings()

    def pass_clients_on(self, step: s.PassClientsOn) -> None:
        """See that a process does."""
        self._passing.keep(step.leader)

    def stop_passing(self, step: s.StopPassing) -> None:
        """End the process that did."""
        self._passing.end(signal.SIGKILL)

    def publish(self, step: s.Publish) -> None:
        """Hand it to whoever has started this keeper, or write it down."""
        self._publish({**asdict(step.known), "pid": os.getpid()})

    def log(self, step: Log) -> None:
        """Write a line into the log."""
        self._log(step.level, step.text)

    # ------------------------------------------------------------------ the epoch on this host's disk

    def _kept_epoch(self) -> int:
        try:
            return state.recall_epoch(self._directory, EPOCH_NAME)
        except HeorotError as error:
            raise StoreRefused(str(error)) from error

    def keep_epoch(self, step: s.KeepEpoch) -> None:
        """Write it into a file, unless a higher one is there."""
        epoch = max(step.epoch, self._kept_epoch())
        try:
            state.remember_durably(self._directory, EPOCH_NAME, str(epoch).encode(), self._make_room)
        except OSError as error:
            raise HeorotError(f"{self._directory / EPOCH_NAME}: {error.strerror or error}") from error

    # ------------------------------------------------------------------ the head's process

    def start_head(self, step: s.StartHead) -> int:
        """Start it, with a pipe in each direction."""
        read, self._news = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._pulse, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            pid = self._start(step.term, read, write)
            self._process = watch_child(pid)
        except OSError as error:
            raise HeorotError(str(error)) from error
        finally:
            os.close(read)
            os.close(write)
        self._pid = pid
        return pid

    def end_head(self, step: s.EndHead) -> str:
        """Send it a signal."""
        return self._end_head(step.force)

    def _end_head(self, force: bool) -> str:
        """End the head, by force if it takes too long; it is reaped when this returns."""
        number = signal.SIGKILL if force else signal.SIGTERM
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, number)
            if number != signal.SIGKILL and not poll.poll(END_GRACE_S * 1000):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
        return self._reap()

    def _reap(self) -> str:
        """Return how the head's process has ended, once it has."""
        status = os.waitpid(self._pid, 0)[1]
        os.close(self._process)
        self._process, self._pid = -1, 0
        return how_ended(status)

    def _resign(self) -> None:
        assert self._process < 0, "the head lives: nobody else may lead"
        for fd in {self._news, self._pulse} - {-1}:
            os.close(fd)
        self._news = self._pulse = -1
        self._told = self._untold = b""
        self._store.resign()

    def tell_head(self, step: s.TellHead) -> None:
        """Write a line of JSON into the pipe."""
        news = step.news
        value = {
            "listed": [[head.name, head.host, head.port] for head in news.listed],
            "lease_until_ms": news.lease_until_ms,
            "heads": [{"name": name, "role": role} for name, role in news.heads],
            "store": {
                "kind": news.store,
                "reachable": news.reachable,
                "since_ms": news.since_ms,
                "problem": news.problem,
            },
        }
        text = json.dumps(value).encode() + b"\n"
        if text == self._told and not self._untold:
            return
        # A head that does not read has trouble of another kind; it must not stop us. What is longer than PIPE_BUF may
        # be taken in part: the head reads lines.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            if self._untold:
                self._untold = self._untold[os.write(self._news, self._untold) :]
            if not self._untold:
                self._untold = text[os.write(self._news, text) :]
                self._told = text

    # ------------------------------------------------------------------ waiting, and who speaks to us

    def wait_for_news(self, step: s.WaitForNews) -> s.Woken:
        """Wait until one of the descriptors is readable, a signal comes or somebody speaks to us."""
        assert self._control is not None
        hints = [*self._store.hints(), *self._passing.descriptors()] if step.hints else []
        poll = select.poll()
        for fd in {self._wake, self._control.fileno(), self._process, *hints} - {-1}:
            poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(step.timeout_s * 1000)]
        numbers = b""
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                numbers = os.read(self._wake, 4096)
        return s.Woken(
            hinted=any(fd in ready for fd in hints),
            ended=self._reap() if self._process in ready else None,
            heard=self._pulse >= 0 and has_spoken(self._pulse),
            told_to_end=signal.SIGTERM in numbers or signal.SIGINT in numbers,
            told_to_switch=signal.SIGUSR1 in numbers,
            told_to_reload=signal.SIGHUP in numbers,
            request=self._control.request() if self._control.fileno() in ready else None,
        )

    def control_answer(self, step: s.ControlAnswer) -> None:
        """Answer on the socket."""
        assert self._control is not None
        self._control.answer(step.value)

    def _write_down(self, known: dict[str, Any]) -> None:
        state.remember(self._directory, STATE_NAME, json.dumps(known).encode(), self._log, self._make_room)
