"""The ranks of one job on one node, as PMI knows them: what each is answered, and when a barrier opens.

A barrier has a *generation*, which is how many this job has come through before. When all ranks of this node wait in
it, the node *contributes*: what they have put goes up, once with each way to a head that is new, and the barrier opens
when everything that was put on any node has come down. A node that has come through keeps its own contribution until
the next barrier opens: then all nodes are through, and until then any head can gather it anew.

A job whose ranks cannot go on together ends (`Abort`): a rank says ``abort``; its process ends between ``init`` and
``finalize``; or others wait in a barrier for one that has ended, or that has said what is not PMI.
"""

from __future__ import annotations

from typing import NamedTuple

from heorot.core.errors import ProtocolError
from heorot.core.pmi import lines, messages, second
from heorot.core.pmi.dictionary import Dictionary, why_not_put
from heorot.core.pmi.lines import answer_line, number_of
from heorot.core.pmi.rank import PmiRank
from heorot.core.pmi.states import ENTERS_NO_MORE, INSIDE, OWES_FINALIZE, PMI_RANK, WAITING, PmiChange

MAPPING_KEY = second.MAPPING
TOPOLOGY_KEY = b"PMI_hwloc_xmlfile"
OWN_KEYS = b"PMI_"
"""So begin the keys that only a process manager has values for."""
MAX_ECHO_BYTES = 64
"""So much of what is refused stands in the answer."""
_OF_ALL = b"WORLD"
"""So the group of a barrier of all ranks begins."""


class Abort(NamedTuple):
    """Why a job cannot go on."""

    rank: int
    status: int
    """What the job's exit status is to be."""
    text: str
    """For people."""


class PmiJob:
    """See the module.

    Parameters
    ----------
    name
        What the dictionary is called.
    size
        How many ranks the job has.
    numbers
        Those of this node.
    place
        What the node is called.
    mapping
        As of `heorot.core.pmi.mapping`; empty: there is none.
    """

    def __init__(
        self, name: bytes, size: int, numbers: list[int], place: str, mapping: bytes, dictionary: Dictionary
    ) -> None:
        self.ranks = {number: PmiRank(number) for number in numbers}
        self.dictionary = dictionary
        self.generation = 0
        self.waits = False
        """All ranks of this node wait in the barrier, and what they have put does not change any more."""
        self.abort: Abort | None = None
        self.name = name
        self._get_of_it = b"cmd=get kvsname=%s key=" % name
        """So libraries begin to ask for a key; what follows is the key, and the end of the line."""
        self.size = size
        self._place = place
        self.mapping = mapping
        self._answers: dict[int, bytes] = {}
        self._cut: list[int] = []
        self._contributes = False
        self._parts: dict[int, list[bytes]] = {}
        self._parts_wanted = 0

    # ------------------------------------------------------------------ what the owner takes away

    def take_answers(self) -> list[tuple[int, bytes]]:
        """Return ranks, and what each is to be told now."""
        answers, self._answers = self._answers, {}
        return list(answers.items())

    def take_cut(self) -> list[int]:
        """Return ranks whose connection is to be closed, behind what they are told."""
        cut, self._cut = self._cut, []
        return cut

    def take_contribution(self) -> list[bytes] | None:
        """Return what the ranks of this node have put, flat, if that is to be said now; else None."""
        if not self._contributes:
            return None
        self._contributes = False
        return self.contribution()

    def contribution(self) -> list[bytes]:
        """Return what the ranks of this node have put since the last barrier, flat."""
        return [item for entry in self.dictionary.own.items() for item in entry]

    def former(self) -> list[bytes]:
        """Return what they had put before it."""
        return [item for entry in self.dictionary.former.items() for item in entry]

    # ------------------------------------------------------------------ what ranks say

    def answer_aside(self, number: int, line: bytes) -> bytes:
        """Return what a rank is to be told, if it says one line that is a question which changes nothing here.

        Else nothing, and `hear` has to be told of it, which would answer the same. A library asks for the key of each
        other rank, one after the other, and waits for each: nearly all that is ever said is this.
        """
        rank = self.ranks[number]
        # No key that was put has a blank in it, or ends a line: with anything behind the key it is not found here.
        value = self.dictionary.known.get(line[len(self._get_of_it) : -1])
        if value is not None and line.startswith(self._get_of_it) and rank.state is INSIDE and line.endswith(b"\n"):
            if not rank.heard and not rank.spawning and not rank.second:
                return b"cmd=get_result rc=0 value=%b\n" % value
            return b""
        if line.find(b"\n") != len(line) - 1 or rank.heard or rank.spawning or rank.second:
            return b""
        if rank.state in ENTERS_NO_MORE:
            return b""
        if not line.startswith(lines.QUESTION):
            return b""
        try:
            fields = lines.fields_of(line[:-1])
        except ProtocolError:
            return b""
        question = _QUESTIONS.get(fields[b"cmd"])
        return question(self, fields) if question is not None else b""

    def hear(self, number: int, data: bytes) -> None:
        """A rank says something, in pieces of any size; nonsense costs it its connection."""
        rank = self.ranks[number]
        try:
            rank.heard += data
            while rank.state not in ENTERS_NO_MORE and self._take_one(rank):
                pass
            if len(rank.heard) > lines.MAX_LINE_BYTES + messages.LENGTH_BYTES:
                raise ProtocolError(f"a line of more than {lines.MAX_LINE_BYTES} bytes")
        except ProtocolError as error:
            rank.heard.clear()
            PMI_RANK.step(rank, PmiChange.NONSENSE)
            self.say(rank, answer_line(b"error", str(error)))
            rank.looks.clear()
            self._cut.append(number)
            self._look()

    def _take_one(self, rank: PmiRank) -> bool:
        """Answer one line or message of what was heard; return False if none is whole. Raises ProtocolError."""
        if rank.second:
            body = messages.take_message(rank.heard)
            if body is not None:
                second.serve(self, rank, body)
            return body is not None
        end = rank.heard.find(b"\n")
        if end >= 0:
            line = bytes(rank.heard[:end])
            del rank.heard[: end + 1]
            self._line(rank, line)
        return end >= 0

    def _line(self, rank: PmiRank, line: bytes) -> None:
        if rank.spawning:
            if line == b"endcmd":
                rank.spawning = False
                self.say(rank, answer_line(lines.SPAWN_RESULT, "MPI_Comm_spawn is not served by Heorot"))
            return
        if line.startswith(lines.SPAWN):
            rank.spawning = True
            return
        fields = lines.fields_of(line)
        command = fields[b"cmd"]
        question, serve = _QUESTIONS.get(command), _SERVED.get(command)
        if question is not None:
            self.say(rank, question(self, fields))
        elif serve is not None:
            serve(self, rank, fields)
        else:
            shown = command[:MAX_ECHO_BYTES]
            name = lines.REFUSED.get(command, shown)
            self.say(rank, answer_line(name, f"{shown.decode('latin-1')} is not served by Heorot"))

    def _init(self, rank: PmiRank, fields: dict[bytes, bytes]) -> None:
        version = number_of(fields, b"pmi_version", lines.VERSION)
        if version == messages.VERSION:
            # What follows is in the words of that; it is inside when it has said ``fullinit``.
            if rank.state in (INSIDE, WAITING):
                raise ProtocolError(f"init of PMI-2 by a rank that is {rank.state}")
            rank.second = True
            versions = {"pmi_version": messages.VERSION, "pmi_subversion": messages.SUBVERSION}
            self.say(rank, answer_line(b"response_to_init", "", **versions))
            return
        problem = "" if version == lines.VERSION else f"PMI-{version} is not served by Heorot, only PMI-1 and PMI-2"
        if not problem:
            if rank.state is WAITING:
                raise ProtocolError("init in a barrier")
            PMI_RANK.step(rank, PmiChange.INIT)
        versions = {"pmi_version": lines.VERSION, "pmi_subversion": lines.SUBVERSION}
        self.say(rank, answer_line(b"response_to_init", problem, **versions))

    def _finalize(self, rank: PmiRank, fields: dict[bytes, bytes]) -> None:
        self.leave(rank)
        self.say(rank, answer_line(b"finalize_ack"))

    def _abort(self, rank: PmiRank, fields: dict[bytes, bytes]) -> None:
        self.end_with(rank, number_of(fields, b"exitcode", 1) & 0xFF)

    def _put(self, rank: PmiRank, fields: dict[bytes, bytes]) -> None:
        key, value = fields.get(b"key", b""), fields.get(b"value", b"")
        if fields.get(b"kvsname", self.name) != self.name:
            problem = "there is no such dictionary"
        else:
            problem = self.put(rank, key, value)
        self.say(rank, answer_line(b"put_result", problem))

    # ------------------------------------------------------------------ what they say in either version

    def say(self, rank: PmiRank, said: bytes) -> None:
        """Tell a rank something."""
        self._answers[rank.number] = self._answers.get(rank.number, b"") + said

    def put(self, rank: PmiRank, key: bytes, value: bytes) -> str:
        """Put a value for all, behind the next barrier; return why not, for people."""
        if rank.state is not INSIDE or self.waits:
            return f"put of a rank that is {rank.state}"
        if key.startswith(OWN_KEYS):
            return "keys that begin with PMI_ are not the ranks'"
        return why_not_put(key, value) or self.dictionary.put(key, value)

    def leave(self, rank: PmiRank) -> None:
        """Take the last word of a rank. Raises ProtocolError."""
        if rank.state is not INSIDE:
            raise ProtocolError(f"finalize of a rank that is {rank.state}")
        PMI_RANK.step(rank, PmiChange.FINALIZED)

    def end_with(self, rank: PmiRank, status: int) -> None:
        """End the job with this status, as a rank wants it."""
        self._end(rank, status, f"called MPI_Abort with {status}")

    # ------------------------------------------------------------------ questions, which change nothing

    def _maxes(self, fields: dict[bytes, bytes]) -> bytes:
        maxes = (lines.MAX_NAME_BYTES, lines.MAX_KEY_BYTES, lines.MAX_VALUE_BYTES)
        return answer_line(b"maxes", kvsname_max=maxes[0], keylen_max=maxes[1], vallen_max=maxes[2])

    def _appnum(self, fields: dict[bytes, bytes]) -> bytes:
        return answer_line(b"appnum", appnum=0)

    def _tell_name(self, fields: dict[bytes, bytes]) -> bytes:
        return answer_line(b"my_kvsname", kvsname=self.name)

    def _universe(self, fields: dict[bytes, bytes]) -> bytes:
        return answer_line(b"universe_size", size=self.size)

    def _get(self, fields: dict[bytes, bytes]) -> bytes:
        key = fields.get(b"key", b"")
        value = self.dictionary.find(key)
        if key == MAPPING_KEY:
            value = self.mapping or None
        elif key == TOPOLOGY_KEY:
            value = b"unavailable"
        if value is None or fields.get(b"kvsname", self.name) != self.name:
            return answer_line(b"get_result", "there is no such key")
        return answer_line(b"get_result", value=value)

    # ------------------------------------------------------------------ barriers

    def _barrier(self, rank: PmiRank, fields: dict[bytes, bytes]) -> None:
        group = fields.get(b"group", b"")
        if rank.state is INSIDE and group and not group.startswith(_OF_ALL):
            problem = "barriers of some ranks are not served by Heorot, only those of all"
            self.say(rank, answer_line(b"barrier_out", problem, group=group[:MAX_ECHO_BYTES]))
            return
        self.enter(rank, group[:MAX_ECHO_BYTES])

    def enter(self, rank: PmiRank, group: bytes = b"") -> None:
        """Enter a barrier. Raises ProtocolError."""
        if rank.state is not INSIDE:
            raise ProtocolError(f"a barrier for a rank that is {rank.state}")
        rank.group = group
        PMI_RANK.step(rank, PmiChange.ENTERED)
        self._look()

    def _look(self) -> None:
        """See whether all ranks of this node wait now, or whether some wait for one that cannot come."""
        ranks = self.ranks.values()
        if self.abort is not None or self.waits or not any(rank.state is WAITING for rank in ranks):
            return
        missing = [rank for rank in ranks if rank.state is not WAITING]
        for rank in missing:
            if rank.over or rank.state in ENTERS_NO_MORE:
                self._end(rank, 1, "ended" if rank.over else "said what is not PMI", "while others wait for it in MPI")
                return
        if not missing:
            self.waits = True
            if len(self.ranks) == self.size:
                self._open([])
            else:
                self._contributes = True

    def scattered(self, generation: int, part: int, parts: int, entries: list[bytes]) -> None:
        """Take one part of what was put on all nodes before a barrier; the last one opens it. Any may come again."""
        if not self.waits or generation != self.generation or part >= parts:
            return
        if parts != self._parts_wanted:
            self._parts, self._parts_wanted = {}, parts
        self._parts[part] = entries
        if len(self._parts) == parts:
            self._open([item for number in sorted(self._parts) for item in self._parts[number]])

    def _open(self, entries: list[bytes]) -> None:
        self._parts, self._parts_wanted = {}, 0
        problem = self.dictionary.learn(entries)
        if problem:
            self._end(next(iter(self.ranks.values())), 1, problem, who="MPI cannot go on")
            return
        self.generation += 1
        self.waits = False
        for rank in self.ranks.values():
            if rank.state is WAITING:
                PMI_RANK.step(rank, PmiChange.OPENED)
                named = {"group": rank.group} if rank.group else {}
                opened = second.barrier_out(rank) if rank.second else answer_line(b"barrier_out", "", **named)
                self.say(rank, opened)

    # ------------------------------------------------------------------ the end

    def gone(self, number: int, how: str, status: int) -> None:
        """The process of a rank has ended, for people ``how`` and with this exit status."""
        rank = self.ranks[number]
        rank.over = True
        if rank.state in OWES_FINALIZE:
            self._end(rank, status or 1, how, "before MPI_Finalize")
        else:
            self._look()
        if all(each.over for each in self.ranks.values()):
            self.dictionary.shrink()

    def _end(self, rank: PmiRank, status: int, what: str, when: str = "", who: str = "") -> None:
        if self.abort is None:
            who = f"{who}:" if who else f"rank {rank.number} on {self._place}"
            self.abort = Abort(rank.number, status, " ".join(part for part in (who, what, when) if part))


_QUESTIONS = {
    lines.GET_MAXES: PmiJob._maxes,
    lines.GET_APPNUM: PmiJob._appnum,
    lines.GET_NAME: PmiJob._tell_name,
    lines.GET_UNIVERSE: PmiJob._universe,
    lines.GET: PmiJob._get,
}
_SERVED = {
    lines.INIT: PmiJob._init,
    lines.FINALIZE: PmiJob._finalize,
    lines.ABORT: PmiJob._abort,
    lines.PUT: PmiJob._put,
    lines.BARRIER: PmiJob._barrier,
}
