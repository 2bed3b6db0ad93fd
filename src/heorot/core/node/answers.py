"""What a node's process space says: it goes up as it is, unless reports of others are merged with it."""

from __future__ import annotations

from collections.abc import Mapping

from heorot.core.errors import ProtocolError
from heorot.core.machine import SendEncoded
from heorot.core.node.context import NodeContext
from heorot.core.node.programs import Programs
from heorot.core.node.reports import SubtreeReports
from heorot.core.node.space import KnownSpace
from heorot.core.routes import Handler
from heorot.core.wire import tree as m
from heorot.core.wire.base import Chunk
from heorot.core.wire.tags import BULK_TAGS, FIRST_ANSWER_TAG, KNOWN_TAGS, LAST_ANSWER_TAG


class Answers:
    """Takes what comes from bpinit.

    Parameters
    ----------
    answers
        What it may say, by tag.
    """

    def __init__(
        self,
        context: NodeContext,
        space: KnownSpace,
        reports: SubtreeReports,
        programs: Programs,
        answers: Mapping[int, Handler],
    ) -> None:
        self._context = context
        self._space = space
        self._reports = reports
        self._programs = programs
        self._answers = answers

    def received(self, payload: Chunk) -> None:
        """The process space says something.

        Raises
        ------
        ProtocolError
            If it may not say that.
        """
        tag = m.tag_of(payload)
        handler = self._answers.get(tag)
        if handler is not None:
            handler(self, tag, payload)
        elif FIRST_ANSWER_TAG <= tag <= LAST_ANSWER_TAG and tag not in KNOWN_TAGS:
            self.pass_up(tag, payload)  # of a later release
        else:
            raise ProtocolError(f"the process space may not say something with the tag {tag} to a node")

    def pass_up(self, tag: int, payload: Chunk) -> None:
        """Pass an answer on to the head. What is dropped without a way up, bpinit repeats after the next snapshot."""
        self._context.send_up(m.Up(self._context.config.node, payload), tag in BULK_TAGS)

    def listed(self, tag: int, payload: Chunk) -> None:
        """It says all that it holds; the first time, that is its introduction, and the search for a parent begins."""
        if self._space.incarnation is not None:
            self.pass_up(tag, payload)
            return
        inventory = m.decode_space_answer(payload)
        assert isinstance(inventory, m.Inventory)
        self._space.introduced(inventory)
        self._context.out += self._context.uplink.connect(self._context.now_ms)

    def replied(self, tag: int, payload: Chunk) -> None:
        """It answers a question."""
        if not self._reports.replied(self._context.config.node, bytes(payload)):
            self.pass_up(tag, payload)

    def reported(self, tag: int, payload: Chunk) -> None:
        """It tells what became of ranks."""
        uplink = self._context.uplink
        if self._reports.of_jobs.accumulators or self._programs.starting:
            report = m.decode_space_answer(payload)
            assert isinstance(report, m.Report)
            if report.nodes_started:
                self._programs.let_go(report.job)
            self._reports.of_jobs.merge(report)
        elif uplink.attached:
            # A leaf has nothing to merge it with: bpinit's own bytes go up.
            assert uplink.link is not None
            self._context.emit(SendEncoded(uplink.link, bytes(payload)))

    def gathered(self, tag: int, payload: Chunk) -> None:
        """All ranks here wait in a barrier."""
        uplink = self._context.uplink
        if self._reports.of_barriers.accumulators:
            word = m.decode_space_answer(payload)
            assert isinstance(word, m.Gathered)
            self._reports.of_barriers.merge(word)
        elif uplink.attached:
            # A leaf has nothing to merge it with.
            assert uplink.link is not None
            self._context.emit(SendEncoded(uplink.link, bytes(payload)))
