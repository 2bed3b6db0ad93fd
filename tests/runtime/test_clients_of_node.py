"""What an agent listens at for its host's users: they share the connections that a head takes of one node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from heorot.core.machine import ClientOpened
from heorot.core.wire.passing import MAX_OF_NODE
from heorot.daemons.clients_of_node import ClientsOfNode
from heorot.runtime.log import LogFile
from heorot.runtime.loop import EpollLoop
from heorot.security.authority import Authority
from tests.runtime.test_passing import HELLO, Active, Client, serving_nodes
from tests.support.other_user import OTHER, acting_as, open_to_all, own_uid

Until = Callable[[Callable[[], object]], None]
THIRD = own_uid()


def test_a_user_who_connects_as_often_as_he_can_leaves_room_for_the_others_of_the_node(
    loop: EpollLoop, until: Until, cluster: Path, tmp_path: Path
) -> None:
    Authority.load(cluster / "ca").issue_node(6).write(cluster / "n6")
    active = Active(loop, tmp_path, cluster / "h0")
    port = serving_nodes(loop, active, cluster / "h0")
    open_to_all(tmp_path)
    path = tmp_path / "run" / "head.sock"
    log = LogFile(tmp_path / "log", "bpnode n6")
    node = ClientsOfNode(loop, path, cluster / "n6", "test", "n6", lambda: (("127.0.0.1", port),), log)

    def come(uid: int) -> Client:
        with acting_as(uid):
            client = Client(loop, path)
        client.say(HELLO)
        return client

    def passed_on(uid: int) -> int:
        return sum(opened.uid == uid for opened in active.of(ClientOpened))

    greedy = [come(OTHER) for _ in range(MAX_OF_NODE + 6)]
    until(lambda: passed_on(OTHER) + sum(bool(client.ended) for client in greedy) == len(greedy))
    assert 1 < passed_on(OTHER) <= MAX_OF_NODE // 2
    refusal = next(client.frames[0] for client in greedy if client.ended)
    assert b"busy" in refusal
    assert f"of at most {MAX_OF_NODE} clients that this node passes on, {OTHER} has".encode() in refusal
    late = come(THIRD)
    until(lambda: late.ended or passed_on(THIRD))
    assert not late.ended
    for client in (*greedy, late):
        client.channel.close()
    node.close()
    active.close()
    log.close()
