"""The list of heads that an agent keeps on its disk, for commands on that host; see `heorot.core.node.known_heads`."""

from __future__ import annotations

from pathlib import Path

from heorot.config.files import Address
from heorot.core.errors import HeorotError
from heorot.core.node.known_heads import NAME
from heorot.core.tickets import open_heads
from heorot.core.wire.tree import decode_tell_heads
from heorot.linux.slot_file import SlotFile
from heorot.security.signing import Verifier


def kept_heads(directory: Path, cluster: str) -> list[Address]:
    """Return where the heads are that the node whose directory this is was told of; none if that cannot be read, or is
    not signed by the cluster.
    """
    try:
        value = SlotFile(directory / "state" / NAME).read()
        if not value:
            return []
        verify = Verifier.load(directory / "signing.pub").verify
        listing = open_heads(verify, decode_tell_heads(value), cluster=cluster)
    except (OSError, HeorotError):
        return []
    return [Address(head.host, head.port) for head in listing.heads]
