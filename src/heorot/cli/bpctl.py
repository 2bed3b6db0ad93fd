"""bpctl: set what nodes are, and who may use them."""

from __future__ import annotations

import sys

from heorot.cli import request, table
from heorot.cli.arguments import Command, Option, Parsed, UsageError, parse
from heorot.core.errors import HeorotError, RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Fields = dict[str, Any]

COMMAND = Command(
    "bpctl",
    "[OPTION]... -S NODES ACTION...",
    "Set states of nodes, and who may use them. The actions are carried out in the order given, each on all NODES.",
    [
        Option("-S --nodes", "the nodes: a node list such as n[0-63] or all!down", "NODES"),
        Option("-M --master", "the node of the host whose head leads, as with -S master"),
        Option("-s --state", "up, drain, error, unavailable, or a word of your own (root)", "STATE"),
        Option("-m --mode", "who may start processes: x bits for user, group, others, as 111", "OCTAL"),
        Option("-u --user", "give the nodes to this user (root)", "USER"),
        Option("-g --group", "give the nodes to this group", "GROUP"),
        Option("-R --reboot", "reboot them (root)"),
        Option("-H --halt", "halt them (root)"),
        Option("-P --power-off", "power them off (root)"),
        Option("-r --chroot", "not possible: see --image of bpsh", "DIR"),
        Option("--reconnect", "not possible: see 'heorot head switch'", "HEAD"),
        Option("--reason", "why, for people: of each state that is set", "TEXT"),
        Option("--json", "print a JSON list, an object for each action"),
    ],
    "Exit status: 0; 1 an action failed; 125 no cluster; 2 usage.",
    completes="nodes",
)
ACTIONS = ("state", "mode", "user", "group", "reboot", "halt", "power-off", "chroot", "reconnect")
POWER = {"reboot": "reboot", "halt": "halt", "power-off": "pwroff"}
"""The states that go with these actions."""
UNCHANGED: Fields = {"state": "", "reason": "", "mode": -1, "uid": -1, "gid": -1}
"""In the order of the message."""
NO_SUCH_THING = {
    "chroot": "nodes have no root directory that could be changed: what processes see there is what the node has, and"
    " what bpsh sends (--image, --with)",
    "reconnect": "all nodes are at the head that leads, and find it themselves: 'heorot head switch NAME' makes"
    " another one lead",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return request.run_command("bpctl", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return request.show_help(COMMAND, parsed)
    if parsed.operands:
        raise UsageError(f"'{parsed.operands[0]}': nodes are given with -S")
    if parsed.has("master") and parsed.has("nodes"):
        raise UsageError("-M and -S exclude each other: name both nodes with -S, as in master,n0")
    if not parsed.has("master") and not parsed.has("nodes"):
        raise UsageError("-S NODES is missing")
    actions = [(key, value) for key, value in parsed.given if key in ACTIONS]
    if not actions:
        raise UsageError("no action: give -s, -m, -u, -g, -R, -H or -P")
    if parsed.has("master"):
        parsed.values["nodes"] = "master"
    wanted = [(key, _fields(key, value, parsed.get("reason"))) for key, value in actions]
    return _carry_out(parsed, wanted)


def _fields(key: str, value: str, reason: str) -> Fields:
    """Return what an action sets. Raises UsageError or HeorotError."""
    if key == "state":
        if not value:
            raise UsageError("-s: a state is missing")
        return {"state": value, "reason": reason}
    if key in POWER:
        return {"how": POWER[key], "reason": reason}
    if key == "mode":
        digits = value.isascii() and value.isdigit() and len(value) <= 6 and not set(value) & {"8", "9"}
        if not digits:
            raise UsageError(f"option -m needs an octal number such as 111, not '{value}'")
        return {"mode": int(value, 8)}
    if key == "user":
        return {"uid": _number(value, "user")}
    if key == "group":
        return {"gid": _number(value, "group")}
    return {}


def _number(name: str, what: str) -> int:
    from heorot.client.node_control import number_of_group, number_of_user

    return number_of_user(name) if what == "user" else number_of_group(name)


def _carry_out(parsed: Parsed, actions: list[tuple[str, Fields]]) -> int:
    head = request.Head(parsed.get("dir"))
    done: list[dict[str, Any]] = []
    for key, fields in actions:
        outcome: dict[str, Any] = {"action": key}
        try:
            outcome |= _act(head, parsed, key, fields)
        except HeorotError as error:
            outcome["error"] = str(error)
            print(f"bpctl: {error}", file=sys.stderr)
        done.append(outcome)
    if parsed.has("json"):
        import json

        print(json.dumps(done))
    return 1 if any(one.get("error") or one.get("late") for one in done) else 0


def _act(head: request.Head, parsed: Parsed, key: str, fields: Fields) -> dict[str, Any]:
    """Carry out an action; return what came of it. Raises HeorotError."""
    if key in NO_SUCH_THING:
        raise RequestError("bad-request", NO_SUCH_THING[key])
    if key in POWER:
        return _end(parsed, fields)
    values = {**UNCHANGED, **fields}
    answer: dict[str, Any] = head.ask("set-nodes", parsed.get("nodes"), *values.values())
    answer.pop("command", None)
    if answer["late"]:
        print(
            f"bpctl: on {table.fold_nodes(answer['late'])} something may be started yet that was launched before",
            file=sys.stderr,
        )
    return answer


def _end(parsed: Parsed, fields: Fields) -> dict[str, Any]:
    """Have the nodes run the site's command. Raises HeorotError."""
    from heorot.client.blocking import connect

    with connect(parsed.get("dir") or None) as cluster:
        return cluster.end_nodes(parsed.get("nodes"), **fields)


if __name__ == "__main__":
    from heorot.start import run

    run("bpctl")
