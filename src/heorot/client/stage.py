"""A program that is sent ahead: its image comes into the caches of nodes, and nothing is started there.

It is a launch of a command that bpinit carries out itself, and does nothing: it is over on a node when all of the image
is in its cache. What happens to a launch when a link, a node or the head is lost, happens to this one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.images.offer import Offer

STAGE = b"heorot:stage"
"""That of `heorot.bpinit.own_commands`, which a short command does not load."""


def stage_argv(offer: Offer) -> list[bytes]:
    """Let this offer be one that is only sent, to every node, and return the command."""
    argv = [STAGE, offer.program]
    # A node of an older release looks for a program of this name, and finds none.
    offer.program, offer.program_id = b"/" + STAGE, b""
    return argv
