"""A picture that is shown again and again, on a terminal and elsewhere."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import termios
from contextlib import suppress

import pytest

from tests.cluster.harness import DEADLINE_S, Cluster, await_that


@pytest.mark.parametrize("end", [b"\x03", b"xq", "SIGINT"])
def test_watching_leaves_the_terminal_as_it_was(trio: Cluster, sleepers: str, end: bytes | str) -> None:
    control, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    try:
        streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

        with trio.start("bpps", "-w0.1", **streams, preexec_fn=take_terminal) as ps:
            os.set_blocking(control, False)
            shown = b""

            def read_on(wanted: bytes, count: int) -> bool:
                nonlocal shown
                with suppress(BlockingIOError):
                    shown += os.read(control, 65536)
                return shown.count(wanted) >= count

            await_that(lambda: read_on(b"sleep 1000", 9), "three pictures with three sleepers")
            if isinstance(end, bytes):
                os.write(control, end)
            else:
                ps.send_signal(signal.SIGINT)
            assert ps.wait(DEADLINE_S) == 0
            await_that(lambda: read_on(b"\x1b[?25h\x1b[?1049l", 1), "the terminal restored")
        assert shown.startswith(b"\x1b[?1049h\x1b[?25l")
        assert shown.endswith(b"\x1b[?25h\x1b[?1049l")
        assert termios.tcgetattr(terminal) == before
    finally:
        os.close(terminal)
        os.close(control)


def test_watching_into_a_pipe_writes_pictures_without_escapes(trio: Cluster, sleepers: str) -> None:
    with trio.start("bpps", "--watch=0.1", "--json", "-j", sleepers) as ps:
        assert ps.stdout is not None
        first = json.loads(ps.stdout.readline())
        assert len(first) == 3
        trio.check("bpkill", "-9", f"{sleepers}:0")
        pictures = iter(ps.stdout.readline, b"")
        assert any(len(json.loads(picture)) == 2 for picture in pictures)
        ps.terminate()
        assert ps.wait(DEADLINE_S) == -signal.SIGTERM
