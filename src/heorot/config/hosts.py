"""The text of a hosts file (hosts(5)) in which Heorot keeps a part of its own, between two marks.

A line of that part is a node's address, the name that its host has besides, if it has one, and ``n7``. What a file says
outside of the marks stays, and counts first: a name that it defines is left out of the part.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

HOSTS_PATH = "/etc/hosts"
BEGIN = "# Heorot begins: the nodes of its cluster. What is changed between these lines is lost."
END = "# Heorot ends."
MAX_OWN_BYTES = 1 << 20
"""Of a larger file only the beginning is taken over, up to a whole line."""
LOCAL = "127.0.0.1 localhost\n::1 localhost\n"
"""What a host says that has no such file."""
MASTER = "master"


def own_text(path: str = HOSTS_PATH) -> str:
    """Return what a hosts file says without us. One that is not there, or cannot be read, says what `LOCAL` is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            data = file.read(MAX_OWN_BYTES + 1)
    except OSError:
        return LOCAL
    if len(data) > MAX_OWN_BYTES:
        data = data[: data.rfind(b"\n", 0, MAX_OWN_BYTES) + 1]
    return without_part(data.decode("utf-8", "surrogateescape"))


def without_part(text: str) -> str:
    """Return a hosts file without the part between the marks; every line ends."""
    kept: list[str] = []
    inside = False
    for line in text.removesuffix("\n").split("\n"):
        if line == BEGIN:
            inside = True
        elif not inside:
            kept.append(line)
        elif line == END:
            inside = False
    return "".join(f"{line}\n" for line in kept) if text else ""


def defined_names(text: str) -> set[str]:
    """Return the names that a hosts file defines, in lower case."""
    return {name.lower() for line in text.split("\n") for name in line.partition("#")[0].split()[1:]}


def line_of(address: str, names: Iterable[str], taken: set[str]) -> str:
    """Return the line of a host, without its end; of its names those that are not taken. Empty: none is left."""
    left = [name for name in names if name.lower() not in taken]
    return " ".join([address, *left]) if left else ""


def with_part(own: str, hosts: Iterable[tuple[str, list[str]]]) -> str:
    """Return a hosts file that says what `own` does, and then, between the marks, addresses and names of `hosts`."""
    taken = defined_names(own)
    lines = [line_of(address, names, taken) for address, names in hosts]
    return "".join([own, *(f"{line}\n" for line in (BEGIN, *filter(None, lines), END))])


def loopback_address(node: int) -> str:
    """Return the address of a node of an embedded cluster: all of 127.0.0.0/8 is this machine, so each has its own."""
    return f"127.1.{node >> 8}.{node & 255}"
