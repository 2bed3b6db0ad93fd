"""The messages of PMI-2: six characters that say how long it is, then ``cmd=kvs-put;key=a;value=b;``.

A semicolon in a value is written twice. The format is that of MPICH's client (src/pmi: `maint/pmi-2.0.txt`,
`pmi_wire.c`), and of Slurm's `libpmi2` (contribs/pmi2).
"""

from __future__ import annotations

from heorot.core.errors import ProtocolError
from heorot.core.pmi.lines import MAX_LINE_BYTES

LENGTH_BYTES = 6
VERSION, SUBVERSION = 2, 0
TRUE, FALSE = b"TRUE", b"FALSE"

FULLINIT, FINALIZE, ABORT, JOB_ID = b"fullinit", b"finalize", b"abort", b"job-getid"
PUT, GET, FENCE = b"kvs-put", b"kvs-get", b"kvs-fence"
PUT_HERE, GET_HERE, GET_OF_JOB = b"info-putnodeattr", b"info-getnodeattr", b"info-getjobattr"


def take_message(heard: bytearray) -> bytes | None:
    """Take the first message from what was heard, without its length; None: it is not whole.

    Raises
    ------
    ProtocolError
        If it has no length, or is too long.
    """
    if len(heard) < LENGTH_BYTES:
        return None
    length = bytes(heard[:LENGTH_BYTES]).strip(b" ")
    if not length.isdigit():
        raise ProtocolError(f"a message of PMI-2 begins with its length, not with {bytes(heard[:LENGTH_BYTES])!r}")
    end = LENGTH_BYTES + int(length)
    if end > LENGTH_BYTES + MAX_LINE_BYTES:
        raise ProtocolError(f"a message of more than {MAX_LINE_BYTES} bytes")
    if len(heard) < end:
        return None
    body = bytes(heard[LENGTH_BYTES:end])
    del heard[:end]
    return body


def message_fields(body: bytes) -> dict[bytes, bytes]:
    """Return the fields of a message, of several with one name the first.

    Raises
    ------
    ProtocolError
        If it is none of PMI-2.
    """
    *pairs, rest = body.replace(b";;", b"\0").split(b";")
    if b"\0" in body or rest or not body.startswith(b"cmd="):
        raise ProtocolError(f"a message of PMI-2 is cmd=...; and more of that, not {body[:20]!r}")
    fields: dict[bytes, bytes] = {}
    for pair in pairs:
        name, mark, content = pair.partition(b"=")
        if not mark or not name or b"\0" in name:
            raise ProtocolError(f"{pair[:20]!r} in a message of PMI-2 is no field")
        fields.setdefault(name, content.replace(b"\0", b";"))
    if not fields[b"cmd"]:
        raise ProtocolError("a message of PMI-2 names no command")
    return fields


def answer_message(command: bytes, thread: bytes = b"", problem: str = "", **fields: bytes | int) -> bytes:
    """Return what answers a command: with these fields (`_` stands for `-`), or with a problem in place of them.

    `thread` is what the question has said of the thread that asks.
    """
    words: list[tuple[bytes, bytes]] = [(b"cmd", command + b"-response")]
    if thread:
        words.append((b"thrid", thread))
    words.append((b"rc", b"-1" if problem else b"0"))
    if problem:
        words.append((b"errmsg", problem.encode("ascii", "replace")))
    for name, content in fields.items() if not problem else ():
        words.append((name.replace("_", "-").encode(), b"%d" % content if isinstance(content, int) else content))
    body = b"".join(b"%b=%b;" % (name, content.replace(b";", b";;")) for name, content in words)
    return b"%6d" % len(body) + body
