"""``heorot hosts``: the names and addresses of all nodes, as lines of a hosts file (hosts(5))."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.cli.request import Head, run_command, show_help
from heorot.config.hosts import HOSTS_PATH, LOCAL, MASTER, with_part, without_part
from heorot.core.errors import HeorotError

COMMAND = Command(
    "heorot hosts",
    "[OPTION]...",
    "Print address and names of each node, as lines of /etc/hosts. On nodes they are in that file already, unless\n"
    "node.toml says otherwise; on a head's host --install puts them there, and again whenever it is called.",
    [
        Option("-d --dir", "the cluster's directory (default: HEOROT_DIR, or /run/heorot)", "DIR"),
        Option("--install", f"write them into {HOSTS_PATH}, between two marks, in the place of those of before"),
        Option("--file", f"the file in the place of {HOSTS_PATH}", "PATH"),
        Option("--json", "print a list of objects: node, address, names"),
    ],
    "A name that the file defines elsewhere is left out; all that is not between the marks stays as it is.",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return run_command("heorot hosts", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return show_help(COMMAND, parsed)
    if parsed.operands:
        raise UsageError(f"unexpected operand {parsed.operands[0]!r}")
    if parsed.has("file") and not parsed.has("install"):
        raise UsageError("--file is for --install")
    if parsed.has("json") and parsed.has("install"):
        raise UsageError("--json and --install exclude each other")
    with closing(Head(parsed.get("dir") or None)) as head:
        hosts = known_hosts(head.ask("status"))
    if parsed.has("json"):
        import json

        rows = [{"node": node, "address": address, "names": names} for node, address, names in hosts]
        sys.stdout.write(json.dumps(rows) + "\n")
    elif parsed.has("install"):
        install(Path(parsed.get("file") or HOSTS_PATH), [(address, names) for _, address, names in hosts])
    else:
        sys.stdout.write("".join(f"{address} {' '.join(names)}\n" for _, address, names in hosts))
    return 0


def known_hosts(status: dict[str, Any]) -> list[tuple[int, str, list[str]]]:
    """Return number, address and names of the active head (-1) and of the nodes whose addresses are known."""
    hosts: list[tuple[int, str, list[str]]] = []
    active = [str(head.get("address", "")) for head in status["heads"] if head["role"] == "active"]
    for address in filter(None, map(_numeric, active)):
        hosts.append((-1, address, [MASTER]))
    # What stands before a domain is a name, too, of the first that has it, unless it is the whole name of another.
    taken = {str(node.get("host_name", "")) for node in status["nodes"]}
    for node in status["nodes"]:
        address, name = _numeric(str(node["address"])), str(node.get("host_name", ""))
        short = name.partition(".")[0]
        names = [name, *([short] if short not in taken else []), str(node["name"])]
        taken.add(short)
        if address:
            hosts.append((int(node["id"]), address, list(dict.fromkeys(filter(None, names)))))
    return hosts


def _numeric(address: str) -> str:
    """Return the host of ``HOST:PORT``; empty if it is none that stands in a hosts file."""
    import ipaddress

    host = address.rpartition(":")[0].strip("[]")
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return ""
    return "" if found.is_unspecified or found.is_multicast or "%" in host else str(found)


def install(path: Path, hosts: list[tuple[str, list[str]]]) -> None:
    """Put these hosts into a hosts file, which is replaced as a whole; owner and mode stay.

    Raises
    ------
    HeorotError
        If somebody else could change the file, or exchange it; or if it is a link.
    OSError
        If it cannot be written.
    """
    from heorot.linux.trusted_path import check_directory
    from heorot.security.files import write_atomically

    check_directory(path.parent)
    if path.is_symlink():
        raise HeorotError(f"{path} is a link: name the file that it leads to with --file")
    try:
        status, before = path.stat(), path.read_bytes()
    except FileNotFoundError:
        status, before = None, LOCAL.encode()
    own = without_part(before.decode("utf-8", "surrogateescape"))
    text = with_part(own, hosts).encode("utf-8", "surrogateescape")
    if status is not None and before == text:
        return
    write_atomically(path, text, mode=0o644 if status is None else status.st_mode & 0o777, durable=True)
    if status is not None:
        os.chown(path, status.st_uid, status.st_gid)
