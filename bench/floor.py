"""The floors: the least that this machine needs for the same work without any cluster."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

COMMAND = "/bin/true"
CHUNK_BYTES = 65536


def _spawn_and_reap(count: int, window: int) -> None:
    """Start `count` processes, at most `window` of them at the same time, and reap them all."""
    running = 0
    for _ in range(count):
        os.posix_spawn(COMMAND, [COMMAND], {})
        running += 1
        if running >= window:
            os.wait()
            running -= 1
    for _ in range(running):
        os.wait()


def launch_floor_s(count: int, window: int = 512) -> float:
    """Return how long this machine takes to start and reap `count` processes on all of its cores, in seconds.

    One process on each core starts its share with ``posix_spawn``; the cheapest way there is from Python, 15 % above C.
    The starters exist before the clock starts. The window is the one that measured fastest.
    """
    cores = sorted(os.sched_getaffinity(0))
    go_read, go_write = os.pipe()
    done_read, done_write = os.pipe()
    workers: list[int] = []
    try:
        for index, core in enumerate(cores):
            share = count // len(cores) + (index < count % len(cores))
            pid = os.fork()
            if pid == 0:
                _be_starter(core, share, window, go_read, done_write)
            workers.append(pid)
        for _ in workers:
            os.read(done_read, 1)
        start = time.perf_counter()
        os.write(go_write, b"g" * len(workers))
        for _ in workers:
            os.read(done_read, 1)
        return time.perf_counter() - start
    finally:
        for descriptor in (go_read, go_write, done_read, done_write):
            os.close(descriptor)
        _reap(workers)


def _be_starter(core: int, share: int, window: int, go_read: int, done_write: int) -> None:
    """Run in a child: say ready, wait for the word, work, say done. Does not return."""
    try:
        os.sched_setaffinity(0, {core})
        os.write(done_write, b"r")
        os.read(go_read, 1)
        os.sched_setaffinity(0, {core})
        _spawn_and_reap(share, window)
        os.write(done_write, b"d")
    finally:
        os._exit(0)


def _reap(pids: list[int]) -> None:
    """End and collect children of ours."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextmanager
def _children() -> Iterator[list[int]]:
    pids: list[int] = []
    try:
        yield pids
    finally:
        _reap(pids)


def _fork(body: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(0)
    return pid


def _copy(source: int, target: int) -> None:
    while data := os.read(source, CHUNK_BYTES):
        _write_all(target, data)


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def pipe_chain_floor_s(total_bytes: int, hops: int) -> float:
    """Return how long `total_bytes` take through a chain of pipes with `hops` copying processes between the ends."""
    block = b"\0" * CHUNK_BYTES
    with _children() as pids:
        pipes = [os.pipe() for _ in range(hops + 1)]

        def keep_only(*kept: int) -> None:
            for pair in pipes:
                for descriptor in pair:
                    if descriptor not in kept:
                        os.close(descriptor)

        def write() -> None:
            keep_only(pipes[0][1])
            left = total_bytes
            while left:
                left -= os.write(pipes[0][1], block[: min(left, CHUNK_BYTES)])

        def relay(hop: int) -> None:
            keep_only(pipes[hop][0], pipes[hop + 1][1])
            _copy(pipes[hop][0], pipes[hop + 1][1])

        start = time.perf_counter()
        pids.append(_fork(write))
        for hop in range(hops):
            pids.append(_fork(lambda hop=hop: relay(hop)))  # type: ignore[misc]
        end = pipes[hops][0]
        keep_only(end)
        received = 0
        while data := os.read(end, CHUNK_BYTES):
            received += len(data)
        elapsed = time.perf_counter() - start
        os.close(end)
        assert received == total_bytes, f"the floor itself lost bytes: {received} of {total_bytes}"
        return elapsed


def broadcast_floor_s(total_bytes: int, readers: int) -> float:
    """Return how long one process takes to write the same `total_bytes` into a pipe for each of `readers` processes."""
    block = b"\0" * CHUNK_BYTES
    with _children() as pids:
        targets: list[int] = []
        done_read, done_write = os.pipe()
        for _ in range(readers):
            source, target = os.pipe()

            def read(source: int = source, target: int = target) -> None:
                os.close(target)
                for other in targets:
                    os.close(other)
                while os.read(source, CHUNK_BYTES):
                    pass
                os.write(done_write, b"d")

            pids.append(_fork(read))
            os.close(source)
            targets.append(target)
        start = time.perf_counter()
        left = total_bytes
        while left:
            part = block[: min(left, CHUNK_BYTES)]
            for target in targets:
                _write_all(target, part)
            left -= len(part)
        for target in targets:
            os.close(target)
        for _ in range(readers):
            os.read(done_read, 1)
        elapsed = time.perf_counter() - start
        os.close(done_read)
        os.close(done_write)
        return elapsed
