"""Which clients have which images, and which of them is asked for one.

Anybody may offer an image whose name he knows, and then say nothing, or that it cannot be had. So whoever has launched
it is asked before others, one client at a time; the next one is asked when it refuses, or sends next to nothing for
some seconds, and then users take turns, however many clients one of them has. If none of them has sent anything after
half a minute, nobody is asked any more: the image is given up. What a client says why it cannot send an
image is for its own user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from heorot.core.errors import RequestError

MAX_OFFERS = 256
"""Of one client."""
SILENT_LOOKS = 5
"""A client that was asked, and has sent little in so many looks in a row, is left for another."""
LITTLE_BYTES = 64 * 1024
"""From one look to the next."""
MUTE_LOOKS = 30
"""An image of which no client has ever sent anything in so many looks is given up."""
_UNKNOWN = "no client that has the program could send it: launch it again on these nodes"


@dataclass(slots=True)
class Asked:
    """An image that clients are asked for."""

    client: int | None = None
    looks: int = 0
    """For how many it has sent little."""
    came_bytes: int = 0
    """Since the last look."""
    flows: bool = False
    """It has sent something since it was asked."""
    mute_looks: int | None = 0
    """For how many nobody who was asked has sent anything; None: somebody has."""
    failures: Counter[int] = field(default_factory=Counter)
    """By user: how often a client of his was left, or has refused."""
    left: Counter[int] = field(default_factory=Counter)
    """And by client."""
    refusals: dict[int, str] = field(default_factory=dict)
    """By client: why it cannot send it."""


class Offers:
    """All offers. `wanted_by` returns who waits for an image: by uid, how much he is to be preferred, 0 the most."""

    def __init__(self, wanted_by: Callable[[bytes], dict[int, int]]) -> None:
        self._wanted_by = wanted_by
        self._offers: dict[bytes, dict[int, int]] = {}
        """By image: clients that have it, and their uids."""
        self._by_client: dict[int, dict[bytes, None]] = {}
        self.asked: dict[bytes, Asked] = {}

    def add(self, client: int, uid: int, image: bytes) -> None:
        """A client has this image, for as long as it is connected. Raises RequestError: ``too-many-images``."""
        mine = self._by_client.setdefault(client, {})
        if image not in mine and len(mine) >= MAX_OFFERS:
            raise RequestError("too-many-images", f"one client may offer {MAX_OFFERS} images; use another connection")
        mine[image] = None
        self._offers.setdefault(image, {})[client] = uid
        if image in self.asked:
            self.asked[image].refusals.pop(client, None)

    def gone(self, client: int) -> None:
        """What it had to offer is gone with it."""
        for image in self._by_client.pop(client, {}):
            clients = self._offers[image]
            del clients[client]
            if not clients:
                del self._offers[image]
            asked = self.asked.get(image)
            if asked is not None:
                asked.refusals.pop(client, None)
                asked.left.pop(client, None)
                if asked.client == client:
                    asked.client = None

    def ended(self, image: bytes) -> None:
        """Nobody needs it any more: whoever failed may be asked again the next time."""
        self.asked.pop(image, None)

    def are_of_several(self, image: bytes) -> bool:
        """Whether there is more than one client that has an image."""
        return len(self._offers.get(image, ())) > 1

    def source(self, image: bytes) -> int | None:
        """Return the client that is to be asked, the same one until it refuses or is left; None: there is none."""
        if image not in self._offers:
            return None
        asked = self.asked.setdefault(image, Asked())
        if asked.client is None:
            self._choose(image, asked)
        return asked.client

    def _choose(self, image: bytes, asked: Asked) -> None:
        wanted = self._wanted_by(image)
        able = {client: uid for client, uid in self._offers[image].items() if client not in asked.refusals}
        chosen = min(
            able, key=lambda client: (*self._rank(asked, able[client], wanted), asked.left[client]), default=None
        )
        asked.client, asked.looks, asked.came_bytes, asked.flows = chosen, 0, 0, False

    @staticmethod
    def _rank(asked: Asked, uid: int, wanted: dict[int, int]) -> tuple[int, int]:
        return asked.failures[uid], wanted.get(uid, len(wanted) + 2)

    def took(self, image: bytes, client: int, size_bytes: int) -> bool:
        """So much has come; return whether it is from the client that is asked."""
        asked = self.asked.get(image)
        if asked is None or asked.client != client:
            return False
        asked.came_bytes += size_bytes
        asked.flows = True
        asked.mute_looks = None
        return True

    def is_mute(self, image: bytes) -> bool:
        """Whether a client is asked for an image of which nobody has sent anything yet."""
        asked = self.asked.get(image)
        return asked is not None and asked.mute_looks is not None

    def was_awaited(self, image: bytes) -> bool:
        """Some time has passed: return whether nothing has come of this image in all the time that it may take."""
        asked = self.asked[image]
        if asked.mute_looks is None:
            return False
        asked.mute_looks += 1
        return asked.mute_looks >= MUTE_LOOKS

    def refused(self, image: bytes, client: int, why: str) -> bool:
        """A client cannot send what it was asked for; return whether it is the one that is asked."""
        asked = self.asked.get(image)
        if asked is None or asked.client != client:
            return False
        asked.failures[self._offers[image][client]] += 1
        asked.refusals[client] = why
        asked.client = None
        return True

    def look(self, image: bytes) -> int | None:
        """Some time has passed: return the client that is asked no longer, because another one is; None: all stays."""
        asked, clients = self.asked[image], self._offers.get(image)
        if asked.client is None or clients is None:
            return None
        asked.looks = asked.looks + 1 if asked.came_bytes < LITTLE_BYTES else 0
        asked.came_bytes = 0
        if asked.looks >= SILENT_LOOKS and len(clients) > 1:
            before = asked.client
            asked.failures[clients[before]] += 1
            asked.left[before] += 1
            self._choose(image, asked)
            return before if asked.client != before else None
        return self.prefer(image)

    def prefer(self, image: bytes) -> int | None:
        """Ask a client of somebody who waits for an image rather than one of somebody who does not, if the latter has
        sent nothing; return the client that is asked no longer.
        """
        asked, clients = self.asked.get(image), self._offers.get(image)
        if asked is None or asked.client is None or asked.flows or clients is None or len(set(clients.values())) < 2:
            return None
        before, wanted = asked.client, self._wanted_by(image)
        rank = self._rank(asked, clients[before], wanted)
        if all(
            self._rank(asked, uid, wanted) >= rank for client, uid in clients.items() if client not in asked.refusals
        ):
            return None
        self._choose(image, asked)
        return before

    def refused_by(self, image: bytes) -> set[int]:
        """Return the users whose clients have refused to send an image."""
        asked = self.asked.get(image)
        return {self._offers[image][client] for client in asked.refusals} if asked is not None else set()

    def why(self, image: bytes) -> str:
        """Return why nobody can send an image, for all who wait for it; empty: nobody was asked."""
        asked = self.asked.get(image)
        if asked is None or not asked.refusals:
            return ""
        wanted = self._wanted_by(image)
        words = [text for client, text in asked.refusals.items() if wanted.keys() == {self._offers[image][client]}]
        return words[-1] if words else _UNKNOWN
