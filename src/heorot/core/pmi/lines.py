"""The lines of PMI-1: ``cmd=put kvsname=a key=b value=c``, one for each question and each answer.

The format is that of MPICH's client (src/pmi: `pmi_wire.c` and `maint/pmi-1.2.txt`), which others speak as well; Flux's
RFC 13 describes it. Fields are in any order; one that is called ``value`` may hold spaces, and ends with its line.
"""

from __future__ import annotations

from heorot.core.errors import ProtocolError

MAX_LINE_BYTES = 64 * 1024
MAX_NAME_BYTES = 256
"""This and the next two are what MPICH's own process manager allows: its clients count on no more, nor on less."""
MAX_KEY_BYTES = 64
MAX_VALUE_BYTES = 1024
VERSION, SUBVERSION = 1, 2
"""1.2 is 1.1 with barriers of groups, by name; newer clients take the barrier of all for one of these."""

INIT, FINALIZE, ABORT = b"init", b"finalize", b"abort"
GET_MAXES, GET_APPNUM, GET_NAME, GET_UNIVERSE = b"get_maxes", b"get_appnum", b"get_my_kvsname", b"get_universe_size"
PUT, GET, BARRIER = b"put", b"get", b"barrier_in"
QUESTION = b"cmd=get"
"""So begin the lines that only ask."""
REFUSED = {
    b"publish_name": b"publish_result",
    b"unpublish_name": b"unpublish_result",
    b"lookup_name": b"lookup_result",
    b"getbyidx": b"getbyidx_results",
    b"create_kvs": b"newkvs",
    b"destroy_kvs": b"kvs_destroyed",
    b"initack": b"initack",
    b"singinit": b"singinit_info",
}
"""What is not served, and what the answer to it is called."""
SPAWN = b"mcmd=spawn"
"""The first of several lines, of which ``endcmd`` is the last."""
SPAWN_RESULT = b"spawn_result"


def fields_of(line: bytes) -> dict[bytes, bytes]:
    """Return the fields of a line, without the newline at its end.

    Raises
    ------
    ProtocolError
        If it is none of PMI-1.
    """
    if not line.startswith(b"cmd="):
        raise ProtocolError(f"a line of PMI-1 begins with cmd=, not with {line[:20]!r}")
    short, mark, value = line.partition(b" value=")
    fields: dict[bytes, bytes] = {}
    for word in short.split():
        name, _, content = word.partition(b"=")
        fields[name] = content
    if mark:
        fields[b"value"] = value
    if not fields[b"cmd"]:
        raise ProtocolError("a line of PMI-1 names no command")
    return fields


def answer_line(name: bytes, problem: str = "", **fields: bytes | int) -> bytes:
    """Return a line that answers: with these fields, or with a problem in place of them."""
    words = [b"cmd=" + name, b"rc=%d" % (-1 if problem else 0)]
    if problem:
        words.append(b"msg=" + problem.replace(" ", "_").encode("ascii", "replace"))
    for field, content in fields.items():
        words.append(field.encode() + b"=" + (b"%d" % content if isinstance(content, int) else content))
    return b" ".join(words) + b"\n"


def number_of(fields: dict[bytes, bytes], name: bytes, default: int) -> int:
    """Return the number in a field, or the default if it is left out or is none."""
    text = fields.get(name, b"")
    digits = text[1:] if text.startswith(b"-") else text
    return int(text) if digits.isdigit() and len(digits) < 10 else default
