"""What a node and all below it say, on its way up: what is about one subject is merged
(`heorot.core.tree.accumulator`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

from heorot.core.machine import SetTimer
from heorot.core.node.context import NodeContext
from heorot.core.node.timers import AnswersDue, BarrierDue, MergeDue
from heorot.core.timers import Due
from heorot.core.tree.accumulator import MAX_MERGED_BYTES, Accumulator, Merged, Subject, WordT
from heorot.core.tree.merged_gathered import MergedGathered, barrier_of
from heorot.core.tree.merged_replies import MergedReplies, replies_of
from heorot.core.tree.merged_reports import MergedReports
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m
from heorot.core.wire.replies import decode_opaque
from heorot.core.wire.tags import TAG_LAUNCH, TAG_QUERY, TAG_RELEASE, TAG_SCATTERED

_EXPECTING = (TAG_LAUNCH, TAG_QUERY, TAG_SCATTERED, TAG_RELEASE)
"""After these commands nodes say what is merged, or say no more."""


class Merging(Generic[WordT]):
    """What this node waits for of each subject of one kind, and what it has not passed on yet.

    Parameters
    ----------
    due_of
        Returns the timer of a subject; when it fires, `waited` is called.
    """

    def __init__(self, context: NodeContext, merged: type[Merged[WordT]], due_of: Callable[[Any], Due]) -> None:
        self._context = context
        self._merged = merged
        self._due_of = due_of
        self.accumulators: dict[Subject, Accumulator[WordT]] = {}

    def expect(self, nodes: NodeSet, command: m.HeadCommand) -> None:
        """A command for these nodes goes by: wait for the words of those that are here or below."""
        if not self._context.below.by_link and not self.accumulators:
            return
        subject = self._merged.called_for_by(command)
        expected = nodes.mask & (1 << self._context.config.node | self._context.below.mask)
        known = self.accumulators.get(subject)
        if known is not None:
            known.expected |= expected
            return
        if not expected:
            return
        if len(self.accumulators) >= self._merged.max_subjects:
            # Who was to say something on the oldest one may be gone; what is said all the same passes as it is.
            self._drop(next(iter(self.accumulators.values())))
        self.accumulators[subject] = Accumulator(self._merged(subject), expected, self._context.config.merge_ms)

    def expect_no_more(self, mask: int, subject: Subject | None = None) -> None:
        """Do not wait for words of these nodes any more, on this subject or on any: others say it all, or nobody asks.

        What the others have said waits for nobody then: the count of those that are missing is right no more.
        """
        if subject is None:
            concerned = [accumulator for accumulator in self.accumulators.values() if accumulator.expected & mask]
        else:
            concerned = [self.accumulators[subject]] if subject in self.accumulators else []
        for accumulator in concerned:
            accumulator.expected &= ~mask
            if subject is None or not accumulator.expected:
                self._flush(accumulator)

    def merge(self, word: WordT) -> None:
        """Pass a word on, alone or with others."""
        subject = self._merged.subject_of(word)
        accumulator = self.accumulators.get(subject)
        if accumulator is not None and not accumulator.has_room_for(word):
            self._flush(accumulator)
            accumulator = self.accumulators.get(subject)
        if accumulator is None:
            # No command on this came by (an agent that was restarted): nothing to wait for.
            self._context.send_up(word)
            return
        was_empty = accumulator.empty
        if accumulator.add(word):
            self._flush(accumulator)
        elif was_empty:
            due_ms = accumulator.due_ms(self._context.now_ms)
            self._context.emit(SetTimer(self._due_of(subject), due_ms))

    def waited(self, subject: Subject) -> None:
        """The timer of this subject has fired."""
        accumulator = self.accumulators.get(subject)
        if accumulator is not None:
            accumulator.waited(self._context.now_ms)
            self._flush(accumulator)

    def _flush(self, accumulator: Accumulator[WordT]) -> None:
        if not accumulator.empty:
            self._context.send_up(accumulator.take())
        if accumulator.finished:
            del self.accumulators[accumulator.merged.subject]

    def _drop(self, accumulator: Accumulator[WordT]) -> None:
        self._flush(accumulator)
        self.accumulators.pop(accumulator.merged.subject, None)


class SubtreeReports:
    """All that is merged here, by its kind."""

    def __init__(self, context: NodeContext) -> None:
        self.of_jobs: Merging[m.Report] = Merging(context, MergedReports, MergeDue)
        self.of_questions: Merging[m.Replies] = Merging(context, MergedReplies, AnswersDue)
        self.of_barriers: Merging[m.Gathered] = Merging(context, MergedGathered, BarrierDue)
        self._kinds: tuple[Merging[Any], ...] = (self.of_jobs, self.of_questions, self.of_barriers)
        self._context = context

    def goes_by(self, tag: int, nodes: NodeSet, payload: bytes) -> None:
        """A command for these nodes goes by: wait for what those that are here or below say to it, or wait no more."""
        if tag not in _EXPECTING or not (self._context.below.by_link or any(kind.accumulators for kind in self._kinds)):
            return
        command = m.decode_head_command(payload)
        if isinstance(command, m.Launch):
            self.of_jobs.expect(nodes, command)
            if command.gathers:
                self.of_barriers.expect(nodes, command)
        elif isinstance(command, m.Query):
            self.of_questions.expect(nodes, command)
        elif isinstance(command, m.Scattered):
            if command.part == 0:
                self.of_barriers.expect(nodes, command)
        elif isinstance(command, m.Release):
            self.of_jobs.expect_no_more(nodes.mask, command.job)
            for subject in list(self.of_barriers.accumulators):
                if str(subject).startswith(barrier_of(command.job, 0)[:-1]):
                    self.of_barriers.expect_no_more(nodes.mask, subject)

    def expect_no_more(self, mask: int) -> None:
        """Do not wait for these nodes any more: they are gone, or their inventories say it all."""
        for merging in self._kinds:
            merging.expect_no_more(mask)

    def replied(self, node: int, payload: bytes) -> bool:
        """Merge the answer of a node to a question; return False if it goes up as it is. Raises ProtocolError."""
        questions = self.of_questions
        if not questions.accumulators:
            return False
        reply = decode_opaque(payload)
        if reply.more or reply.id not in questions.accumulators:
            # The last part of a long answer comes behind the others, each as it is.
            return False
        if len(payload) > MAX_MERGED_BYTES:
            questions.expect_no_more(1 << node, reply.id)
            return False
        questions.merge(replies_of(node, reply))
        return True

    @property
    def waiting(self) -> list[Subject]:
        """On what subjects words are waited for."""
        return [subject for merging in self._kinds for subject in merging.accumulators]
