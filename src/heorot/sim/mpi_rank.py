"""What a virtual process does that is a rank of MPI, and what must be true of it.

It speaks PMI-1 as the libraries do: one line, and nothing more before the answer. In each barrier it puts a value of
its own, and behind it asks for those of all ranks.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.sim.scripts import MPI_BARRIER, MPI_FINALIZE, MPI_INIT
from heorot.sim.truth import Barriers, JobTruth
from heorot.sim.world import World


class MpiRank:
    """See the module.

    Parameters
    ----------
    say
        Takes what the process writes to its connection.
    go_on
        Called when it has what it waited for.
    """

    def __init__(
        self,
        world: World,
        barriers: Barriers,
        job: JobTruth,
        rank: int,
        say: Callable[[bytes], None],
        go_on: Callable[[], None],
    ) -> None:
        self._world = world
        self._barriers = barriers
        self._job = job.job
        self._size = len(job.nodes)
        self._rank = rank
        self._say = say
        self._go_on = go_on
        self._number = 0
        self._asked = 0
        """Whose values of this barrier it has asked for already."""

    def begin(self, what: int, number: int) -> None:
        """Do what the script wants."""
        self._number = number
        if what == MPI_INIT:
            self._barriers.owing.add((self._job, self._rank))
            self._say(b"cmd=init pmi_version=1 pmi_subversion=1\n")
        elif what == MPI_BARRIER:
            self._asked = 0
            entry = self._name, self._key(self._rank), self._value(self._rank)
            self._say(b"cmd=put kvsname=%s key=%s value=%s\n" % entry)
        elif what == MPI_FINALIZE:
            self._say(b"cmd=finalize\n")
        else:
            self._barriers.aborted.add(self._job)
            self._say(b"cmd=abort exitcode=%d\n" % number)
            self._go_on()

    @property
    def _name(self) -> bytes:
        return b"heorot_" + self._job.encode()

    def _key(self, rank: int) -> bytes:
        return b"%d-of-%d" % (self._number, rank)

    def _value(self, rank: int) -> bytes:
        return b"value %d of %s" % (self._number * self._size + rank, self._job.encode())

    def told(self, data: bytes) -> None:
        """The space answers."""
        line = data.decode().rstrip("\n")
        command = line.split()[0]
        if "rc=0" not in line:
            self._world.violated("BarrierHolds", f"{self._job} r{self._rank} is answered {line!r}")
        if command == "cmd=put_result":
            self._enter()
        elif command == "cmd=barrier_out":
            self._leave()
        elif command == "cmd=get_result":
            wanted = self._value(self._asked - 1).decode()
            if not line.endswith(f"value={wanted}"):
                text = f"of r{self._asked - 1} in barrier {self._number} it is told {line!r}, and {wanted!r} was put"
                self._world.violated("BarrierHolds", f"{self._job} r{self._rank}: {text}")
            self._ask()
        else:
            if command == "cmd=finalize_ack":
                self._barriers.owing.discard((self._job, self._rank))
            self._go_on()

    def _enter(self) -> None:
        self._barriers.entered.setdefault((self._job, self._number), set()).add(self._rank)
        self._barriers.inside[self._job, self._rank] = self._number
        self._say(b"cmd=barrier_in\n")

    def _leave(self) -> None:
        del self._barriers.inside[self._job, self._rank]
        self._barriers.opened += 1
        entered = self._barriers.entered[self._job, self._number]
        if len(entered) != self._size:
            text = f"leaves barrier {self._number}, which only {sorted(entered)} of {self._size} have entered"
            self._world.violated("BarrierHolds", f"{self._job} r{self._rank} {text}")
        self._ask()

    def _ask(self) -> None:
        if self._asked == self._size:
            self._go_on()
            return
        self._asked += 1
        self._say(b"cmd=get kvsname=%s key=%s\n" % (self._name, self._key(self._asked - 1)))
