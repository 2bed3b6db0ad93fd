"""What a keeper says of its store: each thing once, and again only after something else."""

from __future__ import annotations

from collections.abc import Iterable

from heorot.core.keeper.store_health import StoreHealth
from heorot.core.machine import Log


def said(steps: Iterable[object]) -> list[tuple[str, str]]:
    return [(step.level, step.text) for step in steps if isinstance(step, Log)]


def test_a_store_that_is_silent_is_said_to_be_so_once_and_so_is_its_first_answer() -> None:
    store = StoreHealth("etcd")
    assert said(store.is_unreachable("no answer", 3.0, leads=False)) == [("warning", "no answer")]
    assert said(store.is_unreachable("no majority", 4.0, leads=False)) == []
    assert (store.reachable, store.since_s, store.problem) == (False, 3.0, "no majority")
    assert said(store.answers(5.0)) == [("info", "the etcd store answers again")]
    assert said(store.answers(6.0)) == []
    assert (store.reachable, store.since_s, store.problem) == (True, 5.0, "")


def test_who_leads_is_told_that_the_head_goes_on() -> None:
    (word,) = said(StoreHealth("etcd").is_unreachable("no answer", 3.0, leads=True))
    assert word == ("warning", "no answer; the active head goes on, but nobody can be elected")


def test_a_complaint_is_logged_once_however_often_it_is_tried() -> None:
    store = StoreHealth("etcd")
    assert said(store.complain("damaged")) == [("error", "damaged")]
    assert said(store.complain("damaged")) == []
    assert said(store.answers(1.0)) == []
    assert said(store.complain("damaged")) == []
    assert store.problem == "damaged"
    store.complained = ""
    assert said(store.complain("damaged")) == [("error", "damaged")]


def test_a_warning_is_logged_again_only_after_it_was_gone() -> None:
    store = StoreHealth("etcd")
    assert [said(store.warn(word)) for word in ("odd", "odd", "", "odd")] == [
        [("warning", "odd")],
        [],
        [],
        [("warning", "odd")],
    ]
