"""Streams of real ranks: exact, bounded, kept while nobody reads; stdin, terminals."""

from __future__ import annotations

import hashlib
import os
import signal
from functools import partial

import pytest

from heorot.core.streams import OUTPUT_CHUNK_BYTES, TAKES_NO_MORE
from heorot.core.wire import tree as m
from tests.bpinit.conftest import MODES
from tests.bpinit.space_rig import Agent, SpaceRig


def pattern(size: int) -> bytes:
    """Bytes in which every displacement shows."""
    return b"".join(b"%015d\n" % i for i in range((size + 15) // 16))[:size]


def write_pattern(rig: SpaceRig, size: int) -> str:
    path = os.path.join(rig.work, "pattern")
    with open(path, "wb") as file:
        file.write(pattern(size))
    os.chmod(path, 0o644)
    return path


def stdin_acks(agent: Agent, job: str) -> list[tuple[int, int]]:
    return [(a.rank, a.offset) for a in agent.answers if isinstance(a, m.StdinAck) and a.job == job]


def test_large_output_arrives_exactly(rig: SpaceRig, agent: Agent) -> None:
    path = write_pattern(rig, 3_000_001).encode()
    agent.send(rig.launch("1.1", b"sh", b"-c", b'cat "$0"; cat "$0" >&2', path, ranks=4, window_bytes=100_000))
    agent.wait_over("1.1")
    expected = hashlib.sha256(pattern(3_000_001)).digest()
    for rank in range(4):
        for stream in (1, 2):
            assert hashlib.sha256(agent.output[("1.1", rank, stream)]).digest() == expected
    sizes = [len(a.data) for a in agent.answers if isinstance(a, m.Output)]
    assert max(sizes) <= OUTPUT_CHUNK_BYTES


def test_a_stopped_reader_stops_its_own_rank_only(rig: SpaceRig, agent: Agent) -> None:
    agent.acknowledge = False
    agent.send(rig.launch("1.1", b"cat", b"/dev/zero", window_bytes=200_000))
    agent.until(lambda: len(agent.output.get(("1.1", 0, 1), b"")) == 200_000, "a full window")
    agent.settle()
    assert len(agent.output[("1.1", 0, 1)]) == 200_000
    agent.send(rig.launch("1.2", b"echo", b"free"))
    assert agent.wait_over("1.2") == {0: 0}
    agent.send(m.Ack("1.1", 0, 1, 150_000))
    agent.until(lambda: len(agent.output[("1.1", 0, 1)]) == 350_000, "more of the window")
    # The pipe is still full and paused; the rank must end all the same.
    agent.ask(m.Query(7, "1.1", None, None, signal.SIGKILL, False))
    agent.until(lambda: agent.over("1.1"), "the end")
    assert agent.exited("1.1") == {0: signal.SIGKILL}


def test_output_that_nobody_reads_is_kept_and_given_from_the_start(rig: SpaceRig, agent: Agent) -> None:
    size = 3_000_000
    path = write_pattern(rig, size).encode()
    agent.send(rig.launch("1.1", b"cat", path, attended=False, ranks=2))
    agent.until(lambda: agent.over("1.1"), "the end, without a reader")
    assert not agent.output
    agent.close()
    second = rig.agent()
    second.send(m.Inventorize(), m.Attend("1.1", True, True))
    key = ("1.1", 1, 1)
    second.until(lambda: all(len(second.output.get(("1.1", r, 1), b"")) == size for r in (0, 1)), "all of the output")
    assert second.output[key] == pattern(size)
    assert not [name for name in os.listdir(rig.directory) if name.endswith("spool")]


def test_lost_acknowledgements_are_made_up_for(rig: SpaceRig, agent: Agent) -> None:
    agent.acknowledge = False
    path = write_pattern(rig, 400_000).encode()
    agent.send(rig.launch("1.1", b"cat", path, window_bytes=100_000))
    agent.until(lambda: len(agent.output.get(("1.1", 0, 1), b"")) == 100_000, "a full window")
    agent.send(m.Ack("1.1", 0, 1, 60_000))
    agent.until(lambda: len(agent.output[("1.1", 0, 1)]) == 160_000, "more of the window")
    agent.close()
    second = rig.agent()
    second.acknowledge = False
    second.send(m.Inventorize())
    second.expect_from("1.1", 0, 1, 60_000)
    second.until(lambda: any(isinstance(a, m.Output) for a in second.answers), "output again")
    first = next(a for a in second.answers if isinstance(a, m.Output))
    assert (first.offset, first.data[:16]) == (60_000, pattern(60_016)[-16:])


def test_a_turn_brings_what_the_window_does_not(rig: SpaceRig, agent: Agent) -> None:
    agent.acknowledge = False
    path = write_pattern(rig, 3_000_000).encode()
    agent.send(rig.launch("1.1", b"cat", path, window_bytes=10_000))
    agent.until(lambda: len(agent.output.get(("1.1", 0, 1), b"")) == 10_000, "a full window")
    for _ in range(100):
        at = len(agent.output["1.1", 0, 1])
        if at == 3_000_000:
            break
        agent.send(m.Ack("1.1", 0, 1, at, at + 1_000_000))
        agent.until(partial(has_had_its_turn, agent, at), "the end of its turn")
        assert len(agent.output["1.1", 0, 1]) <= at + 1_000_000
    assert agent.wait_over("1.1") == {0: 0}
    assert agent.output["1.1", 0, 1] == pattern(3_000_000)


def has_had_its_turn(agent: Agent, start: int) -> bool:
    """Of a rank that is over nothing needs to be said."""
    last = next(answer for answer in reversed(agent.answers) if isinstance(answer, m.Output))
    return last.offset >= start and (not last.in_turn or last.offset + len(last.data) == 3_000_000)


@pytest.mark.skipif(os.getuid() != 0, reason="nobody else may make large pipes without limit")
def test_a_rank_whose_reader_is_slow_may_go_on_for_as_much_as_a_pipe_holds() -> None:
    space = SpaceRig("namespace")
    agent = space.agent()
    agent.acknowledge = False
    path = write_pattern(space, 1_000_000).encode()
    agent.send(space.launch("1.1", b"cat", path, window_bytes=10_000))
    agent.until(lambda: agent.over("1.1"), "the end of the rank, of which one window was read")
    assert len(agent.output["1.1", 0, 1]) == 10_000
    agent.acknowledge = True
    agent.send(m.Ack("1.1", 0, 1, 10_000))
    assert agent.wait_over("1.1") == {0: 0}
    assert agent.output["1.1", 0, 1] == pattern(1_000_000)
    space.end()


@pytest.mark.parametrize("mode", MODES)
def test_a_full_spool_stops_the_rank_and_loses_nothing(mode: str) -> None:
    space = SpaceRig(mode, spool_limit_bytes=300_000, stream_memory_bytes=50_000)
    agent = space.agent()
    size = 2_000_000
    path = write_pattern(space, size).encode()
    agent.send(space.launch("1.1", b"cat", path, attended=False))
    agent.wait_started("1.1")
    agent.settle()
    assert not agent.over("1.1")
    agent.send(m.Attend("1.1", True, True))
    assert agent.wait_over("1.1") == {0: 0}
    assert agent.output[("1.1", 0, 1)] == pattern(size)
    space.end()


@pytest.mark.parametrize("mode", MODES)
def test_a_spool_that_cannot_be_written_is_said_once(mode: str) -> None:
    space = SpaceRig(mode, spool_dir="/proc", stream_memory_bytes=50_000)
    agent = space.agent()
    path = write_pattern(space, 500_000).encode()
    agent.send(space.launch("1.1", b"cat", path, attended=False, ranks=3))
    agent.wait_started("1.1", 3)
    agent.until(lambda: "the spool's disk is full" in space.log_text(), "a line in the log")
    agent.send(m.Attend("1.1", True, True))
    agent.wait_over("1.1")
    assert all(agent.output[("1.1", rank, 1)] == pattern(500_000) for rank in range(3))
    assert space.log_text().count("the spool's disk is full") == 1
    space.end()


def test_input_for_all_arrives_exactly_once(rig: SpaceRig, agent: Agent) -> None:
    data = pattern(700_000)
    agent.send(rig.launch("1.1", b"cat", stdin=b"", ranks=5))
    for at in range(0, len(data), 50_000):
        piece = m.Stdin("1.1", None, at, data[at : at + 50_000], False)
        # Everything twice, and overlapping.
        agent.send(piece, m.Stdin("1.1", None, max(0, at - 777), data[max(0, at - 777) : at + 100], False))
        agent.until(lambda end=at: stdin_acks(agent, "1.1")[-1:] >= [(-1, end)], "an acknowledgement")  # type: ignore[misc]
    agent.send(m.Stdin("1.1", None, len(data), b"", True))
    assert set(agent.wait_over("1.1").values()) == {0}
    for rank in range(5):
        assert agent.output[("1.1", rank, 1)] == data
    acks = [offset for _, offset in stdin_acks(agent, "1.1")]
    assert acks == sorted(acks)
    assert len(data) in acks


def test_input_for_single_ranks(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"cat", stdin=b"", ranks=3))
    agent.send(m.Stdin("1.1", [0], 0, b"zero", True), m.Stdin("1.1", [1, 2], 0, b"one or two", True))
    agent.wait_over("1.1")
    assert [bytes(agent.output[("1.1", r, 1)]) for r in range(3)] == [b"zero", b"one or two", b"one or two"]
    assert {(0, 4), (1, 10), (2, 10)} <= set(stdin_acks(agent, "1.1"))


def test_a_rank_that_takes_no_input_holds_up_nobody(rig: SpaceRig, agent: Agent) -> None:
    script = b"if [ $HEOROT_RANK = 0 ]; then exec <&-; exec sleep 1000; else cat | wc -c; fi"
    agent.send(rig.launch("1.1", b"sh", b"-c", script, stdin=b"", ranks=2))
    data = b"x" * 400_000
    for at in range(0, len(data), 100_000):
        agent.send(m.Stdin("1.1", None, at, data[at : at + 100_000], at == 300_000))
    agent.until(lambda: agent.exited("1.1").get(1) == 0, "the reader's end")
    agent.until(lambda: agent.output.get(("1.1", 1, 1)) == bytearray(b"400000\n"), "what it read")
    agent.until(lambda: (-1, len(data)) in stdin_acks(agent, "1.1"), "the last acknowledgement")
    agent.send(rig.launch("1.2", b"true", stdin=b""))
    agent.wait_over("1.2")
    agent.send(m.Stdin("1.2", None, 0, b"too late", False))
    agent.until(lambda: stdin_acks(agent, "1.2") == [(-1, TAKES_NO_MORE)], "an acknowledgement of the finished job")


def test_a_slow_reader_is_waited_for_and_its_input_is_bounded(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", b"kill -STOP $$; exec wc -c", stdin=b""))
    agent.wait_started("1.1")
    offset = 0
    for _ in range(40):
        agent.send(m.Stdin("1.1", None, offset, b"x" * 100_000, False))
        offset += 100_000
    agent.settle()
    held = max((o for _, o in stdin_acks(agent, "1.1")), default=0)
    assert held <= 200_000
    assert "does not fit" in rig.log_text()
    agent.ask(m.Query(1, "1.1", None, None, signal.SIGCONT, False))
    # What did not fit is sent again from where the acknowledgements stop.
    total = 1_500_000

    def resend() -> bool:
        taken = stdin_acks(agent, "1.1")[-1][1] if stdin_acks(agent, "1.1") else 0
        end = min(total, taken + 100_000)
        agent.send(m.Stdin("1.1", None, taken, b"x" * (end - taken), end == total))
        return taken >= total

    agent.until(resend, "all of the input is taken")
    agent.wait_over("1.1")
    assert agent.output[("1.1", 0, 1)] == b"%d\n" % total


def test_a_terminal(rig: SpaceRig, agent: Agent) -> None:
    script = (
        b"tty >/dev/null && stty size && trap 'stty size; exit 5' WINCH && echo ready && while :; do sleep 0.02; done"
    )
    agent.send(rig.launch("1.1", b"sh", b"-c", script, stdin=b"", terminal=[24, 80]))
    agent.until(lambda: agent.output.get(("1.1", 0, 1), b"").endswith(b"ready\r\n"), "the first lines")
    agent.send(m.Resize("1.1", 50, 132))
    assert agent.wait_over("1.1") == {0: 5 << 8}
    assert agent.output[("1.1", 0, 1)] == b"24 80\r\nready\r\n50 132\r\n"


def test_a_terminals_input_ends_and_interrupts(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", b"stty -echo; echo go; cat; echo over", stdin=b"", terminal=[24, 80]))
    agent.until(lambda: agent.output.get(("1.1", 0, 1), b"").startswith(b"go\r\n"), "the start")
    agent.send(m.Stdin("1.1", None, 0, b"line\npart", True))
    agent.wait_over("1.1")
    assert agent.output[("1.1", 0, 1)] == b"go\r\nline\r\npartover\r\n"
    agent.send(rig.launch("1.2", b"sh", b"-c", b"stty -echo; echo go; exec cat", stdin=b"", terminal=[24, 80]))
    agent.until(lambda: agent.output.get(("1.2", 0, 1), b"").startswith(b"go\r\n"), "the start")
    agent.send(m.Stdin("1.2", None, 0, b"\x03", False))
    assert agent.wait_over("1.2") == {0: signal.SIGINT}


def test_binary_output_passes_unchanged(rig: SpaceRig, agent: Agent) -> None:
    data = bytes(range(256)) * 1000
    path = os.path.join(rig.work, "binary")
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o644)
    assert agent.run("1.1", b"cat", path.encode(), uid=rig.uid, gid=rig.uid) == data
