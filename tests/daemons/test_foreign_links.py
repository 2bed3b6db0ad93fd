"""What comes over the network from somebody who should not speak so: real daemons refuse it, say why, and go on."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.core.wire.framing import MAX_FRAME_BYTES, FrameDecoder, encode_frame
from heorot.core.wire.tree import (
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    Down,
    Hello,
    LinkMessage,
    Ping,
    Refused,
    Up,
    decode_link,
    encode,
)
from heorot.security import tls
from heorot.security.authority import Authority
from tests.support.embedded import Embedded, wait_for

SEED = 20261123
MUTANTS = 1500


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """Three nodes, one below the other."""
    made = Embedded(tmp_path_factory.mktemp("foreign") / "c")
    made.up("--nodes", "3", "--fanout", "1")
    yield made
    made.close()


def port_of(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def targets(cluster: Embedded) -> dict[str, tuple[str, int]]:
    """Where a head and an agent accept links."""
    status = cluster.status()
    return {"head": port_of(status["heads"][0]["address"]), "agent": port_of(status["nodes"][0]["address"])}


def link(address: tuple[str, int], identity: Path) -> ssl.SSLSocket:
    """Return a TLS link to a daemon with somebody's identity."""
    raw = socket.create_connection(address, timeout=20)
    try:
        return tls.client_context(identity).wrap_socket(raw)
    except BaseException:
        raw.close()
        raise


def conversation(address: tuple[str, int], identity: Path, data: bytes) -> list[LinkMessage]:
    """Send bytes over a link; return all messages that come back until the daemon closes it."""
    decoder, messages = FrameDecoder(), []
    with link(address, identity) as connection:
        try:
            connection.sendall(data)
            while received := connection.recv(65536):
                messages += [decode_link(frame) for frame in decoder.feed(received)]
        except (ConnectionError, ssl.SSLError):
            # Closed in the middle of what we said: that is an answer, too.
            pass
    return messages


def hello(of: Embedded, **changes: object) -> Hello:
    """Return what n2 would say first."""
    text = (of.directory / "cluster.toml").read_text()
    fields: dict[str, object] = {
        "version": PROTOCOL_VERSION,
        "oldest_version": OLDEST_PROTOCOL_VERSION,
        "cluster": text.split('"')[1],
        "node": 2,
        "epoch": 1,
        "release": "0",
    }
    return Hello(**(fields | changes))  # type: ignore[arg-type]  # the test's own words


@pytest.mark.parametrize("target", ["head", "agent"])
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": 99, "oldest_version": 98}, "neighbouring releases"),
        ({"cluster": "another"}, "cluster"),
        ({"version": 0, "oldest_version": 0}, "neighbouring releases"),
    ],
    ids=["newer", "cluster", "older"],
)
def test_a_neighbour_that_speaks_otherwise_is_told_so(
    cluster: Embedded, target: str, changes: dict[str, object], text: str
) -> None:
    answers = conversation(
        targets(cluster)[target], cluster.directory / "nodes/n2", encode_frame(encode(hello(cluster, **changes)))
    )
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refusals) == 1
    assert text in refusals[0].text
    wait_for(lambda: cluster.states() == ["up"] * 3)


@pytest.mark.parametrize("target", ["head", "agent"])
def test_a_certificate_of_another_cluster_gets_no_word_in(cluster: Embedded, target: str, tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca").issue_node(2).write(tmp_path / "n2")
    with pytest.raises(ssl.SSLError):
        conversation(targets(cluster)[target], tmp_path / "n2", b"")
    # And one that trusts our authority (so that it gets as far as showing its certificate) is refused, too.
    ours = (cluster.directory / "nodes/n2/ca.pem").read_bytes()
    context = tls.client_context(tmp_path / "n2")
    context.load_verify_locations(cadata=ours.decode())
    with socket.create_connection(targets(cluster)[target], timeout=20) as raw, context.wrap_socket(raw) as connection:
        try:
            connection.sendall(encode_frame(encode(hello(cluster))))
            answer = connection.recv(1)
        except (ssl.SSLError, ConnectionError):
            answer = b""
    assert answer == b""
    assert cluster.states() == ["up"] * 3


@pytest.mark.parametrize("target", ["head", "agent"])
@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5000, b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000],
    ids=["http", "zeros", "tls"],
)
def test_what_is_no_tls_is_closed(cluster: Embedded, target: str, data: bytes) -> None:
    with socket.create_connection(targets(cluster)[target], timeout=20) as connection:
        connection.sendall(data)
        try:
            while connection.recv(65536):
                pass
        except ConnectionError:
            pass
    assert cluster.states() == ["up"] * 3


def private_kb(pid: int) -> int:
    """Return how much memory is a process's own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def mutants(cluster: Embedded, count: int) -> Iterator[bytes]:
    """Give frames of a node gone mad: real ones with bytes changed, cut, or repeated."""
    chance = random.Random(SEED)
    samples = [encode(hello(cluster)), encode(Ping()), encode(Up(2, b"x" * 50)), encode(Down(1, [0, 2], b"y" * 50))]
    for _ in range(count):
        payload = bytearray(chance.choice(samples))
        for _ in range(chance.randint(1, 6)):
            payload[chance.randrange(len(payload))] = chance.randrange(256)
        if chance.random() < 0.2:
            del payload[chance.randrange(len(payload)) :]
        yield encode_frame(bytes(payload))


@pytest.mark.parametrize("target", ["head", "agent"])
def test_mutated_frames_end_their_link_and_nothing_else(cluster: Embedded, target: str) -> None:
    address = targets(cluster)[target]
    status = cluster.status()
    pid = status["heads"][0]["pid"] if target == "head" else status["nodes"][0]["agent_pid"]
    identity = cluster.directory / "nodes/n2"
    frames = list(mutants(cluster, MUTANTS))
    greeting = encode_frame(encode(hello(cluster)))
    before = 0
    for start in range(0, MUTANTS, 15):
        # A link ends with its first bad frame: greet anew now and then.
        conversation(address, identity, greeting + b"".join(frames[start : start + 15]) + encode_frame(b"\xc1"))
        if start < MUTANTS // 3:
            # Until here its buffers and caches grow to their size.
            before = private_kb(pid)
    assert private_kb(pid) < before + 1024
    wait_for(lambda: cluster.states() == ["up"] * 3)
    # The same processes as before: nobody died of it.
    assert [node["agent_pid"] for node in cluster.status()["nodes"]] == [node["agent_pid"] for node in status["nodes"]]
    assert cluster.status()["heads"] == status["heads"]
    assert cluster.run("bpsh", "-a", "/bin/echo", "fine").stdout == "fine\n" * 3


def test_a_frame_too_large_is_not_waited_for(cluster: Embedded) -> None:
    announced = (MAX_FRAME_BYTES + 1).to_bytes(4, "big")
    greeting = encode_frame(encode(hello(cluster)))
    # The daemon closes at the announcement; it does not take the body first.
    answers = conversation(targets(cluster)["head"], cluster.directory / "nodes/n2", greeting + announced)
    assert all(isinstance(answer, Hello | Refused | Ping | Down) for answer in answers)
    assert cluster.run("bpsh", "-a", "/bin/echo", "fine").stdout == "fine\n" * 3


def answer(connection: ssl.SSLSocket) -> LinkMessage:
    """Return the first message that comes over a link."""
    decoder, frames = FrameDecoder(), list[bytes]()
    while not frames:
        received = connection.recv(65536)
        assert received, "closed without an answer"
        frames = decoder.feed(received)
    return decode_link(frames[0])


def test_a_head_has_no_visitors(cluster: Embedded) -> None:
    with link(targets(cluster)["head"], cluster.directory / "nodes/n2") as connection:
        connection.sendall(encode_frame(encode(hello(cluster, peer=True))))
        refusal = answer(connection)
    assert isinstance(refusal, Refused)
    assert refusal.code == "no-visitors"


@pytest.mark.parametrize(
    ("target", "peer"),
    [("head", False), ("agent", False), ("agent", True)],
    ids=["child of the head", "child of a node", "peer of a node"],
)
def test_a_node_whose_former_links_linger_is_let_in_and_keeps_no_other_out(
    cluster: Embedded, target: str, peer: bool
) -> None:
    address, identity = targets(cluster)[target], cluster.directory / "nodes/n2"
    greeting = encode_frame(encode(hello(cluster, peer=peer)))
    with contextlib.ExitStack() as lingering:
        # As after cuts of the network: none of them is ever closed at this end, and some have never said a word.
        for number in range(24):
            connection = lingering.enter_context(link(address, identity))
            if number % 2:
                connection.sendall(greeting)
                assert isinstance(answer(connection), Hello)
        with link(address, cluster.directory / "nodes/n1") as other:
            other.sendall(encode_frame(encode(hello(cluster, node=1, peer=peer))))
            assert isinstance(answer(other), Hello)
        wait_for(lambda: cluster.states() == ["up"] * 3)
    wait_for(lambda: cluster.states() == ["up"] * 3)
    assert cluster.run("bpsh", "-a", "/bin/echo", "fine").stdout == "fine\n" * 3
