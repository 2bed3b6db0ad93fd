"""A request that is refused leaves nothing behind.

An error that is its own cause keeps its traceback, and with that the request, until the collector comes by, which may
be after gigabytes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from heorot.core.errors import HeorotError, NodeListError
from heorot.core.tree.nodelist import NodeView, parse
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig


def left_behind(act: Callable[[], Any]) -> list[HeorotError]:
    """Return the errors that are still there after `act`, with the collector switched off."""
    gc.collect()
    before = {id(thing) for thing in gc.get_objects() if isinstance(thing, HeorotError)}
    gc.disable()
    try:
        act()
        return [thing for thing in gc.get_objects() if isinstance(thing, HeorotError) and id(thing) not in before]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "request_",
    [
        c.Resolve(1, "n0,n9", "list"),
        c.Resolve(1, "@outer", "list"),
        c.ListNodes(1, "n9"),
        c.Signal(1, None, None, [], 9, ""),
        c.Signal(1, "1.1", None, None, 9, ""),
        c.Wait(1, "1.1"),
        spawn_of(1, "n9", stdin=None, stdout=None, stderr=None),
    ],
    ids=lambda request_: f"{type(request_).__name__}-{getattr(request_, 'nodes', '')}",
)
def test_a_refused_request_leaves_no_error_behind(request_: c.ClientMessage) -> None:
    head = HeadRig(1, groups={"outer": "@inner", "inner": "3-1"})
    head.attach(0)
    head.client()
    head.looked()
    assert left_behind(lambda: head.ask(request_)) == []
    assert head.kinds() == [c.Error]


def test_an_error_in_a_group_of_groups_leaves_none_behind() -> None:
    view = NodeView(NodeSet(1), {0: "up"}, {"outer": "@inner", "inner": "@innermost", "innermost": "3-1"})

    def read() -> None:
        with pytest.raises(NodeListError, match="in the group @outer"):
            parse("@outer", view)

    assert left_behind(read) == []
