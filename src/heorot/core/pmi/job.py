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
from heorot.core.pmi import lines
from heorot.core.pmi.dictionary import Dictionary
from heorot.core.pmi.lines import answer_line, number_of
from heorot.core.pmi.states import (
    ENTERS_NO_MORE,
    INSIDE,
    OWES_FINALIZE,
    PMI_RANK,
    SILENT,
    WAITING,
    PmiChange,
    PmiState,
)

MAPPING_KEY = b"PMI_process_mapping"
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


class PmiRank:
    """One rank of this node."""

    __slots__ = ("group", "heard", "number", "over", "spawning", "state", "story")

    def __init__(self, number: int) -> None:
        self.number = number
        self.state: PmiState = SILENT
        self.story = 0
        self.heard = bytearray()
        """The beginning of a line."""
        self.group = b""
        """As it has called the barrier in which it waits; empty: not at all."""
        self.spawning = False
        """Lines that say what it wants to be started are under way."""
        self.over = False
        """Its process has ended."""

    @property
    def name(self) -> str:
        """What it is called."""
        return f"rank {self.number}"


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
        self._name = name
        self._get_of_it = b"cmd=get kvsname=%s key=" % name
        """So libraries begin to ask for a key; what follows is the key, and the end of the line."""
        self._size = size
        self._place = place
        self._mapping = mapping
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
            if not rank.heard and not rank.spawning:
                return b"cmd=get_result rc=0 value=%b\n" % value
            return b""
        if line.find(b"\n") != len(line) - 1 or rank.heard or rank.spawning or rank.state in ENTERS_NO_MORE:
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
            while rank.state not in ENTERS_NO_MORE and (end := rank.heard.find(b"\n")) >= 0:
                line = bytes(rank.heard[:end])
                del rank.heard[: end + 1]
                self._line(rank, line)
            if len(rank.heard) > lines.MAX_LINE_BYTES:
                raise ProtocolError(f"a line of more than {lines.MAX_LINE_BYTES} bytes")
        except ProtocolError as error:
            rank.heard.clear()
            PMI_RANK.step(rank, PmiChange.NONSENSE)
            self._say(rank, answer_line(b"error", str(error)))
            self._cut.append(number)
            self._look()

    def _say(self, rank: PmiRank, line: bytes) -> None:
        self._answers[rank.number] = self._answers.get(rank.number, b"") + line

    def _line(self, rank: PmiRank, line: bytes) -> None:
        if rank.spawning:
            if line == b"endcmd":
                rank.spawning = False
                self._say(rank, answer_line(lines.SPAWN_RESULT, "MPI_Comm_spawn is not served by Heorot"))
            return
        if line.startswith(lines.SPAWN):
            rank.spawning = True
            return
        fields = lines.fields_of(line)
        command = fields[b"cmd"]
        question, serve = _QUESTIONS.get(command), _SERVED.get(command)
        if question is not None:
            self._say(rank, question(self, fields))
        elif serve is not None:
            serve(self, rank, fields)
        else:
            shown = command[:MAX_ECHO_BYTES]
            name = lines.REFUSED.get(command, shown)
            self._say(rank, answer_line(name, f"{shown.decode('latin-1')} is not served by Heorot"))

    def _init(self, rank: PmiRank, fields: dict[bytes, bytes]) -> None:
        version = number_of(fields, b"pmi_version", lines.VERSION)
        problem = "" if version == lines.VERSION else f"PMI-{version} is not served by Heorot, only PMI-1"
        if not problem:
            if rank.state is WAITING:
                raise ProtocolError("init in a barrier")
            PMI_RANK.step(rank, PmiChange.INIT)
        versions = {"pmi_version": lines.VERSION, "pmi_subversion": lines.SUBVERSION}
        self._say(rank, answer_line(b"response_to_init", problem, **versions))

    def _finalize(self, rank: PmiRank, fields: dict[bytes, bytes]) -> None:
        if rank.state is not INSIDE:
            raise ProtocolError(f"finalize of a rank that is {rank.state}")
        PMI_RANK.step(rank, PmiChange.FINALIZED)
        self._say(rank, answer_line(b"finalize_ack"))

    def _abort(self, rank: PmiRank, fields: dict[bytes, bytes]) -> None:
        status = number_of(fields, b"exitcode", 1) & 0xFF
        self._end(rank, status, f"called MPI_Abort with {status}")

    def _put(self, rank: PmiRank, fields: dict[bytes, bytes]) -> None:
        key, value = fields.get(b"key", b""), fields.get(b"value", b"")
        if fields.get(b"kvsname", self._name) != self._name:
            problem = "there is no such dictionary"
        elif rank.state is not INSIDE or self.waits:
            problem = f"put of a rank that is {rank.state}"
        elif not 0 < len(key) <= lines.MAX_KEY_BYTES or len(value) > lines.MAX_VALUE_BYTES:
            problem = f"keys have up to {lines.MAX_KEY_BYTES} bytes and values up to {lines.MAX_VALUE_BYTES}"
        elif key.startswith(OWN_KEYS):
            problem = "keys that begin with PMI_ are not the ranks'"
        else:
            problem = self.dictionary.put(key, value)
        self._say(rank, answer_line(b"put_result", problem))

    # ------------------------------------------------------------------ questions, which change nothing

    def _maxes(self, fields: dict[bytes, bytes]) -> bytes:
        maxes = (lines.MAX_NAME_BYTES, lines.MAX_KEY_BYTES, lines.MAX_VALUE_BYTES)
        return answer_line(b"maxes", kvsname_max=maxes[0], keylen_max=maxes[1], vallen_max=maxes[2])

    def _appnum(self, fields: dict[bytes, bytes]) -> bytes:
        return answer_line(b"appnum", appnum=0)

    def _tell_name(self, fields: dict[bytes, bytes]) -> bytes:
        return answer_line(b"my_kvsname", kvsname=self._name)

    def _universe(self, fields: dict[bytes, bytes]) -> bytes:
        return answer_line(b"universe_size", size=self._size)

    def _get(self, fields: dict[bytes, bytes]) -> bytes:
        key = fields.get(b"key", b"")
        value = self.dictionary.find(key)
        if key == MAPPING_KEY:
            value = self._mapping or None
        elif key == TOPOLOGY_KEY:
            value = b"unavailable"
        if value is None or fields.get(b"kvsname", self._name) != self._name:
            return answer_line(b"get_result", "there is no such key")
        return answer_line(b"get_result", value=value)

    # ------------------------------------------------------------------ barriers

    def _barrier(self, rank: PmiRank, fields: dict[bytes, bytes]) -> None:
        if rank.state is not INSIDE:
            raise ProtocolError(f"a barrier for a rank that is {rank.state}")
        group = fields.get(b"group", b"")
        if group and not group.startswith(_OF_ALL):
            problem = "barriers of some ranks are not served by Heorot, only those of all"
            self._say(rank, answer_line(b"barrier_out", problem, group=group[:MAX_ECHO_BYTES]))
            return
        rank.group = group[:MAX_ECHO_BYTES]
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
            if len(self.ranks) == self._size:
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
                self._say(rank, answer_line(b"barrier_out", "", **named))

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
