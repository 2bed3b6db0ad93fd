"""Named timers and the loop below them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from heorot.runtime.loop import EpollLoop
from heorot.runtime.timers import Timers

Until = Callable[[Callable[[], object]], None]


def now_ms(loop: EpollLoop) -> int:
    """The loop's time in milliseconds."""
    return int(loop.time() * 1000)


def test_timers_fire_in_the_order_of_their_times_and_never_early(loop: EpollLoop, until: Until) -> None:
    fired: list[tuple[str, int]] = []
    timers: Timers[str] = Timers(loop, lambda key: fired.append((key, now_ms(loop))))
    start = now_ms(loop)
    for key, delay in (("c", 30), ("a", 10), ("b", 20)):
        timers.set(key, start + delay)
    until(lambda: len(fired) == 3)
    assert [key for key, _ in fired] == ["a", "b", "c"]
    assert all(at >= start + delay for (_, at), delay in zip(fired, (10, 20, 30), strict=True))


def test_a_timer_that_is_moved_fires_once_at_its_last_time(loop: EpollLoop, until: Until) -> None:
    fired: list[tuple[str, int]] = []
    timers: Timers[str] = Timers(loop, lambda key: fired.append((key, now_ms(loop))))
    start = now_ms(loop)
    timers.set("later", start + 5)
    timers.set("later", start + 40)
    timers.set("sooner", start + 100_000)
    timers.set("sooner", start + 20)
    timers.set("end", start + 60)
    until(lambda: "end" in dict(fired))
    assert [key for key, _ in fired] == ["sooner", "later", "end"]
    assert dict(fired)["later"] >= start + 40


def test_moving_a_timer_often_keeps_one_entry(loop: EpollLoop) -> None:
    timers: Timers[str] = Timers(loop, lambda key: None)
    start = now_ms(loop)
    for step in range(10_000):
        timers.set("heartbeat", start + 100_000 + step)
    assert len(timers._heap) == 1


def test_a_callback_may_remove_what_is_ready_beside_it(loop: EpollLoop) -> None:
    pipes = [os.pipe() for _ in range(2)]
    called: list[int] = []

    def ready(mine: int, other: int) -> None:
        called.append(mine)
        loop.remove_reader(other)

    (first, _), (second, _) = pipes
    for read, other in ((first, second), (second, first)):
        loop.add_reader(read, ready, read, other)
    for _, write in pipes:
        os.write(write, b"x")
    loop.run_once(1.0)
    assert len(called) == 1
    for pair in pipes:
        for fd in pair:
            loop.remove_reader(fd)
            os.close(fd)


def test_an_exception_in_a_callback_ends_the_loop(loop: EpollLoop) -> None:
    def fail() -> None:
        raise AssertionError("wrong state")

    loop.call_soon(fail)
    with pytest.raises(AssertionError, match="wrong state"):
        loop.run_forever()


def test_timers_that_are_always_due_do_not_starve_sockets(loop: EpollLoop, until: Until) -> None:
    read, write = os.pipe()
    heard: list[bytes] = []
    rounds = 0

    def again() -> None:
        nonlocal rounds
        rounds += 1
        assert rounds < 100_000, "the socket never had its turn"
        if not heard:
            loop.call_at(0.0, again)

    loop.add_reader(read, lambda: heard.append(os.read(read, 10)))
    os.write(write, b"x")
    again()
    until(lambda: heard)
    loop.remove_reader(read)
    os.close(read)
    os.close(write)
