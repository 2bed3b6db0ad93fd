"""The embedded coordination store: one head at a time, whatever becomes of the former, and an epoch that only grows."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.coord.local import LocalStore
from heorot.core.keeper.election import LeaseLost, StoreRefused, Term
from tests.support.disks import fill, small_disk

CANDIDATE = """
import os, select, sys
from collections.abc import Iterator
from pathlib import Path
from heorot.coord.local import LocalStore
store = LocalStore(Path(sys.argv[1]), sys.argv[2])
while (term := store.campaign(0)) is None:
    store.look()
    select.select(store.hints(), [], [], 0.05)
print(term.epoch, flush=True)
sys.stdin.read()
"""


def candidate(directory: Path, name: str) -> subprocess.Popen[str]:
    """Start a process that campaigns, prints its epoch once it is head, and lives until its stdin is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", CANDIDATE, str(directory), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> None:
    """Kill and reap."""
    process.send_signal(number)
    process.communicate()


def test_a_standby_becomes_head_only_when_the_head_dies_and_with_a_higher_epoch(tmp_path: Path) -> None:
    first = candidate(tmp_path / "coord", "h0")
    assert first.stdout is not None
    assert first.stdout.readline() == "1\n"
    second = candidate(tmp_path / "coord", "h1")
    assert second.stdout is not None
    # While the first lives the second has nothing to say: killing the first is what makes it speak.
    store = LocalStore(tmp_path / "coord", "h2")
    assert store.last_epoch() == 1
    assert store.leader() == ("h0", first.pid)
    os.kill(first.pid, 0)
    end(first)
    assert second.stdout.readline() == "2\n"
    assert store.leader() == ("h1", second.pid)
    end(second)


def test_of_many_candidates_exactly_one_is_head_at_a_time(tmp_path: Path) -> None:
    candidates = {process.pid: process for process in (candidate(tmp_path / "coord", f"h{i}") for i in range(4))}
    store = LocalStore(tmp_path / "coord", "h9")
    epochs = []
    remaining = dict(candidates)
    while remaining:
        ready, _, _ = select.select([process.stdout for process in remaining.values() if process.stdout], [], [], 20)
        # The others wait: killing this one is what lets the next speak.
        assert len(ready) == 1
        pid = next(pid for pid, process in remaining.items() if process.stdout is ready[0])
        epochs.append(int(remaining[pid].stdout.readline()))  # type: ignore[union-attr]  # checked above
        leader = store.leader()
        assert leader is not None
        assert leader[1] == pid
        end(remaining.pop(pid))
    assert epochs == [1, 2, 3, 4]


def elect(store: LocalStore, floor: int = 0) -> Term:
    """Campaign without an opponent."""
    term = store.campaign(floor)
    assert term is not None
    return term


def test_the_epoch_survives_and_is_never_given_twice(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        store = LocalStore(tmp_path / "coord", "h0")
        assert elect(store) == Term(expected, store._lock)
        store.resign()


def test_the_epoch_goes_on_above_what_this_host_has_seen_when_the_file_was_deleted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, "h0")
    store.campaign(0)
    store.resign()
    (tmp_path / "epoch").unlink()
    term = elect(store, floor=17)
    assert term.epoch == 18
    assert "17" in term.warning
    store.resign()


def test_a_damaged_epoch_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "epoch").write_text("seven\n")
    with pytest.raises(StoreRefused, match="cannot read the epoch"):
        LocalStore(tmp_path, "h0").campaign(0)
    assert (tmp_path / "epoch").read_text() == "seven\n"
    # The lock was given back: who repairs the file can go on at once.
    (tmp_path / "epoch").write_text("7\n")
    store = LocalStore(tmp_path, "h0")
    assert elect(store).epoch == 8
    store.resign()


def test_the_lock_is_the_head_process_s_own(tmp_path: Path) -> None:
    keeper, other = LocalStore(tmp_path, "h0"), LocalStore(tmp_path, "h1")
    lock = elect(keeper).lock
    with subprocess.Popen(["sleep", "1000"], pass_fds=(lock,)) as head:
        keeper.handed_over(head.pid)
        view = other.look()
        assert (view.leader, view.epoch) == ("h0", 1)
        assert other.campaign(0) is None
        # The keeper's end changes nothing, the head's frees the lock.
        keeper.close()
        assert other.campaign(0) is None
        head.kill()
        select.select(other.hints(), [], [])
        assert elect(other).epoch == 2
    other.close()


def test_a_leader_whose_lock_file_was_replaced_must_stop(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, "h0")
    elect(store)
    assert store.renew().leader == "h0"
    (tmp_path / "leader.lock").unlink()
    with pytest.raises(LeaseLost, match=r"leader\.lock"):
        store.renew()
    store.close()


def test_candidates_are_listed_while_they_live_and_one_may_be_preferred(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path, name) for name in ("h0", "h1", "h2")]
    for store in stores:
        store.look()
    assert stores[0].look().candidates == ("h0", "h1", "h2")
    stores[0].prefer("h2")
    assert [store.look().preferred for store in stores] == ["h2"] * 3
    stores[1].close()
    assert stores[0].look().candidates == ("h0", "h2")
    # Whoever is elected, the wish is fulfilled or void.
    elect(stores[2])
    assert stores[0].look().preferred == ""
    for store in stores:
        store.close()


def test_a_process_that_has_only_the_number_of_the_leader_is_not_taken_for_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, "h1")
    (tmp_path / "leader").write_text(f"h0 {os.getpid()} 1\n")
    assert store.look().leader == ""
    store.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "128k") as made:
        yield made


def test_on_a_disk_that_has_become_full_heads_are_elected_and_hand_over(disk: Path) -> None:
    stores = [LocalStore(disk / "coord", name) for name in ("h0", "h1")]
    for store in stores:
        store.look()
    fill(disk)
    for epoch in range(1, 6):
        store = stores[epoch % 2]
        assert elect(store).epoch == epoch
        store.handed_over(os.getpid())
        assert [other.look().leader for other in stores] == [f"h{epoch % 2}"] * 2
        store.prefer(f"h{1 - epoch % 2}")
        assert stores[1 - epoch % 2].look().preferred == f"h{1 - epoch % 2}"
    # A candidate that was here before comes back.
    stores[1].close()
    stores[1] = LocalStore(disk / "coord", "h1")
    assert stores[1].look().candidates == ("h0", "h1")
    for store in stores:
        store.close()


def test_a_store_that_has_no_room_asks_for_it_and_says_so_if_there_is_none(disk: Path) -> None:
    spare = disk / "spare"
    spare.write_bytes(bytes(8 * 4096))
    fill(disk)
    with pytest.raises(StoreRefused, match="No space left"):
        LocalStore(disk / "coord", "h0").look()

    def make_room() -> bool:
        spare.unlink()
        return True

    store = LocalStore(disk / "coord", "h0", make_room)
    assert store.look().candidates == ("h0",)
    store.close()


def test_a_store_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    (tmp_path / "candidates").mkdir()
    (tmp_path / "epoch").write_text("41\n")
    (tmp_path / "leader").write_text("h0 1 1\n")
    store = LocalStore(tmp_path, "h1")
    assert store.look().epoch == 41
    # Somebody of that release may lead: only who has the lock changes the file.
    assert (tmp_path / "epoch").read_text() == "41\n"
    assert elect(store).epoch == 42
    assert LocalStore(tmp_path, "h2").last_epoch() == 42
    store.close()


def test_who_was_elected_and_could_start_no_head_is_no_leader(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "coord", "h0")
    assert store.campaign(0) is not None
    store.resign()
    look = "import sys; from pathlib import Path; from heorot.coord.local import LocalStore; " + (
        "print(repr(LocalStore(Path(sys.argv[1]), 'h1').look().leader))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", look, str(tmp_path / "coord")]
    seen = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert seen.stdout == "''\n", "this process lives, and leads nothing"
    assert store.look().leader == ""
    term = store.campaign(0)
    assert term is not None
    assert term.epoch == 2
    store.close()
