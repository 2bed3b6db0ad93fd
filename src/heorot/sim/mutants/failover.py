"""Mutants that concern the change of heads; see `heorot.sim.mutants`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from heorot.core.errors import HeorotError
from heorot.core.keeper.election import LeaseLost, StoreUnavailable
from heorot.core.keeper.steps import Woken
from heorot.core.machine import Remember
from heorot.core.streams import TAKES_NO_MORE
from heorot.core.wire import tree as m


def _forgets_what_it_has_sent(space: Any) -> None:
    """Output is forgotten when it is sent, not when it is acknowledged."""
    honest = space.output.pump

    def pump() -> None:
        honest()
        for job in space.jobs.values():
            for rank in job.ranks.values():
                for stream in rank.outputs:
                    if stream is not None:
                        stream.ack(stream.sent)

    space.output.pump = pump


def _takes_repeated_input_for_new(space: Any) -> None:
    """Input that comes again is given to the processes again."""
    honest = space._stdin

    def stdin(command: m.Stdin) -> None:
        job = space.jobs.get(command.job)
        if job is not None and job.broadcast is not None and command.ranks is None and command.data:
            command = replace(command, offset=max(command.offset, job.broadcast.stream.end))
        honest(command)

    space._stdin = stdin


def _ignores_attend(space: Any) -> None:
    """A new reader is not given what a former one has not acknowledged."""
    honest = space._attend

    def attend(command: m.Attend) -> None:
        space.output.send_again, again = lambda job: None, space.output.send_again
        honest(command)
        space.output.send_again = again

    space._attend = attend


def _does_not_keep_its_epoch(node: Any) -> None:
    """An agent that is restarted obeys heads that were deposed before."""

    def has_kept(epoch: int, again: Callable[[], None]) -> bool:
        node.context.epoch = max(node.epoch, epoch)
        return True

    node.epochs.has_kept = has_kept


def _keeps_its_epoch_late(node: Any) -> None:
    """A higher epoch is obeyed while it is still on its way to the disk."""

    def has_kept(epoch: int, again: Callable[[], None]) -> bool:
        if epoch > node.epoch:
            node.context.epoch = epoch
            node.context.emit(Remember("epoch", b"%d" % epoch, True))
        return True

    node.epochs.has_kept = has_kept


def _ignores_the_key(head: Any) -> None:
    """A launch that is asked for again is another launch."""
    head.jobs.by_key = lambda uid, key: None


def _resumes_input_further_on(head: Any) -> None:
    """A client's input goes on behind the offset that it named."""
    honest = head.jobs._input.resume
    head.jobs._input.resume = lambda job, told: honest(
        job, [value + 1000 if index % 2 else value for index, value in enumerate(told)]
    )


def _acknowledges_input_before_it_is_kept(head: Any) -> None:
    """Input is acknowledged as soon as it is here, before the nodes have it."""

    def tell(job: Any, rank: int, feed: Any) -> None:
        honest(job, rank, feed)

    honest = head.jobs._input.tell
    feed_honestly = head.jobs._input.feed

    def feed(job: Any, message: Any) -> None:
        feed_honestly(job, message)
        source = job.stdin if message.rank < 0 else job.rank_stdin[message.rank]
        slowest, source._slowest = source._slowest, source.sent
        if slowest < TAKES_NO_MORE:
            tell(job, message.rank, source)
        source._slowest = slowest

    head.jobs._input.feed = feed


def _forgets_the_input_of_adopted_jobs(head: Any) -> None:
    """Who goes on feeding a job is not told what the nodes have already."""
    head.jobs._input.resume = lambda job, told: None


def _adopts_what_was_collected(head: Any) -> None:
    """That a node has released a job of an earlier head is taken for a failure of its ranks."""
    head.jobs._reports._collected = lambda job, node: None


def _hangs_up_what_it_adopts(head: Any) -> None:
    """A job of an earlier head is ended, because its client is not here."""
    honest = head.jobs.adopt

    def adopt(job: Any) -> None:
        honest(job)
        if not job.detached:
            head.jobs.attendance.hang_up(job)

    head.jobs.adopt = adopt


def _adopts_on_one_node_only(head: Any) -> None:
    """A job that is taken over is not put right on its other nodes."""
    honest = head.jobs.take_inventory

    def take_inventory(job: Any, record: Any, item: m.JobInventory) -> None:
        if not job.adopted or record.node == min(job.nodes):
            honest(job, record, item)

    head.jobs.take_inventory = take_inventory


def _gives_the_epoch_out_again(store: Any) -> None:
    """A head is elected without a higher epoch."""

    def next_epoch() -> int:
        store.epoch = max(store.epoch, 1)
        return int(store.epoch)

    store.next_epoch = next_epoch


def _between(keeper: Any, answers: Callable[[Any, Any], Any], errors: Callable[[Any], Any] | None = None) -> None:
    """Put something between a keeper and who carries its steps out: what it hears in place of an answer or an error."""
    honest = keeper.run

    def run() -> Any:
        steps = honest()
        step = next(steps)
        while True:
            try:
                answer = yield step
            except HeorotError as error:
                step = steps.throw(errors(error) if errors is not None else error)
            else:
                step = steps.send(answers(step, answer))

    keeper.run = run


def _keeps_the_lease_of_a_dead_head(keeper: Any) -> None:
    """The lease is kept alive although the head is dead."""
    _between(keeper, lambda step, answer: replace(answer, ended=None) if isinstance(answer, Woken) else answer)


def _ignores_that_the_lease_is_gone(keeper: Any) -> None:
    """A head goes on although the store has said that its lease is gone."""

    def error(told: HeorotError) -> HeorotError:
        return StoreUnavailable("somebody else leads") if isinstance(told, LeaseLost) else told

    _between(keeper, lambda step, answer: answer, error)


def _hears_no_rival(head: Any) -> None:
    """Beside the one above: its head hears no other head either, which would end it."""
    head.rivals.heard = lambda epoch: None
    head.rivals.answered = lambda link, message: None


SPACE: dict[str, Callable[[Any], None]] = {
    "space-forgets-what-it-has-sent": _forgets_what_it_has_sent,
    "space-takes-repeated-input-for-new": _takes_repeated_input_for_new,
    "space-gives-a-new-reader-nothing-again": _ignores_attend,
}


def _lets_nodes_stay_unplaced(head: Any) -> None:
    """A node that stands where it belongs is not told of the new epoch, unless it is seen at once."""
    honest = head._rebalance

    def rebalance() -> None:
        for record in head.members.records.values():
            if record.lacks_placement:
                record.placed_under = record.parent
        honest()

    head._rebalance = rebalance


def _tells_of_heads_only_who_attaches(head: Any) -> None:
    """A head that is added or removed while nodes live is no news for those that are attached."""
    honest = head.listed.heard

    def heard(event: Any) -> None:
        send_down, head.context.send_down = head.context.send_down, lambda nodes, command: nodes
        honest(event)
        head.context.send_down = send_down

    head.listed.heard = heard


def _does_not_keep_the_heads(node: Any) -> None:
    """An agent that is restarted knows the heads of its configuration only."""
    heads = node.heads

    def keep() -> None:
        heads.kept, heads._sealed = heads.known, None
        heads._tell_kept()

    heads.keep = keep


def _takes_any_list_of_heads(node: Any) -> None:
    """A list of heads that a relay has kept for later replaces a newer one."""
    heads = node.heads
    honest = heads.told

    def told(sealed: m.TellHeads) -> None:
        heads.known = heads.kept = heads._sealed = None
        honest(sealed)

    heads.told = told


def _never_asks_a_standby(node: Any) -> None:
    """A node that knows none but heads on standby goes on asking them for themselves."""
    honest = node.uplink._try_next

    def try_next(now_ms: int) -> Any:
        rounds, node.uplink._rounds = node.uplink._rounds, 0
        out = honest(now_ms)
        node.uplink._rounds += rounds
        return out

    node.uplink._try_next = try_next


def _tells_no_other_head(head: Any) -> None:
    """A new head leaves it to the store to tell the former one."""
    head.rivals.announce = lambda: None


NODE: dict[str, Callable[[Any], None]] = {
    "node-does-not-keep-the-heads": _does_not_keep_the_heads,
    "node-takes-any-list-of-heads": _takes_any_list_of_heads,
    "node-never-asks-a-standby": _never_asks_a_standby,
    "node-does-not-keep-its-epoch": _does_not_keep_its_epoch,
    "node-keeps-its-epoch-late": _keeps_its_epoch_late,
}
HEAD: dict[str, Callable[[Any], None]] = {
    "keeper-ignores-that-the-lease-is-gone": _hears_no_rival,
    "head-ignores-the-key": _ignores_the_key,
    "head-resumes-input-further-on": _resumes_input_further_on,
    "head-acknowledges-input-before-it-is-kept": _acknowledges_input_before_it_is_kept,
    "head-forgets-the-input-of-adopted-jobs": _forgets_the_input_of_adopted_jobs,
    "head-adopts-what-was-collected": _adopts_what_was_collected,
    "head-hangs-up-what-it-adopts": _hangs_up_what_it_adopts,
    "head-adopts-on-one-node-only": _adopts_on_one_node_only,
    "head-lets-nodes-stay-unplaced": _lets_nodes_stay_unplaced,
    "head-tells-of-heads-only-who-attaches": _tells_of_heads_only_who_attaches,
    "head-tells-no-other-head": _tells_no_other_head,
}
STORE: dict[str, Callable[[Any], None]] = {
    "store-gives-the-epoch-out-again": _gives_the_epoch_out_again,
}
KEEPER: dict[str, Callable[[Any], None]] = {
    "keeper-keeps-the-lease-of-a-dead-head": _keeps_the_lease_of_a_dead_head,
    "keeper-ignores-that-the-lease-is-gone": _ignores_that_the_lease_is_gone,
}
_CHANGES = {
    "faults": 40,
    "head_weight": 4,
    "ambush_weight": 12,
    "jobs": 25,
    "job_span_ms": 15_000,
    "detached_rate": 0.1,
}
_INPUT = {"faults": 40, "head_weight": 12, "jobs": 25, "job_span_ms": 15_000, "detached_rate": 0.1, "reader_rate": 0.8}
_HEADS = {"spare_heads": 6, "add_head_weight": 8, "remove_head_weight": 8, "head_weight": 4, "faults": 40}
FOCUS: dict[str, dict[str, Any]] = {
    "node-does-not-keep-the-heads": _HEADS,
    "node-takes-any-list-of-heads": {**_HEADS, "ghost_weight": 30},
    "node-never-asks-a-standby": {**_HEADS, "node_weight": 8, "heads": 1},
    "head-tells-of-heads-only-who-attaches": _HEADS,
    "node-does-not-keep-its-epoch": {"agent_weight": 8, "head_weight": 4, "ghost_weight": 8, "faults": 150},
    "node-keeps-its-epoch-late": {
        "agent_weight": 8, "head_weight": 4, "ghost_weight": 8, "disk_ms": 3_000, "faults": 150,
    },
    "space-takes-repeated-input-for-new": _INPUT,
    "head-resumes-input-further-on": _INPUT,
    "head-acknowledges-input-before-it-is-kept": _INPUT,
    "head-forgets-the-input-of-adopted-jobs": _INPUT,
    "head-ignores-the-key": _CHANGES,
    "head-tells-no-other-head": {
        "heads": 2, "spare_heads": 0, "lease_ms": 1_000, "store_wall_weight": 20, "faults": 20, "fault_span_ms": 10_000,
    },
}  # fmt: skip
