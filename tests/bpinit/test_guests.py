"""Who asks bpinit directly what runs there is told, bounded, and disturbs neither agent nor processes."""

from __future__ import annotations

import os
import select
import socket
from typing import Any

import pytest

from heorot.bpinit import guests, link
from heorot.bpinit.space_socket import connect_space
from heorot.core.space.view import ROWS_PER_VIEW
from heorot.core.wire import tree as m
from heorot.core.wire.framing import FrameDecoder, encode_frame
from tests.bpinit.conftest import MODES
from tests.bpinit.space_rig import DEADLINE_S, NODE, Agent, SpaceRig, launch, peer_closed
from tests.support.other_user import OTHER, become

LOOK = encode_frame(m.encode(m.Look()))


def answer(connection: socket.socket) -> list[m.SpaceView]:
    """Return all that is answered until the connection is closed."""
    connection.settimeout(DEADLINE_S)
    decoder = FrameDecoder()
    views: list[m.SpaceView] = []
    while data := connection.recv(1 << 20):
        views += [m.decode_view(frame) for frame in decoder.feed(data)]
    connection.close()
    return views


def look(rig: SpaceRig) -> m.SpaceView:
    """Ask, and return the whole answer as one view."""
    connection = connect_space(rig.path)
    connection.sendall(LOOK)
    views = answer(connection)
    assert [view.more for view in views] == [True] * (len(views) - 1) + [False]
    first = views[0]
    jobs = [job for view in views for job in view.jobs]
    processes = [process for view in views for process in view.processes]
    return m.SpaceView(first.node, first.incarnation, first.epoch, first.agent, first.headless_ms, jobs, processes)


def test_a_guest_is_told_everything_and_the_agent_notices_nothing(rig: SpaceRig, agent: Agent) -> None:
    agent.acknowledge = False
    agent.send(
        m.Inventorize(False, 7),
        rig.launch("1.1", b"sh", b"-c", b"echo kept; echo more >&2; sleep 1000 & sleep 1000", b"x" * 5000),
        rig.launch("1.2", b"sh", b"-c", b"echo gone; exit 3", ranks=2, headless_ms=90_000),
        rig.launch("1.3", b"/no/such/command"),
    )
    agent.until(lambda: len(agent.output.get(("1.1", 0, 2), b"")) == 5, "output")
    agent.wait_over("1.2")
    agent.wait_over("1.3")
    inventory = agent.answers[0]
    assert isinstance(inventory, m.Inventory)

    def three() -> m.SpaceView | None:
        view = look(rig)
        return view if len(view.processes) == 3 else None

    view = agent.until(three, "a shell and what it has started")
    assert (view.node, view.incarnation, view.epoch) == (NODE, inventory.incarnation, 7)
    assert (view.agent, view.headless_ms) == (True, None)
    jobs = {job.job: job for job in view.jobs}
    assert jobs["1.1"] == m.JobView("1.1", rig.uid, 1, 0, 0, 10, 0)
    assert jobs["1.2"] == m.JobView("1.2", rig.uid, 0, 2, 0, 10, 90_000)
    assert jobs["1.3"] == m.JobView("1.3", rig.uid, 0, 0, 1, 0, 0)
    (leader,) = [process for process in view.processes if process.leader]
    assert (leader.pid, leader.job, leader.rank, leader.uid) == (agent.started("1.1")[0], "1.1", 0, rig.uid)
    assert leader.kept_bytes == 10
    assert [process.kept_bytes for process in view.processes if not process.leader] == [0, 0]
    assert leader.argv[:2] == [b"sh", b"-c"]
    assert sum(map(len, leader.argv)) <= 260
    assert leader.argv[-1] == b"..."
    # The agent is the same as before, and was told nothing twice.
    agent.settle()
    assert len([a for a in agent.answers if isinstance(a, m.Inventory)]) == 1
    assert agent.ask(m.Query(1, "1.1", None, None, 0, False)).matched == 3


def test_without_an_agent_the_time_without_a_head_is_told(rig: SpaceRig, agent: Agent) -> None:
    assert look(rig).headless_ms is None
    agent.send(m.Inventorize(True, 3))
    agent.until(lambda: agent.answers, "an inventory")
    alone = look(rig)
    assert alone.agent
    assert alone.headless_ms is not None
    agent.send(m.Alone(False, 4), rig.launch("4.1", b"sleep", b"1000"))
    agent.wait_started("4.1")
    found = look(rig)
    assert (found.headless_ms, found.epoch) == (None, 4)
    agent.close()

    def lost() -> m.SpaceView | None:
        view = look(rig)
        return None if view.agent else view

    second = rig.agent()
    view = second.until(lost, "the agent missed")
    assert view.headless_ms is not None
    assert [process.job for process in view.processes] == ["4.1"]
    # Nothing that a former agent said of the epoch is forgotten, and a lower one changes nothing.
    second.send(m.Inventorize(False, 2))
    second.until(lambda: second.answers, "an inventory")
    assert look(rig).epoch == 4


def test_silent_guests_do_not_keep_an_agent_out(rig: SpaceRig, agent: Agent) -> None:
    agent.send(m.Inventorize())
    agent.until(lambda: agent.answers, "an inventory")
    silent = [connect_space(rig.path) for _ in range(guests.MAX_GUESTS + 1)]
    # The oldest had to go; the others are still waited for.
    assert peer_closed(silent[0])
    assert not select.select(silent[1:], [], [], 0)[0]
    second = rig.agent()
    second.send(m.Inventorize())
    second.until(lambda: second.answers, "an inventory")
    assert peer_closed(agent.socket)
    assert look(rig).agent
    assert "more than 8 connections" in rig.log_text()
    for connection in silent:
        connection.close()


def test_guests_that_do_not_read_are_bounded(rig: SpaceRig, agent: Agent) -> None:
    # So many processes that their answer does not fit into a socket's buffer.
    agent.send(rig.launch("1.1", b"sh", b"-c", b"sleep 1000", b"y" * 5000, ranks=900))
    agent.wait_started("1.1", 900)
    before = rig.file_descriptors()
    deaf = []
    for _ in range(guests.MAX_GUESTS * 2):
        connection = connect_space(rig.path)
        connection.sendall(LOOK)
        deaf.append(connection)
        select.select([connection], [], [], DEADLINE_S)
    assert rig.file_descriptors() <= before + guests.MAX_GUESTS
    assert len(look(rig).processes) >= 900
    for connection in deaf:
        connection.close()
    agent.until(lambda: rig.file_descriptors() == before, "all of them gone")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", ["SPEAK_MS", "READ_MS"])
def test_a_guest_has_a_limited_time(mode: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, limit, 100)
    rig = SpaceRig(mode)
    agent = rig.agent()
    agent.send(rig.launch("1.1", b"sh", b"-c", b"sleep 1000", b"y" * 5000, ranks=900))
    agent.wait_started("1.1", 900)
    connection = connect_space(rig.path)
    if limit == "READ_MS":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(LOOK)
    end = select.poll()
    end.register(connection, 0)  # nothing but the end of the other side
    agent.until(lambda: end.poll(0), "the guest sent away")
    connection.close()
    assert agent.ask(m.Query(1, "1.1", None, None, 0, False)).matched >= 900
    rig.end()


@pytest.mark.parametrize(
    "said",
    [b"\xff\xff\xff\xff", encode_frame(b"\x92\x3b\x01junk"), encode_frame(b"\x91\x3b\x00"), LOOK[:-1]],
    ids=["length", "field", "rest", "half"],
)
def test_what_a_guest_breaks_is_its_own_connection(rig: SpaceRig, agent: Agent, said: bytes) -> None:
    agent.send(rig.launch("1.1", b"sleep", b"1000"))
    agent.wait_started("1.1")
    guest = connect_space(rig.path)
    guest.sendall(said)
    guest.shutdown(socket.SHUT_WR)
    assert peer_closed(guest)
    guest.close()
    assert agent.ask(m.Query(1, "1.1", None, None, 0, False)).matched == 1


def test_a_long_answer_comes_in_parts() -> None:
    from tests.core.space.test_machine import Driver

    driver = Driver()
    processes = [m.Process(pid, "", -1, 0, "S", 0, [b"a" * 256], False) for pid in range(2 * ROWS_PER_VIEW + 1)]
    parts = driver.space.look(processes, 0)
    assert [len(part.processes) for part in parts] == [ROWS_PER_VIEW, ROWS_PER_VIEW, 1]
    assert [part.more for part in parts] == [True, True, False]
    assert [process.pid for part in parts for process in part.processes] == list(range(2 * ROWS_PER_VIEW + 1))
    assert max(len(m.encode(part)) for part in parts) < 1 << 20


if os.getuid() == 0:

    def test_other_users_are_told_nothing() -> None:
        rig = SpaceRig("rootless")
        agent = rig.agent()
        agent.send(launch("1.1", b"sleep", b"1000", uid=rig.uid, gid=rig.uid))
        agent.wait_started("1.1")
        os.chmod(rig.path, 0o777)
        os.chmod(rig.directory, 0o711)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            told: Any = b"?"
            try:
                become(OTHER)
                guest = connect_space(rig.path)
                guest.sendall(LOOK)
                told = b"told" if answer(guest) else b"nothing"
            except (BrokenPipeError, ConnectionResetError):
                told = b"nothing"
            except BaseException as error:
                told = repr(error).encode()
            finally:
                os.write(writer, told)
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 1000) == b"nothing"
        os.close(reader)
        os.close(writer)
        assert f"refused a connection of uid {OTHER}" in rig.log_text()
        rig.end()


@pytest.mark.parametrize("mode", MODES)
def test_an_agent_that_stops_in_the_middle_of_a_frame_is_disconnected(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "PROGRESS_MS", 100)
    rig = SpaceRig(mode)
    agent = rig.agent()
    agent.send(rig.launch("1.1", b"sleep", b"1000"))
    agent.wait_started("1.1")
    agent.socket.sendall((8 << 20).to_bytes(4, "big") + b"begun")
    end = select.poll()
    end.register(agent.socket, select.POLLRDHUP)
    assert end.poll(DEADLINE_S * 1000)
    # Its processes are there for the next one.
    assert rig.agent().ask(m.Query(1, "1.1", None, None, 0, False)).matched == 1
    assert "a frame was begun, and nothing more came" in rig.log_text()
    rig.end()
