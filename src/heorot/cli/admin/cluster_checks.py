"""What ``heorot doctor --cluster`` finds in a cluster that runs: asked of its head, and of each node by a job.

A node says what time it has, who its users are and how full its disks are, as any user's command would find it. So it
needs `sh`, `date`, `df` and `getent` there, and one that lacks them is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from heorot.cli.admin.check import Check
from heorot.cli.table import fold_nodes
from heorot.client.blocking import Cluster
from heorot.core.errors import HeorotError

SCRIPT = """date +%s.%N && for place in "${HEOROT_DIR:-/var/lib/heorot}" /tmp
do if [ -d "$place" ]; then df -Pk "$place" | tail -n 1; fi
done && echo users && getent passwd"""
MAX_CLOCK_ERROR_S = 1.0
"""Beyond what the question itself took. Launches are refused when clocks differ by minutes; logs mislead before."""
MIN_FREE_KIB = 256 * 1024
FIRST_UID, LAST_UID = 1000, 60_000
"""People; the numbers of a system's own users are each host's business."""
MAX_NAMED = 5


class Answer(NamedTuple):
    """What one node has said."""

    clock_s: float
    """Since 1970, between the moments at which it was asked and had answered."""
    free_kib: dict[str, int]
    """By mount point."""
    users: dict[str, int]


def examine_cluster(cluster: Cluster, users: Mapping[str, int], wall: Callable[[], float] = time.time) -> list[Check]:
    """Return all findings. `users` are those of this host, by name. Raises HeorotError if no head answers."""
    status = cluster.status()
    nodes = status["nodes"]
    up = [node["id"] for node in nodes if node["state"] == "up"]
    checks = [*_heads(status), *_nodes(nodes), _releases(nodes, status)]
    if up:
        began_s = wall()
        try:
            completed = cluster.run(["sh", "-c", SCRIPT], up, image="path")
        except HeorotError as error:
            return [*checks, Check("questions", False, f"nodes cannot be asked by a job: {error}")]
        ended_s = wall()
        answers: dict[int, Answer] = {}
        silent: list[int] = []
        for node, end, output in zip(up, completed.statuses, completed.stdout, strict=True):
            answer = parse_answer(output) if end.exit_status == 0 else None
            if answer is None:
                silent.append(node)
            else:
                answers[node] = answer
        if silent:
            where = fold_nodes(silent)
            text = f"sh, date, df or getent do not work on {where}: nothing is known of clocks, users and disks there"
            checks.append(Check("questions", False, text, required=False))
        checks += [clocks(answers, began_s, ended_s), user_numbers(answers, users), disks(answers)]
    return checks


def parse_answer(output: bytes) -> Answer | None:
    """Read what `SCRIPT` prints; None: that is something else."""
    lines = output.decode(errors="replace").splitlines()
    try:
        split = lines.index("users")
        free_kib = {}
        # A line of df(1) for each file system: device, blocks, used, free, capacity, mount point.
        for line in lines[1:split]:
            _, _, _, free, _, place = line.split(None, 5)
            free_kib[place] = int(free)
        users = {}
        for line in lines[split + 1 :]:
            name, _, uid, *_ = line.split(":")
            users[name] = int(uid)
        return Answer(float(lines[0]), free_kib, users)
    except (ValueError, IndexError):
        return None


def _heads(status: dict[str, Any]) -> list[Check]:
    heads, store = status["heads"], status.get("store", {})
    roles = ", ".join(f"{head['name']} {head['role']}" for head in heads)
    standby = any(head["role"] == "standby" for head in heads)
    text = roles if standby else f"{roles}: nobody stands by for it"
    checks = [Check("heads", standby, text, required=False)]
    if store.get("kind"):
        good = bool(store["reachable"])
        text = "answers" if good else f"does not answer as it should since {store['since_s']:.0f} s: {store['problem']}"
        checks.append(Check(f"{store['kind']} store", good, text))
    others = [node for group in status.get("head_list", {}).get("others", ()) for node in group["nodes"]]
    if others:
        text = (
            f"{fold_nodes(sorted(others))} keep another list of heads than the present one: 'heorot status' says which"
        )
        checks.append(Check("list of heads", False, text))
    return checks


def _nodes(nodes: list[dict[str, Any]]) -> list[Check]:
    checks = []
    by_state: dict[str, list[int]] = {}
    for node in nodes:
        by_state.setdefault("silent" if node["silent"] else node["state"], []).append(node["id"])
    up = by_state.pop("up", [])
    checks.append(Check("nodes", bool(up), f"{len(up)} of {len(nodes)} are up"))
    for state, numbers in sorted(by_state.items()):
        hint = "look at heorot-init and heorot-node there" if state in ("down", "silent") else "see bpstat"
        checks.append(Check(f"nodes {state}", False, f"{fold_nodes(numbers)}: {hint}", required=False))
    return checks


def _releases(nodes: list[dict[str, Any]], status: dict[str, Any]) -> Check:
    from heorot import __version__

    by_release: dict[str, list[int]] = {}
    for node in nodes:
        if node["release"]:
            by_release.setdefault(node["release"], []).append(node["id"])
    head = status.get("release") or __version__
    others = {release: numbers for release, numbers in by_release.items() if release != head}
    if not others:
        return Check("releases", True, f"all of {head}")
    text = ", ".join(f"{fold_nodes(numbers)} of {release}" for release, numbers in sorted(others.items()))
    return Check("releases", False, f"here {head}; {text}: finish the upgrade", required=False)


def clocks(answers: Mapping[int, Answer], began_s: float, ended_s: float) -> Check:
    """Compare clocks with this host's, which said the former when it asked and the latter when all had answered."""
    wrong = []
    for node, answer in answers.items():
        error_s = min(0.0, answer.clock_s - began_s) + max(0.0, answer.clock_s - ended_s)
        if abs(error_s) > MAX_CLOCK_ERROR_S:
            wrong.append(f"n{node} is {abs(error_s):.1f} s {'ahead' if error_s > 0 else 'behind'}")
    if not wrong:
        return Check("clocks", True, f"agree within {MAX_CLOCK_ERROR_S + ended_s - began_s:.1f} s")
    return Check("clocks", False, f"{_some(wrong)}: synchronise them")


def user_numbers(answers: Mapping[int, Answer], users: Mapping[str, int]) -> Check:
    """Compare the numbers of people that are known both here and there."""
    here = {name: uid for name, uid in users.items() if FIRST_UID <= uid <= LAST_UID}
    wrong: dict[str, list[int]] = {}
    for node, answer in answers.items():
        for name, uid in here.items():
            there = answer.users.get(name)
            if there is not None and there != uid:
                wrong.setdefault(f"{name} is {uid} here and {there} on", []).append(node)
    if not wrong:
        return Check("users", True, f"the {len(here)} of this host have the same numbers where they are known")
    return Check("users", False, f"{_some([f'{text} {fold_nodes(nodes)}' for text, nodes in wrong.items()])}")


def disks(answers: Mapping[int, Answer]) -> Check:
    """Look for disks that are nearly full."""
    full: dict[str, list[int]] = {}
    for node, answer in answers.items():
        for place, free_kib in answer.free_kib.items():
            if free_kib < MIN_FREE_KIB:
                full.setdefault(place, []).append(node)
    if not full:
        return Check("disks", True, f"at least {MIN_FREE_KIB >> 10} MiB are free on each")
    text = ", ".join(f"{place} on {fold_nodes(sorted(set(nodes)))}" for place, nodes in full.items())
    return Check("disks", False, f"less than {MIN_FREE_KIB >> 10} MiB free: {text}", required=False)


def _some(texts: list[str]) -> str:
    more = len(texts) - MAX_NAMED
    return ", ".join(texts[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
