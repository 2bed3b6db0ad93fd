"""One line for each message, short enough to read a thousand of them."""

from __future__ import annotations

from heorot.core.errors import ProtocolError
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m

_LONGEST_LINE = 200


def describe_message(message: object) -> str:
    """Return a message in short form."""
    if isinstance(message, m.Down):
        return f"Down(e{message.epoch} {NodeSet.from_ranges(message.nodes)} {_inner(message.payload)})"
    if isinstance(message, m.Up):
        return f"Up(n{message.node} {_inner(message.payload)})"
    if isinstance(message, (m.Output, c.ClientOutput)):
        return f"Output({message.job} r{message.rank}/{message.stream} @{message.offset} +{len(message.data)})"
    if isinstance(message, (m.Stdin, c.ClientStdin)):
        to = message.ranks if isinstance(message, m.Stdin) else message.rank
        return f"Stdin({message.job} {to} @{message.offset} +{len(message.data)}{' end' if message.end else ''})"
    if isinstance(message, m.Launch):
        return f"Launch({message.job})"
    if isinstance(message, m.Attach):
        placed = _placement(message.placement) if message.placement else "no placement"
        return f"Attach(n{message.node} inc {message.incarnation} under {message.parent}, {placed})"
    if isinstance(message, m.Place):
        return f"Place({_placement(message.placement)})"
    if isinstance(message, m.Detached):
        return f"Detached({NodeSet.from_ranges(message.nodes)})"
    if isinstance(message, m.LaunchCopy):
        return f"LaunchCopy({message.job}{'' if message.ticket else ', not here'})"
    if isinstance(message, c.Spawn):
        return f"Spawn({message.nodes or message.select} {message.spec.argv} detached={message.detached})"
    text = repr(message)
    return text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 3] + "..."


def _inner(payload: bytes | memoryview) -> str:
    for decode in (m.decode_head_command, m.decode_node_payload):
        try:
            return describe_message(decode(bytes(payload)))
        except ProtocolError:
            continue
    return repr(payload)


def _placement(sealed: bytes) -> str:
    placement = m.decode_placement(m.decode_signed_placement(sealed).placement)
    path = "/".join(str(hop.node) for hop in placement.path) or "head"
    return f"placed under {path} e{placement.epoch} #{placement.serial}"
