"""Mutants of what carries programs to the nodes. See `heorot.sim.mutants`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from heorot.core.images.manifest import mask_of
from heorot.core.machine import CopiesDropped
from heorot.core.wire import tree as m


def _starts_before_its_program_is_there(node: Any) -> None:
    """A launch is handed over as soon as its image is asked for."""
    programs = node.programs
    honest = programs._fetch

    def fetch(ticket: m.Ticket) -> None:
        launch, _ = programs.held[ticket.job]
        honest(ticket)
        programs._hand_over(replace(launch, view=b"/view"))

    programs._fetch = fetch


def _keeps_what_waits_to_itself(node: Any) -> None:
    """Of a launch whose program is on its way bpinit hears nothing."""
    node.programs._announce_waiting = lambda image: None


def _asks_nobody_else(node: Any) -> None:
    """What a parent was asked for and did not send before it was lost is not asked of the next one."""
    node.images.transfers.source_lost = lambda source: None


def _serves_those_who_went(node: Any) -> None:
    """A neighbour that is gone is still owed what it asked for."""
    node.images.transfers.neighbour_lost = lambda link: None


def _waits_in_a_ring(node: Any) -> None:
    """Who follows another plan, or asks directly, waits for what this node expects from a peer."""
    node.images.transfers.fetcher._parent = lambda: None


def _keeps_copies(node: Any) -> None:
    """What a copy has brought is never dropped."""
    node.images.transfers.copies.look = lambda: None


def _forgets_copies_that_are_read(node: Any) -> None:
    """A copy from which a process still reads when it is to go is not looked at again."""
    node._handlers[CopiesDropped] = lambda event: None


def _believes_that_it_is_in_the_store(node: Any) -> None:
    """What is said to be in a store that is shared counts as here: nobody looks."""
    stored = node.images.transfers.stored

    def told(source: int, word: m.Stored) -> None:
        transfer = stored._transfers.get(word.image)
        if transfer is not None and transfer.layout is not None:
            chunks = mask_of(word.chunks, transfer.layout.chunks)
            transfer.answered(source, chunks)
            transfer.chunks_came(chunks & ~transfer.have)
            stored._pursue(transfer)

    stored.told = told


NODE: dict[str, Callable[[Any], None]] = {
    "node-starts-before-its-program-is-there": _starts_before_its_program_is_there,
    "node-keeps-what-waits-to-itself": _keeps_what_waits_to_itself,
    "node-asks-nobody-else": _asks_nobody_else,
    "node-serves-those-who-went": _serves_those_who_went,
    "node-waits-in-a-ring": _waits_in_a_ring,
    "node-keeps-copies": _keeps_copies,
    "node-forgets-copies-that-are-read": _forgets_copies_that_are_read,
    "node-believes-that-it-is-in-the-store": _believes_that_it_is_in_the_store,
}
FOCUS: dict[str, dict[str, Any]] = {
    name: {"image_rate": 1.0, "cut_weight": 8, "agent_weight": 8, "faults": 40, "us_per_kib": 400} for name in NODE
}
# It does harm only if a source is lost while much of an image still lacks: slow links, and many faults.
FOCUS["node-asks-nobody-else"] |= {"faults": 80, "us_per_kib": 1_200}
FOCUS["node-keeps-what-waits-to-itself"] |= {
    "head_weight": 20,
    "faults": 80,
    "us_per_kib": 4_000,
    "heads": 3,
    # A detached job is acknowledged when bpinit has it, and a client that has all of its input hands the job over.
    "detached_rate": 0.1,
    "reader_rate": 0.9,
}
FOCUS["node-believes-that-it-is-in-the-store"] |= {"shared_store_rate": 1.0}
FOCUS["node-waits-in-a-ring"] |= {"us_per_kib": 1_000, "swarm_gain_ms": 0, "nodes": 12}
