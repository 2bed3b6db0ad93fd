"""The loop calls nobody for what happened to a descriptor that had the same number before."""

from __future__ import annotations

import os
import socket

from heorot.runtime.loop import EpollLoop


def test_a_reader_that_closes_its_descriptor_leaves_no_event_to_the_next_with_its_number() -> None:
    loop = EpollLoop()
    first, second = socket.socketpair()
    third, fourth = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.close(fourth)
    written: list[int] = []

    def read() -> None:
        loop.remove_reader(third)
        os.dup2(first.fileno(), third)
        loop.add_writer(third, written.append, third)

    loop.add_reader(third, read)
    loop.run_once(0.1)
    assert written == []
    loop.run_once(0.1)
    assert written == [third]
    loop.remove_writer(third)
    os.close(third)
    for sock in (first, second):
        sock.close()
    loop.close()
