"""Mutants that concern ranks which stop and go on; see `heorot.sim.mutants`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from heorot.core.space import events as e
from heorot.core.wire import tree as m


def _forgets_stops(space: Any) -> None:
    """The snapshot for a new way to the head does not say how its ranks stand."""
    honest = space._inventorize

    def inventorize(command: m.Inventorize) -> None:
        honest(command)
        for item in space._turn.out:
            if isinstance(item, e.ToAgent) and isinstance(item.message, m.Inventory):
                item.message = replace(item.message, jobs=[replace(job, stops=[]) for job in item.message.jobs])

    space._inventorize = inventorize


def _counts_no_changes(space: Any) -> None:
    """Of a rank it is told only whether it is stopped, not how often it has been."""
    honest = space._stops._changed

    def changed(rank: Any, changes: int, signal: int) -> None:
        rank.stop = None if signal else (1, 0, 0, 0)
        honest(rank, 1, signal)

    space._stops._changed = changed


def _passes_no_stops_on(node: Any) -> None:
    """A relay drops from reports how ranks stand."""
    reports = node.reports.of_jobs
    honest = reports.merge
    reports.merge = lambda report: honest(replace(report, stops=[]))


def _believes_the_last_word(head: Any) -> None:
    """What a head hears last of a rank is how it stands, however old it is."""
    honest = head.jobs._reports._stopped

    def stopped(job: Any, mask: int, stops: list[int]) -> Any:
        job.stops.clear()
        return honest(job, mask, stops)

    head.jobs._reports._stopped = stopped


def _tells_no_reader_of_stops(head: Any) -> None:
    """A client that goes on with its job hears of no rank that has stopped before."""
    honest = head.jobs.attendance.attend

    def attend(job: Any, *arguments: Any) -> None:
        stops, job.stops = job.stops, {}
        honest(job, *arguments)
        job.stops = stops

    head.jobs.attendance.attend = attend


SPACE: dict[str, Callable[[Any], None]] = {
    "space-forgets-stops": _forgets_stops,
    "space-counts-no-changes": _counts_no_changes,
}
NODE: dict[str, Callable[[Any], None]] = {"node-passes-no-stops-on": _passes_no_stops_on}
HEAD: dict[str, Callable[[Any], None]] = {
    "head-believes-the-last-word-on-stops": _believes_the_last_word,
    "head-tells-no-reader-of-stops": _tells_no_reader_of_stops,
}
_STOPS = {"stop_rate": 1.0, "signal_rate": 0.0, "jobs": 25, "faults": 40}
FOCUS: dict[str, dict[str, Any]] = {
    "space-forgets-stops": {**_STOPS, "agent_weight": 12, "cut_weight": 12},
    "space-counts-no-changes": _STOPS,
    "node-passes-no-stops-on": {**_STOPS, "nodes": 12, "fanout": 2},
    "head-believes-the-last-word-on-stops": {**_STOPS, "cut_weight": 12, "agent_weight": 12},
    "head-tells-no-reader-of-stops": {**_STOPS, "head_weight": 12, "heads": 2},
}
