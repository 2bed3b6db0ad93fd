"""What is wanted of nodes is on the disk, and in the store by way of the keeper, before the head is told so."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.core.wire.wishes import KeepWishes, NodeWish, WishesKept
from heorot.daemons import kept_wishes
from heorot.daemons.kept_wishes import KeptWishes
from heorot.runtime.loop import EpollLoop
from heorot.security.wishes import WishFile
from tests.support.waiting import await_that

DRAIN = NodeWish(3, 1, 1, "drain", "fan", "root")


class FakeKeeper:
    """Listens as a keeper does, and answers when the test says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._listener.settimeout(5)
        self._asking: list[socket.socket] = []

    def asked(self) -> dict[str, str]:
        """Return the next request."""
        asking, _ = self._listener.accept()
        asking.settimeout(5)
        self._asking.append(asking)
        size_bytes = int.from_bytes(asking.recv(4), "big")
        request: dict[str, str] = json.loads(asking.recv(size_bytes))
        return request

    def answer(self, data: bytes) -> None:
        """Answer the last request with this."""
        self._asking[-1].sendall(data)

    def hang_up(self) -> None:
        """Close the connection without a word."""
        self._asking[-1].close()

    def close(self) -> None:
        for asking in self._asking:
            asking.close()
        self._listener.close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def loop() -> Iterator[EpollLoop]:
    made = EpollLoop()
    yield made
    made.close()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[FakeKeeper]:
    made = FakeKeeper(tmp_path / "keeper.sock")
    yield made
    made.close()


def framed(value: object) -> bytes:
    payload = json.dumps(value).encode()
    return len(payload).to_bytes(4, "big") + payload


def run_until(loop: EpollLoop, told: list[WishesKept], count: int) -> None:
    def looked() -> bool:
        loop.run_once(0.05)
        return len(told) >= count

    await_that(looked, "the head is told")


def test_the_head_is_told_when_the_keeper_says_that_it_is_shared(
    loop: EpollLoop, tmp_path: Path, keeper: FakeKeeper
) -> None:
    told: list[WishesKept] = []
    kept = KeptWishes(loop, tmp_path, keeper.path, told.append)
    kept.keep(KeepWishes(1, (DRAIN,)))
    kept.keep(KeepWishes(2, (NodeWish(4, 1, 2),)))
    assert keeper.asked() == {"do": "share"}
    # It is on the disk when the keeper is asked, and the next one is not.
    assert WishFile(tmp_path).content() == {3: DRAIN}
    keeper.answer(framed({"shared": True})[:9])
    loop.run_once(0.05)
    assert told == []
    keeper.answer(framed({"shared": True})[9:])
    run_until(loop, told, 1)
    assert keeper.asked() == {"do": "share"}
    assert set(WishFile(tmp_path).content()) == {3, 4}
    keeper.answer(framed({"error": "no majority"}))
    run_until(loop, told, 2)
    assert told == [WishesKept(1), WishesKept(2, "no majority")]
    kept.close()


@pytest.mark.parametrize(
    "answer", [b"\0\0\0\4null", framed({}), framed({"shared": "yes"}), b"\0\0\0\2[]", b"\0\0\0\1{"]
)
def test_what_is_no_yes_is_a_no(loop: EpollLoop, tmp_path: Path, keeper: FakeKeeper, answer: bytes) -> None:
    told: list[WishesKept] = []
    kept = KeptWishes(loop, tmp_path, keeper.path, told.append)
    kept.keep(KeepWishes(1, (DRAIN,)))
    keeper.asked()
    keeper.answer(answer)
    run_until(loop, told, 1)
    assert told[0].error
    assert told[0].written
    kept.close()


def test_a_keeper_that_is_gone_or_silent_is_a_no(
    loop: EpollLoop, tmp_path: Path, keeper: FakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[WishesKept] = []
    kept = KeptWishes(loop, tmp_path, keeper.path, told.append)
    kept.keep(KeepWishes(1, (DRAIN,)))
    keeper.asked()
    keeper.hang_up()
    run_until(loop, told, 1)
    monkeypatch.setattr(kept_wishes, "ANSWER_TIMEOUT_S", 0.01)
    kept.keep(KeepWishes(2, (DRAIN,)))
    keeper.asked()
    run_until(loop, told, 2)
    keeper.path.unlink()
    kept.keep(KeepWishes(3, (DRAIN,)))
    assert [(answer.serial, answer.written, bool(answer.error)) for answer in told] == [
        (1, True, True),
        (2, True, True),
        (3, True, True),
    ]
    kept.close()


def test_a_disk_that_takes_nothing_changes_nothing(
    loop: EpollLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, *arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(WishFile, "put", full)
    told: list[WishesKept] = []
    KeptWishes(loop, tmp_path, None, told.append).keep(KeepWishes(1, (DRAIN,)))
    assert told == [WishesKept(1, f"cannot write into {tmp_path}: No space left on device", written=False)]


def test_where_all_heads_are_on_this_host_the_file_is_enough_and_without_a_directory_nothing_is_kept(
    loop: EpollLoop, tmp_path: Path
) -> None:
    told: list[WishesKept] = []
    KeptWishes(loop, tmp_path, None, told.append).keep(KeepWishes(1, (DRAIN,)))
    assert WishFile(tmp_path).content() == {3: DRAIN}
    KeptWishes(loop, None, None, told.append).keep(KeepWishes(2, (DRAIN,)))
    assert told == [WishesKept(1), WishesKept(2)]
