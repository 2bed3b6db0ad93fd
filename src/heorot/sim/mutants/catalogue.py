"""Machines with one safety measure switched off. The simulator must notice each: otherwise it proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from heorot.core.client.session import Session
from heorot.core.head.machine import HeadMachine
from heorot.core.head.states import NodeChange, NodeState
from heorot.core.keeper.machine import KeeperMachine
from heorot.core.machine import Received
from heorot.core.node.machine import NodeMachine
from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m
from heorot.core.wire.tags import TAG_INVENTORIZE
from heorot.sim.mutants import barriers, closing, failover, images, launches, sessions, stops, watches
from heorot.sim.store import VirtualStore

# Private parts are replaced here on purpose, and instances are patched: the machines themselves offer no such switch.
# Hence `Any` in place of their types.


def _starts_again(space: Any) -> None:
    """A repeated launch starts its ranks again."""
    honest = space._launches.launch

    def launch(command: m.Launch, problem: str = "") -> None:
        space.jobs.pop(command.job, None)
        honest(command, problem)

    space._launches.launch = launch


def _forgets_released_jobs(space: Any) -> None:
    """A ticket of a job that was released starts it once more."""
    space.tombstones.refuses = lambda job, issued_at_ms: False


def _sends_nothing_again(space: Any) -> None:
    """Output that was on its way when the way broke is not repeated."""
    space.output.send_again = lambda job: None


def _sends_beyond_the_window(space: Any) -> None:
    """Output is sent without regard to what the reader has acknowledged."""
    honest = space._launches.launch

    def launch(command: m.Launch, problem: str = "") -> None:
        honest(command, problem)
        for job in space.jobs.values():
            job.window_bytes = 1 << 30

    space._launches.launch = launch


def _obeys_any_epoch(node: Any) -> None:
    """Commands of a head that was deposed are carried out."""
    honest = node._handlers[Received]

    def received(event: Received) -> None:
        message = event.message
        if isinstance(message, m.Down):
            message = replace(message, epoch=max(message.epoch, node.epoch))
        honest(Received(event.link, message))

    node._handlers[Received] = received


def _waits_for_reports_forever(node: Any) -> None:
    """Nobody is told to stop waiting for the reports of nodes that moved or of jobs that are released."""
    node.reports.expect_no_more = lambda mask: None
    node.reports.of_jobs.expect_no_more = lambda mask, subject=None: None


def _asks_no_inventory(node: Any) -> None:
    """A new way to the head is no reason to hand over the snapshot again."""
    honest = node.above.attach

    def attach() -> None:
        honest()
        out = node.context.out
        out[:] = [item for item in out if m.tag_of(getattr(item, "payload", b"")) != TAG_INVENTORIZE]

    node.above.attach = attach


def _ignores_incarnations(head: Any) -> None:
    """A launch is repeated on a node that was restarted since."""

    honest = head.jobs.reconcile_absent

    def reconcile_absent(job: Any, records: list[Any]) -> None:
        for record in records:
            record.admitted_after = "0.0"
        honest(job, records)

    head.jobs.reconcile_absent = reconcile_absent


def _launches_only_once(head: Any) -> None:
    """A launch that did not arrive is not repeated."""
    head.jobs.resend_launch = lambda job, nodes: None


def _gives_up_at_once(head: Any) -> None:
    """A node whose link is gone is given up without any grace."""

    def detached(mask: int, heard_at_ms: int) -> None:
        for record in head.members.detached(mask, head.context.now_ms, heard_at_ms):
            if head.members.step(record, NodeChange.WAY_LOST) is NodeState.DETACHED:
                head._gone(record, NodeChange.GRACE_OVER, "gone")

    head.detached = detached


def _lets_the_lost_live(head: Any) -> None:
    """Ranks that were reported lost and come back are left alone."""
    head.jobs._reports._kill_lost = lambda job, node, rank: None


def _releases_only_once(head: Any) -> None:
    """A node that was away when a job was released keeps it."""
    honest = head.jobs.take_inventory

    def take_inventory(job: Any, record: Any, item: m.JobInventory) -> None:
        if not job.released:
            honest(job, record, item)

    head.jobs.take_inventory = take_inventory


def _repeats_statuses(head: Any) -> None:
    """What is known of a rank already is told again."""
    honest = head.jobs.report

    def report(mask: int, news: m.Report) -> None:
        job = head.jobs.jobs.get(news.job)
        for rank in news.exited[1::5]:
            if job is not None and job.client is not None and rank in job.ends:
                del job.ends[rank]
                job.states[rank] = 1
                job.over -= 1
                job.running += 1
        honest(mask, news)

    head.jobs.report = report


def _reuses_question_numbers(head: Any) -> None:
    """A new head numbers its questions as its predecessor did."""
    head.jobs._actions = 0
    head.requests.questions._next_query = 1


def _lets_removed_nodes_in(head: Any) -> None:
    """A removed node is refused once, and not when it comes again."""
    head.removals.has = lambda node: False
    head.removals.objection = lambda link: None


def _bars_nobody(node: Any) -> None:
    """A relay goes on letting in whom the head has removed."""
    node.child_links.bar = lambda barred: None


def _sends_nobody_away(node: Any) -> None:
    """A node that was removed keeps those below it."""
    node.child_links.dismiss = lambda: None


def _never_rebalances(head: Any) -> None:
    """Nodes stay where the storm has blown them."""
    head._rebalance_soon = lambda: None


def _ends_what_lingers(space: Any) -> None:
    """What a rank leaves is killed, though it is to linger."""
    honest = space._handlers[e.ProcessExited]

    def exited(event: e.ProcessExited) -> None:
        honest(event)
        space._turn.out[:] = [e.Sweep(item.slot) if isinstance(item, e.Sweep) else item for item in space._turn.out]

    space._handlers[e.ProcessExited] = exited


def _forgets_what_it_killed(space: Any) -> None:
    """The snapshot for a new way to the head does not say what was killed of the ranks in it."""
    honest = space._inventorize

    def inventorize(command: m.Inventorize) -> None:
        honest(command)
        for item in space._turn.out:
            if isinstance(item, e.ToAgent) and isinstance(item.message, m.Inventory):
                item.message = replace(item.message, jobs=[replace(job, killed=[]) for job in item.message.jobs])

    space._inventorize = inventorize


def _takes_any_time(space: Any) -> None:
    """The time of a job never begins."""
    space._launches._begins = lambda job: None


def _only_asks(space: Any) -> None:
    """What goes on when its time is over is not killed."""

    def end(job: Any, text: str, *signals: int) -> None:
        space._grace.end(job, text, *signals)
        space._grace._to_kill.pop()

    space._limits._end = end


def _passes_no_counts_on(node: Any) -> None:
    """A relay drops from reports what was killed of ranks that have ended."""
    reports = node.reports.of_jobs
    honest = reports.merge
    reports.merge = lambda report: honest(replace(report, killed=[]))


def _answers_for_others(node: Any) -> None:
    """A relay that has one answer to a question says that all of its subtree have answered."""
    questions = node.reports.of_questions
    honest = questions.merge

    def merge(replies: m.Replies) -> None:
        waits = questions.accumulators.get(replies.id)
        expected = NodeSet(waits.expected if waits is not None else 0)
        honest(replace(replies, matched=[value for each in expected for value in (each, 1, 1)] or replies.matched))

    questions.merge = merge


SPACE: dict[str, Callable[[Any], None]] = {
    "space-starts-again": _starts_again,
    "space-forgets-released-jobs": _forgets_released_jobs,
    "space-sends-nothing-again": _sends_nothing_again,
    "space-sends-beyond-the-window": _sends_beyond_the_window,
    "space-ends-what-lingers": _ends_what_lingers,
    "space-forgets-what-it-killed": _forgets_what_it_killed,
    "space-takes-any-time": _takes_any_time,
    "space-only-asks": _only_asks,
}
NODE: dict[str, Callable[[Any], None]] = {
    "node-obeys-any-epoch": _obeys_any_epoch,
    "node-waits-for-reports-forever": _waits_for_reports_forever,
    "node-asks-no-inventory": _asks_no_inventory,
    "node-passes-no-counts-on": _passes_no_counts_on,
    "node-bars-nobody": _bars_nobody,
    "node-answers-for-others": _answers_for_others,
    "node-sends-nobody-away": _sends_nobody_away,
}
HEAD: dict[str, Callable[[Any], None]] = {
    "head-ignores-incarnations": _ignores_incarnations,
    "head-launches-only-once": _launches_only_once,
    "head-gives-up-at-once": _gives_up_at_once,
    "head-lets-the-lost-live": _lets_the_lost_live,
    "head-releases-only-once": _releases_only_once,
    "head-repeats-statuses": _repeats_statuses,
    "head-reuses-question-numbers": _reuses_question_numbers,
    "head-never-rebalances": _never_rebalances,
    "head-lets-removed-nodes-in": _lets_removed_nodes_in,
}
NAMES = tuple(
    dict.fromkeys(
        (
            *SPACE,
            *NODE,
            *HEAD,
            *images.NODE,
            *failover.SPACE,
            *failover.NODE,
            *failover.HEAD,
            *stops.SPACE,
            *stops.NODE,
            *stops.HEAD,
            *launches.HEAD,
            *closing.HEAD,
            *watches.HEAD,
            *failover.STORE,
            *failover.KEEPER,
            *sessions.SESSION,
            *watches.SESSION,
            *barriers.SPACE,
            *barriers.HEAD,
        )
    )
)
"""Some change two kinds of machines."""


FOCUS: dict[str, dict[str, Any]] = {
    "space-takes-any-time": {"time_limit_rate": 0.8},
    "space-only-asks": {"time_limit_rate": 0.8},
    "space-forgets-released-jobs": {"head_weight": 4, "cut_weight": 4, "faults": 40},
    "node-obeys-any-epoch": {"head_weight": 8, "ghost_weight": 8, "faults": 40},
    "head-reuses-question-numbers": {"head_weight": 8, "signal_rate": 1.0, "jobs": 25},
    "head-lets-removed-nodes-in": {"remove_node_weight": 20, "nodes": 12},
    "node-bars-nobody": {"remove_node_weight": 20, "nodes": 16, "fanout": 2},
    "node-answers-for-others": {"signal_rate": 1.0, "jobs": 25, "nodes": 20, "fanout": 2, "stall_weight": 8},
    "node-sends-nobody-away": {
        "remove_node_weight": 20, "head_weight": 8, "nodes": 16, "fanout": 2, "headless_patience_ms": 60_000,
    },
    **failover.FOCUS,
    **launches.FOCUS,
    **closing.FOCUS,
    **images.FOCUS,
    **sessions.FOCUS,
    **watches.FOCUS,
    **barriers.FOCUS,
    **stops.FOCUS,
    "head-lets-the-lost-live": {"isolate_weight": 20, "stall_weight": 8, "node_grace_ms": 1_500, "detached_rate": 0.6},
}  # fmt: skip
"""The weather in which a mutant is soon found out; else the usual."""


def mutator(name: str) -> Callable[[object], None]:
    """Return what makes each machine of its kind a mutant."""

    def mutate(machine: object) -> None:
        if isinstance(machine, Space):
            rooms = SPACE, failover.SPACE, barriers.SPACE, stops.SPACE
            change = next((room[name] for room in rooms if name in room), None)
        elif isinstance(machine, NodeMachine):
            change = NODE.get(name) or failover.NODE.get(name) or images.NODE.get(name) or stops.NODE.get(name)
        elif isinstance(machine, VirtualStore):
            change = failover.STORE.get(name)
        elif isinstance(machine, KeeperMachine):
            change = failover.KEEPER.get(name)
        elif isinstance(machine, Session):
            change = sessions.SESSION.get(name) or watches.SESSION.get(name)
        else:
            assert isinstance(machine, HeadMachine)
            kinds = HEAD, failover.HEAD, launches.HEAD, watches.HEAD, barriers.HEAD, closing.HEAD, stops.HEAD
            change = next((kind[name] for kind in kinds if name in kind), None)
        if change is not None:
            change(machine)

    return mutate
