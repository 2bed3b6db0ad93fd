"""What a process space says of itself to whoever is no agent."""

from __future__ import annotations

from heorot.core.wire import tree as m


def test_a_view_travels() -> None:
    view = m.SpaceView(3, 7, 1, True, None, [m.JobView("1.1", 1000, 2, 1, 0, 4096, 0)], [], more=True)
    assert m.decode_view(m.encode(view)) == view
    assert m.decode_look(m.encode(m.Look())) == m.Look()
