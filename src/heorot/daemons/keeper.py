"""The lease keeper: the parent of a head's process. It campaigns, starts the head with its epoch, and keeps the lease.

It is small and synchronous, with a bound on every wait, so that the head's event loop never speaks to the store. Its
rules, whose reasons are in docs/decisions/lease-keeper.md:

- A head process that has ended was reaped here: it is dead for certain, and the lease is given up at once.
- The kernel kills the head when the keeper dies; then the lease runs out (or the lock is free, at once).
- The store says that the lease is gone: the head is killed at once.
- The head says nothing for a long time, though this process is awake: the head is killed at once.
- The store says nothing: nobody else can be elected either, so the head goes on, and says so.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heorot.coord.port import LeaseLost, Store, StoreForeign, StoreRefused, StoreUnavailable, Term, View
from heorot.core.errors import HeorotError
from heorot.daemons.listed_heads import ListedHeads
from heorot.daemons.stand_in import StandIn, StartPassing
from heorot.daemons.watchdog import PULSE_S, Watchdog
from heorot.runtime import state
from heorot.runtime.loop import boot_time
from heorot.runtime.process import how_ended
from heorot.runtime.sockets import listen_unix, peer_credentials
from heorot.slot_file import no_room, with_room

QUICK_END_S = 0.5
"""A head that dies sooner after its election has probably met what kills it in any term: it is not started at once."""
HOLD_BACK_AFTER_END_S = 0.5
"""A keeper whose head has just died lets the others go first, if there are any: their hosts may be in better health."""
LONGEST_PAUSE_S = 2.0
REFUSED_PAUSE_S = 2.0
UNAVAILABLE_PAUSE_S = 0.25
END_GRACE_S = 1.0
"""How long a head may take to end in good order."""
CONTROL_TIMEOUT_S = 0.25
MAX_REQUEST_BYTES = 4096
MAX_PROBLEM_CHARACTERS = 400
"""Of what is wrong with the store: what the keeper says fits into a pipe at once."""
SOCKET_NAME = "keeper.sock"
STATE_NAME = "keeper.json"
EPOCH_NAME = "epoch"

StartHead = Callable[[Term, int, int], int]
"""Starts the head's process for a term, with a descriptor from which it reads news, and one into which it writes that
it lives (see `heorot.daemons.watchdog`); returns its pid."""


class Keeper:
    """Keeps one head. `directory` is the head's own, next to its identity. `start_passing` serves the clients of this
    host while the head is on standby. `hang_ms` is how long the head may be silent. `make_room` is asked for room when
    the disk has none. `listed` knows which heads the cluster is to have; None: that never changes. `publish` takes what
    has changed, for the process that has started this one; without it that goes into a file. `last_words` gives why the
    head's process has ended, if that has said so.
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
    ) -> None:
        self._name = name
        self._directory = directory
        self._store = store
        self._start = start
        self._hang_s = hang_ms / 1000
        self._log = log
        self._make_room = make_room
        self._listed = listed
        self._publish = publish or self._write_down
        self._published: dict[str, Any] = {}
        self._last_words = last_words
        self._passing = StandIn(start_passing, log)
        self._role = "standby"
        self._view = View("", 0, (), "")
        self._epoch = 0
        self._seen_epoch = 0
        self._has_looked = False
        """The store was read once without an error."""
        self._head_pid = 0
        self._news = -1
        self._told = ""
        self._quick_ends = 0
        self._not_before_s = 0.0
        self._others_first_until_s = 0.0
        self._lease_until_s = 0.0
        self._reachable = True
        self._since_s = boot_time()
        self._problem = ""
        self._complained = ""
        """What was complained of last, until all was well again: it is logged once, however often it is tried."""
        self._failure = ""
        """Why the head's process could not be started, or ended soon."""
        self._warned = ""
        self._ending = False
        self._switch_asked = False
        self._handing_over = False
        self._wake = -1
        self._control: socket.socket | None = None

    def run(self) -> None:
        """Serve until SIGTERM; the head is dead when this returns. Raises HeorotError if it cannot begin."""
        self._wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, lambda number, frame: None)
        state.reserve(self._directory, EPOCH_NAME, self._log, self._make_room)
        # A name needs room, too, where files are counted.
        self._control = with_room(lambda: listen_unix(self._directory / SOCKET_NAME, 0o600), self._make_room)
        self._control.setblocking(False)
        try:
            self._log("info", "on standby")
            while not self._ending:
                term = self._stand_by()
                if term is not None:
                    self._lead(term)
        finally:
            self._passing.end(signal.SIGTERM)
            self._store.close()
            self._control.close()
            for leftover in (SOCKET_NAME, STATE_NAME):
                (self._directory / leftover).unlink(missing_ok=True)

    # ------------------------------------------------------------------ standby

    def _stand_by(self) -> Term | None:
        """Wait until this candidate is the leader; None: told to end."""
        self._role = "standby"
        pause_s = 0.0
        while True:
            self._save()
            if pause_s:
                leader = self._view.leader
                self._passing.keep(leader if leader != self._name else "")
                self._wait(pause_s, [*self._store.hints(), *self._passing.descriptors()])
            else:
                self._wait(0.0, [])
            if self._ending:
                return None
            self._switch_asked = False
            try:
                self._view = self._store.look()
                self._has_looked = True
                self._is_reachable()
                self._warn(self._view.warning)
                self._note_epoch(self._view.epoch)
                pause_s = self._wait_before_campaign()
                if not pause_s:
                    term = self._store.campaign(self._floor())
                    if term is not None:
                        # The head is about to serve these clients itself. They come again.
                        self._passing.end(signal.SIGKILL)
                        self._complained = ""
                        return term
                    pause_s = 0.02
                if not self._problem:
                    self._complained = ""
            except StoreUnavailable as error:
                self._is_unreachable(str(error))
                pause_s = UNAVAILABLE_PAUSE_S * (1 + random.random())
            except StoreForeign as error:
                if not self._has_looked:
                    # A mistake in the configuration: whoever has just started this head shall see it.
                    raise
                self._complain(str(error))
                pause_s = REFUSED_PAUSE_S * (1 + random.random())
            except HeorotError as error:
                self._complain(str(error))
                pause_s = REFUSED_PAUSE_S * (1 + random.random())

    def _wait_before_campaign(self) -> float:
        """Return how long to wait before looking again; 0: campaign now."""
        now_s = boot_time()
        view = self._view
        others = self._others()
        if self._is_removed(self._name):
            self._complain(
                f"{self._name} was removed from the cluster (heorot head remove) and does not stand for head"
            )
            return self._store.look_every_s
        if view.leader:
            self._failure = ""
            return self._store.look_every_s
        if view.preferred and view.preferred != self._name and view.preferred in others:
            return 0.02
        wait_s = self._not_before_s - now_s
        if others and view.preferred != self._name:
            wait_s = max(wait_s, self._others_first_until_s - now_s)
        return max(0.0, min(wait_s, self._store.look_every_s))

    def _note_epoch(self, epoch: int) -> None:
        """Remember the epochs of others, too: if the store loses them, nodes obey nobody below what they have seen."""
        if epoch > self._seen_epoch:
            self._seen_epoch = max(epoch, self._floor())
            with self._logged("cannot note the epoch"):
                try:
                    self._keep_epoch(self._seen_epoch)
                except OSError as error:
                    raise HeorotError(f"{self._directory / EPOCH_NAME}: {error.strerror or error}") from error

    def _floor(self) -> int:
        """Return the highest epoch that this host has ever led in, or seen in the store."""
        try:
            return max(self._seen_epoch, state.recall_epoch(self._directory, EPOCH_NAME))
        except HeorotError as error:
            raise StoreRefused(str(error)) from error

    def _keep_epoch(self, epoch: int) -> None:
        state.remember_durably(self._directory, EPOCH_NAME, str(epoch).encode(), self._make_room)

    # ------------------------------------------------------------------ lead

    def _lead(self, term: Term) -> None:
        """Run the head until it ends or must end; afterwards it is dead and the lease is given up."""
        read, self._news = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        pulse, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        began_s = self._lease_until_s = boot_time()
        if term.warning:
            self._log("warning", term.warning)
        try:
            try:
                self._keep_epoch(term.epoch)
                self._epoch = term.epoch
                self._head_pid = self._start(term, read, write)
            except (HeorotError, OSError) as error:
                self._log("error", f"cannot start the head: {error}")
                self._ended(began_s)
                self._failure = f"cannot start the head: {error}"
                return
            finally:
                os.close(read)
                os.close(write)
            self._role = "active"
            process = os.pidfd_open(self._head_pid)
            try:
                with self._logged("cannot note the head's process in the store"):
                    self._store.handed_over(self._head_pid)
                why = self._keep(process, Watchdog(pulse, self._hang_s, boot_time()))
            except BaseException:
                self._end_head(process, signal.SIGKILL)
                raise
            finally:
                os.close(process)
            self._log(
                "info" if self._ending or self._handing_over else "warning", f"the head {why}; giving up the lease"
            )
            if not (self._ending or self._handing_over):
                self._ended(began_s)
                said = self._last_words()
                self._failure = f"the head {why}{': ' if said else ''}{said}" if self._quick_ends else ""
        finally:
            # The head is reaped, or was never started: nobody acts in this epoch any more.
            with self._logged("cannot give the lease up; it runs out by itself"):
                self._store.resign()
            os.close(pulse)
            os.close(self._news)
            self._news = -1
            self._told = ""
            self._role = "standby"
            self._head_pid = 0
            if self._handing_over:
                self._others_first_until_s = boot_time() + HOLD_BACK_AFTER_END_S
            self._handing_over = False

    def _keep(self, process: int, watchdog: Watchdog) -> str:
        """Keep the lease until the head ends or must be ended; return what became of it."""
        began_s = next_s = boot_time()
        while True:
            now_s = boot_time()
            if now_s >= next_s:
                try:
                    self._view = self._store.renew()
                    self._is_reachable()
                    self._complained = ""
                    self._warn(self._view.warning)
                    self._lease_until_s = now_s + self._store.lease_s
                    # Counted from before the request: this is when the store may have begun to count.
                    next_s = now_s + self._store.renew_every_s
                except LeaseLost as error:
                    self._log("error", f"this head must not go on: {error}")
                    return f"was ended ({self._end_head(process, signal.SIGKILL)})"
                except StoreUnavailable as error:
                    self._is_unreachable(str(error))
                    next_s = boot_time() + UNAVAILABLE_PAUSE_S
                except HeorotError as error:
                    self._complain(str(error))
                    self._is_unreachable(str(error))
                    next_s = boot_time() + self._store.renew_every_s
                self._tell()
                self._save()
            ready = self._wait(min(next_s - boot_time(), PULSE_S), [process, *self._store.hints()])
            if process in ready:
                return how_ended(os.waitpid(self._head_pid, 0)[1])
            if self._failure and boot_time() - began_s >= QUICK_END_S:
                self._failure = ""
                self._save()
            if watchdog.is_silent(boot_time()):
                self._log("error", f"the head hangs: it has given no sign of life for {watchdog.silent_s:.1f} s")
                return f"was ended ({self._end_head(process, signal.SIGKILL)})"
            if ready:
                next_s = 0.0
            elif self._is_removed(self._name) and self._others():
                with self._logged("was removed, and cannot hand over"):
                    self._hand_over("")
            if self._switch_asked:
                self._switch_asked = False
                with self._logged("cannot hand over"):
                    self._hand_over("")
            if self._ending or self._handing_over:
                return self._end_head(process, signal.SIGTERM)

    def _end_head(self, process: int, number: signal.Signals) -> str:
        """End the head, by force if it takes too long; it is reaped when this returns."""
        poll = select.poll()
        poll.register(process, select.POLLIN)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)
            if number != signal.SIGKILL and not poll.poll(END_GRACE_S * 1000):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        return how_ended(os.waitpid(self._head_pid, 0)[1])

    def _ended(self, began_s: float) -> None:
        now_s = boot_time()
        self._quick_ends = self._quick_ends + 1 if now_s - began_s < QUICK_END_S else 0
        pause_s = 0.0 if self._quick_ends <= 1 else min(0.1 * 2 ** (self._quick_ends - 2), LONGEST_PAUSE_S)
        self._not_before_s = now_s + pause_s
        self._others_first_until_s = now_s + HOLD_BACK_AFTER_END_S

    def _is_removed(self, name: str) -> bool:
        return self._listed is not None and self._listed.is_removed(name)

    def _others(self) -> list[str]:
        """Return the other heads that are alive and may lead."""
        return [name for name in self._view.candidates if name != self._name and not self._is_removed(name)]

    def _hand_over(self, name: str) -> str:
        """Prefer the head of this name, or any other one, and have ours ended. Raises HeorotError."""
        self._view = self._store.look()
        others = self._others()
        if name == self._name:
            raise HeorotError(f"{name} is the active head already")
        if not others:
            raise HeorotError("there is no standby head to hand over to")
        if name and name not in others:
            raise HeorotError(f"there is no standby head {name!r}; there is {', '.join(others)}")
        target = name or others[0]
        self._store.prefer(target)
        self._log("info", f"handing over to {target}")
        self._handing_over = True
        return target

    # ------------------------------------------------------------------ what others are told

    def _is_reachable(self) -> None:
        if not self._reachable:
            self._log("info", f"the {self._store.kind} store answers again")
            self._since_s = boot_time()
        self._reachable = True
        self._problem = ""

    def _is_unreachable(self, problem: str) -> None:
        if self._reachable:
            going_on = "; the active head goes on, but nobody can be elected" if self._role == "active" else ""
            self._log("warning", f"{problem}{going_on}")
            self._since_s = boot_time()
        self._reachable = False
        self._problem = problem

    def _warn(self, warning: str) -> None:
        if warning and warning != self._warned:
            self._log("warning", warning)
        self._warned = warning

    def _complain(self, problem: str) -> None:
        if problem != self._complained:
            self._log("error", problem)
        self._complained = self._problem = problem

    @contextlib.contextmanager
    def _logged(self, what: str) -> Any:
        try:
            yield
        except HeorotError as error:
            self._log("warning", f"{what}: {error}")

    def _heads(self) -> list[dict[str, str]]:
        names = sorted({*self._view.candidates, self._name})
        leader = self._name if self._role == "active" else self._view.leader
        return [{"name": name, "role": "active" if name == leader else "standby"} for name in names]

    def _tell(self) -> None:
        """Tell the head who else there is, how the store is, and until when nobody else can lead."""
        until_s = self._lease_until_s
        listed = self._listed.read() if self._listed is not None else ()
        news = {
            "listed": [[head.name, head.host, head.port] for head in listed],
            "lease_until_ms": None if math.isinf(until_s) else int(until_s * 1000),
            "heads": self._heads(),
            "store": {
                "kind": self._store.kind,
                "reachable": self._reachable,
                "since_ms": int(self._since_s * 1000),
                "problem": "" if self._reachable else self._problem[:MAX_PROBLEM_CHARACTERS],
            },
        }
        text = json.dumps(news)
        if text == self._told:
            return
        # A head that does not read has trouble of another kind; it must not stop us.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._news, text.encode() + b"\n")
            self._told = text

    def _status(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "role": self._role,
            "epoch": self._epoch if self._role == "active" else self._view.epoch,
            "pid": os.getpid(),
            "head_pid": self._head_pid,
            "quick_ends": self._quick_ends,
            "problem": self._why_not(),
            "heads": self._heads(),
            "store": {
                "kind": self._store.kind,
                "reachable": self._reachable,
                "since_s": round(boot_time() - self._since_s, 1),
                "problem": self._problem,
            },
        }

    def _why_not(self) -> str:
        """Return why this head does not lead, or could not if it had to; empty: nothing is wrong."""
        return (self._failure or self._problem)[:MAX_PROBLEM_CHARACTERS]

    def _save(self) -> None:
        known = {
            "role": self._role,
            "pid": os.getpid(),
            "head_pid": self._head_pid,
            "quick_ends": self._quick_ends,
            "leader": self._name if self._role == "active" else self._view.leader,
            "problem": self._why_not(),
        }
        if known != self._published:
            self._published = known
            self._publish(known)

    def _write_down(self, known: dict[str, Any]) -> None:
        state.remember(self._directory, STATE_NAME, json.dumps(known).encode(), self._log, self._make_room)

    # ------------------------------------------------------------------ waiting, and who speaks to us

    def _wait(self, timeout_s: float, descriptors: list[int]) -> list[int]:
        """Wait until one of the descriptors is readable, a signal comes or somebody speaks to us."""
        assert self._control is not None
        poll = select.poll()
        for fd in (self._wake, self._control.fileno(), *descriptors):
            poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(max(0.0, timeout_s) * 1000)]
        if self._wake in ready:
            self._signalled()
        if self._control.fileno() in ready:
            self._answer()
        return [fd for fd in ready if fd in descriptors]

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(self._wake, 4096)
            self._ending = self._ending or signal.SIGTERM in numbers or signal.SIGINT in numbers
            self._switch_asked = self._switch_asked or signal.SIGUSR1 in numbers

    def _answer(self) -> None:
        assert self._control is not None
        try:
            sock, _ = self._control.accept()
        except OSError:
            return
        with sock:
            # Only root and the owner can reach the socket; a slow one must not keep the lease waiting.
            try:
                if peer_credentials(sock)[1] not in (0, os.geteuid()):
                    raise HeorotError("only root and the cluster's owner may do that")
                answer = self._obey(json.loads(_receive(sock)))
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                answer = {"error": f"not a command: {error}"}
            except HeorotError as error:
                answer = {"error": str(error)}
            except OSError:
                return
            payload = json.dumps(answer).encode()
            sock.settimeout(CONTROL_TIMEOUT_S)
            with contextlib.suppress(OSError):
                sock.sendall(len(payload).to_bytes(4, "big") + payload)

    def _obey(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("do") == "switch":
            if self._role != "active":
                raise HeorotError(f"{self._name} is not the active head; {self._view.leader or 'nobody'} is")
            return {"to": self._hand_over(str(request.get("name") or "")), "epoch": self._epoch}
        if request.get("do") == "status":
            return self._status()
        raise HeorotError(f"unknown command {request.get('do')!r}")


def _receive(sock: socket.socket) -> bytes:
    """Return a request that comes whole within `CONTROL_TIMEOUT_S`. Raises OSError, HeorotError."""
    data = b""
    until_s = boot_time() + CONTROL_TIMEOUT_S
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        if len(data) > MAX_REQUEST_BYTES:
            raise HeorotError("the command is too long")
        left_s = until_s - boot_time()
        if left_s <= 0:
            raise TimeoutError("the command does not come")
        sock.settimeout(left_s)
        part = sock.recv(MAX_REQUEST_BYTES)
        if not part:
            raise OSError("closed")
        data += part
    return data[4:]
