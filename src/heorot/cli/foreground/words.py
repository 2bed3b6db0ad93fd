"""What a command says about ranks on stderr: one line for each reason, with the nodes folded."""

# ruff: noqa: SIM105 - contextlib would cost a short command a millisecond

from __future__ import annotations

import os

from heorot.core.tree.nodeset import names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.core.client.end import Status
    from heorot.core.client.job import JobState

QUIET_SIGNALS = (2, 13)
"""SIGINT and SIGPIPE: a shell does not announce these deaths either."""


def node_name(node: int) -> str:
    """Return how a node is called."""
    return "master" if node < 0 else f"n{node}"


def write_line(prefix: str, text: str, end: str) -> None:
    """Write a line to stderr, of which no byte drives a terminal."""
    if not text.isprintable():
        from heorot.cli.table import printable  # a node's words may quote a command of any bytes

        text = printable(text)
    try:
        os.write(2, f"{prefix}{text}{end}".encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # nobody listens


def reason_of_end(status: Status) -> str:
    """Return what is worth saying about a rank's end before the job is over; empty: nothing."""
    if status.signal in QUIET_SIGNALS or (status.code is not None and status.error is None):
        return ""
    from heorot.client.endings import in_words

    return _without_own_path(in_words(status))


def _without_own_path(text: str) -> str:
    """Return what a node says of a command that it has not found, without our PATH, which is long and known here."""
    path = os.environb.get(b"PATH", b"").decode("utf-8", "backslashreplace")
    said = f" (PATH is {path})"
    return f"{text.removesuffix(said)} (not in PATH)" if text.endswith(said) else text


def folded(job: JobState, ranks: list[int]) -> list[str]:
    """Return one line for each reason among these ranks, in the order of their first rank."""
    groups: dict[str, list[int]] = {}
    for rank in sorted(ranks):
        text = reason_of_end(job.statuses[rank])
        if text:
            groups.setdefault(text, []).append(rank)
    lines = []
    for text, members in groups.items():
        after = ""
        if job.statuses[members[0]].lost:
            ranks_have = f"rank {members[0]} has" if len(members) == 1 else f"{len(members)} ranks have"
            after = f"; {ranks_have} no exit status"
        lines.append(f"{_who(job, members)}: {text}{after}")
    return lines


def failures(job: JobState) -> list[str]:
    """Return one line for each exit status other than 0 with which ranks of a job that is over have ended.

    None if all ranks have the same: ours says it then, as that of a local command does.
    """
    groups: dict[int, list[int]] = {}
    for rank, status in sorted(job.statuses.items()):
        if status.code and status.error is None:
            groups.setdefault(status.code, []).append(rank)
    if any(len(members) == len(job.nodes) for members in groups.values()):
        return []
    if not groups:
        return []
    from heorot.client.endings import in_words

    return [f"{_who(job, members)}: {in_words(job.statuses[members[0]])}" for _code, members in sorted(groups.items())]


def _who(job: JobState, ranks: list[int]) -> str:
    nodes = [job.nodes[rank] for rank in ranks]
    if len(ranks) == 1:
        return f"{node_name(nodes[0])} (rank {ranks[0]})"
    return names_of(nodes)
