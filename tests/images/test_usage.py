"""How often the caches of a cluster are looked through, however often somebody asks what they take."""

from __future__ import annotations

from pathlib import Path

import pytest

from heorot.images import usage
from heorot.images.usage import KEPT_S, SHARE, Usage


class Caches:
    """A clock, and caches whose look takes a while."""

    def __init__(self, look_s: float) -> None:
        self.now_s = 0.0
        self.looks = 0
        self._look_s = look_s

    def time(self) -> float:
        """Return the time, seconds."""
        return self.now_s

    def look(self, root: str, limit_bytes: int) -> dict[str, int]:
        """Look through them."""
        self.looks += 1
        self.now_s += self._look_s
        return {"used_bytes": self.looks}


@pytest.mark.parametrize(("look_s", "kept_s"), [(0.0, KEPT_S), (0.5, SHARE * 0.5)])
def test_who_asks_again_is_told_what_was_counted(monkeypatch: pytest.MonkeyPatch, look_s: float, kept_s: float) -> None:
    caches = Caches(look_s)
    monkeypatch.setattr(usage, "usage_of", caches.look)
    told = Usage("/nowhere", 1, caches.time)
    for _ in range(1_000):
        assert told.read() == {"used_bytes": 1}
    caches.now_s += kept_s
    assert told.read() == {"used_bytes": 2}


def test_nothing_takes_nothing(tmp_path: Path) -> None:
    assert Usage(str(tmp_path), 1 << 20, lambda: 0.0).read()["used_bytes"] == 0
