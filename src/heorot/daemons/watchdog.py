"""Says to a head's keeper, through a pipe, that the head's event loop goes round; see `heorot.core.keeper.watchdog`."""

from __future__ import annotations

import contextlib
import os

from heorot.core.keeper.watchdog import PULSE_S
from heorot.runtime.loop import Loop


def say_alive(loop: Loop, fd: int) -> None:
    """Say from now on that this loop goes round. `fd`: the writing end of a pipe, which does not block."""
    # A pipe that is full has news enough for a keeper that sleeps; without a keeper the kernel ends this process.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(fd, b".")
    loop.call_at(loop.time() + PULSE_S, say_alive, loop, fd)


def has_spoken(fd: int) -> bool:
    """Say whether the head has said so since the last call. `fd`: the reading end of the pipe, which does not block."""
    with contextlib.suppress(BlockingIOError):
        return bool(os.read(fd, 65536))
    return False
