"""``heorot``: the commands that start, stop and describe a cluster. Each is a module of its own, imported when
needed.
"""

from __future__ import annotations

import sys

COMMANDS = {
    ("up",): ("up", "start a cluster on this machine"),
    ("down",): ("down", "end it and remove all that it left"),
    ("status",): ("status", "heads, epoch, nodes, tree, daemons"),
    ("doctor",): ("doctor", "say what this machine lacks"),
    ("hosts",): ("hosts", "print names and addresses of all nodes for /etc/hosts"),
    ("events",): ("events", "print what has happened to the cluster"),
    ("node", "start"): ("node_control", "start nodes of a cluster on this machine"),
    ("node", "stop"): ("node_control", "stop nodes of a cluster on this machine"),
    ("node", "ps"): ("node_ps", "list what nodes of this host hold, without any head"),
    ("head", "start"): ("head_control", "start heads of a cluster on this machine"),
    ("head", "stop"): ("head_control", "stop heads of a cluster on this machine"),
    ("node", "join"): ("node", "make this host a node of a cluster"),
    ("head", "init"): ("head", "make this host the head of a new cluster"),
    ("head", "add"): ("head_add", "write the bundle that makes another host a head"),
    ("head", "join"): ("head_add", "make this host a further head"),
    ("head", "remove"): ("head_remove", "take a head out of the cluster"),
    ("head", "switch"): ("head", "hand over to a standby head"),
    ("head", "reload"): ("head", "have heads read their configuration again"),
    ("config", "check"): ("config", "say whether this host's configuration can be used"),
    ("backup",): ("backup", "write down what makes this head's host anew"),
    ("restore",): ("restore", "make a head's host anew from that"),
    ("node", "list"): ("node", "list the nodes that have joined"),
    ("node", "remove"): ("node", "take a node out of the cluster"),
    ("node", "drain"): ("node_states", "let nothing be started on nodes any more"),
    ("node", "resume"): ("node_states", "give nodes back"),
    ("certificate", "show"): ("certificates", "say when this host's certificates end"),
    ("certificate", "renew"): ("certificates", "renew this host's certificates"),
    ("token", "create"): ("tokens", "make a token with which hosts may join"),
    ("token", "list"): ("tokens", "list the tokens"),
    ("token", "revoke"): ("tokens", "take a token back"),
}
"""Words, module, summary. A module that serves two words is given the second one as its first argument."""
HELP = ("-h", "--help", "help")
VERSION = ("-v", "-V", "--version")


def main(arguments: list[str] | None = None) -> int:
    """Find the command's module and run it."""
    words = sys.argv[1:] if arguments is None else arguments
    for length in (2, 1):
        found = COMMANDS.get(tuple(words[:length]))
        if found is not None and len(words) >= length:
            if any(word in VERSION for word in words[length:]) and "--" not in words:
                return _show_version()
            name = f"heorot.cli.admin.{found[0]}"
            __import__(name)
            module = sys.modules[name]
            return int(module.main(words[1:]))
    if words and words[0] in VERSION:
        return _show_version()
    text = usage(words[0] if words else "")
    if (words and words[0] in HELP) or (len(words) > 1 and words[1] in HELP and (words[1],) not in COMMANDS):
        sys.stdout.write(text)
        return 0
    why = ""
    if len(words) == 1 and any(command[0] == words[0] for command in COMMANDS):
        why = f"heorot: what about the {words[0]}? One of the commands below is needed\n"
    elif words:
        why = f"heorot: there is no command {' '.join(words[:2])!r}\n"
    sys.stderr.write(why + text)
    return 2


def _show_version() -> int:
    import heorot

    sys.stdout.write(f"heorot (Heorot) {heorot.__version__}\n")
    return 0


def usage(group: str) -> str:
    """Return the list of commands, or of those that begin with `group`."""
    chosen = {words: text for words, (_, text) in COMMANDS.items() if words[0] == group} or {
        words: text for words, (_, text) in COMMANDS.items()
    }
    lines = [f"  heorot {' '.join(words):<17} {text}" for words, text in chosen.items()]
    return "usage: heorot COMMAND [OPTION]...\n\n" + "\n".join(lines) + "\n\n'heorot COMMAND --help' says more.\n"
