"""What neighbouring releases say of ranks to each other."""

from __future__ import annotations

import msgspec

from heorot.core.wire import tree as m
from heorot.core.wire.reports import STOP_NUMBERS, JobInventory, Report

STOPS = [2, 0, 1, 19, 5, 0]


def test_what_an_older_release_reports_says_nothing_of_stops() -> None:
    told = msgspec.msgpack.decode(m.encode(Report("1.1", [2, 0, 500], [], [], 1)))
    assert m.decode_link(msgspec.msgpack.encode(told[:-1])) == Report("1.1", [2, 0, 500], [], [], 1)
    listed = msgspec.msgpack.decode(m.encode(m.Inventory(7, [JobInventory("1.1", [0, 500], [], [], 0)])))
    listed[2][0] = listed[2][0][:-1]
    known = m.decode_node_payload(msgspec.msgpack.encode(listed))
    assert isinstance(known, m.Inventory)
    assert known.jobs[0].stops == []


def test_relays_see_what_a_report_is_however_many_fields_it_has() -> None:
    report = Report("1.1", [2, 0, 500], [], [], 1, stops=STOPS)
    assert len(STOPS) == STOP_NUMBERS
    encoded = m.encode(report)
    assert m.tag_of(encoded) == 7
    assert m.decode_link(encoded) == report
