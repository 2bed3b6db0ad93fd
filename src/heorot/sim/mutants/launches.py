"""Mutants that concern launches which a change of heads interrupts; see `heorot.sim.mutants`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace


def _knows_what_was_up(head: Any) -> None:
    """A launch on the nodes that are up is started again although nodes that may have it have not spoken."""
    honest = head.clients.launches._require_unstarted

    def require(addressed: Any, ask: Any, may_leave_out: bool) -> None:
        if not may_leave_out:
            honest(addressed, ask, may_leave_out)

    head.clients.launches._require_unstarted = require
    head.settling.require = lambda: None


def _gives_no_receipts(head: Any) -> None:
    """What was acknowledged and has reached no node is lost with its head."""
    head.context.receipts.give = lambda ask, job, uid, runs, wall_ms: b""


def _acknowledges_detached_launches_at_once(head: Any) -> None:
    """A detached launch is acknowledged before a node has it."""
    head.jobs.holders.acknowledge = head.jobs.holders._tell


def _acknowledges_before_the_program_is_kept(head: Any) -> None:
    """A detached launch is acknowledged when a node has it, wherever its program is."""
    head.jobs.holders._is_kept = lambda image: True


def _asks_no_child_for_programs(head: Any) -> None:
    """What no client offers is not sought among the children."""
    head.images._child_with = lambda image: None


def _drops_adoptions(head: Any) -> None:
    """A job is forgotten when none of its holders can be reached just now."""
    adoptions = head.jobs.adoptions
    honest = adoptions._ask_another

    def ask_another(job: str, adoption: Any) -> None:
        honest(job, adoption)
        if adoption.asked is None:
            adoptions._forget(job)

    adoptions._ask_another = ask_another


def _denies_early(head: Any) -> None:
    """There is no such job, before all nodes have spoken."""
    head.settling._may_exist = lambda job: False


def _leaves_nodes_out_unsaid(head: Any) -> None:
    """Nodes that have not spoken are not up, and nobody is told."""
    head.clients.launches._left_out = lambda nodes, again: ""


def _takes_a_launch_twice(head: Any) -> None:
    """What a node that was given up holds of a launch that was started again meanwhile is taken for another job."""
    honest = head.jobs.adoptions.understood

    def understood(ticket: Any, launch: Any) -> Any:
        return honest(replace(ticket, key=b""), launch)

    head.jobs.adoptions.understood = understood


HEAD: dict[str, Callable[[Any], None]] = {
    "head-knows-what-was-up": _knows_what_was_up,
    "head-gives-no-receipts": _gives_no_receipts,
    "head-acknowledges-detached-launches-at-once": _acknowledges_detached_launches_at_once,
    "head-acknowledges-before-the-program-is-kept": _acknowledges_before_the_program_is_kept,
    "head-asks-no-child-for-programs": _asks_no_child_for_programs,
    "head-drops-adoptions": _drops_adoptions,
    "head-denies-early": _denies_early,
    "head-leaves-nodes-out-unsaid": _leaves_nodes_out_unsaid,
    "head-takes-a-launch-twice": _takes_a_launch_twice,
}
_RUSH = {"faults": 40, "head_weight": 4, "ambush_weight": 12, "rush": 80, "detached_rate": 0.1, "heads": 2}
_DOZE = {"faults": 40, "head_weight": 4, "ambush_weight": 4, "doze_weight": 12, "rush": 80, "nodes": 8, "heads": 2}
_STAGED = {
    "image_rate": 1.0,
    "detached_rate": 0.7,
    "head_weight": 6,
    "ambush_weight": 12,
    "faults": 40,
    "heads": 2,
    "us_per_kib": 400,
    "cache_full_rate": 0.0,
}
FOCUS: dict[str, dict[str, Any]] = {
    "head-acknowledges-before-the-program-is-kept": _STAGED,
    "head-asks-no-child-for-programs": _STAGED,
    "head-leaves-nodes-out-unsaid": _DOZE,
    "head-denies-early": _DOZE,
    "head-drops-adoptions": {
        **_DOZE,
        "nodes": 12,
        "detached_rate": 0.8,
        "delay_us": (100, 150_000),
        "isolate_weight": 30,
        "head_weight": 8,
        "faults": 80,
        "fault_span_ms": 10_000,
        "stop_rate": 0.0,
    },
    "head-gives-no-receipts": _RUSH,
    "head-knows-what-was-up": {
        **_DOZE,
        "node_grace_ms": 5_000,
        "stall_weight": 2,
        "fault_span_ms": 20_000,
        "job_span_ms": 15_000,
        "delay_us": (100, 20_000),
    },
    "head-acknowledges-detached-launches-at-once": {
        **_RUSH,
        "detached_rate": 0.9,
        "node_weight": 0,
        "space_weight": 0,
        "max_finished_jobs": 1_024,
    },
    "head-takes-a-launch-twice": {**_DOZE, "node_grace_ms": 1_500},
}
