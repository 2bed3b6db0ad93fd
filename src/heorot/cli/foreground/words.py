"""What a command says about ranks on stderr: one line for each reason, with the nodes folded."""

from __future__ import annotations

import os

from heorot.core.tree.nodeset import NodeSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.core.client.end import Status
    from heorot.core.client.job import JobState

QUIET_SIGNALS = (2, 13)
"""SIGINT and SIGPIPE: a shell does not announce these deaths either."""


def node_name(node: int) -> str:
    """Return how a node is called."""
    return "master" if node < 0 else f"n{node}"


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9."""
    from signal import Signals  # 2 ms that only a death by signal needs

    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def reason_of_end(status: Status) -> str:
    """Return what is worth saying about a rank's end; empty: nothing."""
    if status.lost:
        return "the node was lost"
    if status.signal is not None:
        if status.signal in QUIET_SIGNALS:
            return ""
        return f"killed by {signal_name(status.signal)}" + (" (core dumped)" if status.core_dumped else "")
    if status.error is None:
        return ""
    return _without_own_path(status.text) or f"could not be started, error {status.error}"


def _without_own_path(text: str) -> str:
    """Return what a node says of a command that it has not found, without our PATH, which is long and known here."""
    path = os.environb.get(b"PATH", b"").decode("utf-8", "backslashreplace")
    said = f" (PATH is {path})"
    return f"{text.removesuffix(said)} (not in PATH)" if text.endswith(said) else text


def folded(job: JobState, ranks: list[int]) -> list[str]:
    """Return one line for each reason among these ranks, in the order of their first rank."""
    groups: dict[tuple[str, str], list[int]] = {}
    for rank in sorted(ranks):
        status = job.statuses[rank]
        text = reason_of_end(status)
        if text:
            detail = status.text if status.lost and status.text != text else ""
            groups.setdefault((text, detail), []).append(rank)
    lines = []
    for (text, detail), members in groups.items():
        after = ""
        if job.statuses[members[0]].lost:
            ranks_have = f"rank {members[0]} has" if len(members) == 1 else f"{len(members)} ranks have"
            after = f"; {ranks_have} no exit status"
        # The head's own words about a lost node, where it has any, say more than ours.
        lines.append(f"{_who(job, members)}: {text}{after}" + (f" ({detail})" if detail else ""))
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
    return [f"{_who(job, members)}: exit status {code}" for code, members in sorted(groups.items())]


def _who(job: JobState, ranks: list[int]) -> str:
    nodes = [job.nodes[rank] for rank in ranks]
    if len(ranks) == 1:
        return f"{node_name(nodes[0])} (rank {ranks[0]})"
    names = ["master"] if min(nodes) < 0 else []
    listed = str(NodeSet.of(node for node in nodes if node >= 0))
    return ",".join([*names, listed] if listed else names)
