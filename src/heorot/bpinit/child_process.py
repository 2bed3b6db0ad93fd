"""What the process space's daemon holds of each rank's process."""

from __future__ import annotations


class ChildProcess:
    """One started rank, as the shell holds it."""

    __slots__ = (
        "doomed",
        "end_input",
        "ends",
        "input",
        "job",
        "killed",
        "last_input_byte",
        "pid",
        "pmi",
        "pmi_answer",
        "pmi_held",
        "rank",
        "reaped",
        "slot",
        "stdin",
        "stopped",
        "terminal",
        "uid",
    )

    def __init__(
        self,
        slot: int,
        job: str,
        rank: int,
        pid: int,
        uid: int,
        stdin: int,
        outputs: list[int],
        terminal: bool,
        pmi: int = -1,
    ) -> None:
        self.slot = slot
        self.job = job
        self.rank = rank
        self.pid = pid
        self.uid = uid
        self.stdin = stdin
        self.ends = outputs
        """Our ends of stdout and stderr; -1: closed."""
        self.terminal = terminal
        self.input = b""
        self.end_input = False
        self.last_input_byte = b""
        self.pmi = pmi
        """Our end of its connection to PMI; -1: it has none."""
        self.pmi_answer = b""
        """What it is still to be told there."""
        self.pmi_held = b""
        """What it has said there that waits for its user's turn; nothing more is read meanwhile."""
        self.reaped = False
        self.stopped = False
        """As was told."""
        self.doomed = False
        """To be destroyed with all of its descendants."""
        self.killed = 0
        """How many processes that it left running were killed, though nobody had asked for that."""
