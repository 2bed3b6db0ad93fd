"""What a head says of an image that it cannot have from anybody."""

from __future__ import annotations

from typing import Any

from heorot.core.machine import Examined, Received, Send
from heorot.core.wire import images as i
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig

IMAGE = bytes(range(32))


def test_the_program_of_a_client_that_has_gone_with_a_head_is_not_there() -> None:
    """A detached job's client handed the program to a head that is lost, and this one has the job alone."""
    rig = HeadRig(1)
    rig.attach(0)
    rig.client()
    names: dict[str, Any] = {"detached": True, "image": IMAGE, "program": b"/bin/program"}
    rig.ask(spawn_of(1, "0", **names))
    rig.confirm()
    rig.leave()
    rig.looked()
    rig.give(Received(rig.links[0], i.Want(IMAGE, manifest=True, chunks=[])))
    rig.give(Examined(IMAGE, b"", []))
    rig.give(Received(rig.links[0], i.Unavailable(IMAGE, "it is not all here")))
    sent = [item.message for item in rig.sent if isinstance(item, Send)]
    (answer,) = [message for message in sent if isinstance(message, i.Unavailable)]
    assert answer.text.endswith(": launch it again on these nodes")
