"""Taking files of an image from the store that caches of a host share, step by step: a large one must not hold up a
daemon.

A file is ours when it has a name in our cache, and every chunk of it was found right, by us: what another cache has put
there is believed as little as what comes over a link. What of it we have looked at already is not looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from heorot.core.images.chunks import chunk_bytes_of
from heorot.core.images.manifest import ChunkLayout, Entry
from heorot.images.content import Content, whole_mask
from heorot.images.room import CacheRoom

STEP_BYTES = 1024 * 1024
FILE_BYTES = 64 * 1024
"""To take a file costs as much as to look at so many bytes."""


class SharedTake:
    """One taking. No file is open between two steps.

    Parameters
    ----------
    here
        Returns what is here of each file that transfers use: a mask of its chunks.
    names
        Of the files of `layout`, as `heorot.images.content.content_names`.
    chunks
        Which are to be taken, as a mask.
    """

    def __init__(
        self,
        content: Content,
        room: CacheRoom,
        here: Callable[[], dict[str, int]],
        layout: ChunkLayout,
        names: list[str],
        chunks: int,
    ) -> None:
        self._content = content
        self._room = room
        self._here = here
        self._layout = layout
        self._names = names
        self._chunks = chunks
        self._steps = self._run()
        self.found = 0
        """A mask of those that are here now."""

    def advance(self, limit_bytes: int) -> bool:
        """Look at about so much more; return whether that was all.

        Raises
        ------
        ImageError
            If there is no room for it.
        """
        looked_bytes = 0
        for size in self._steps:
            looked_bytes += size
            if looked_bytes >= limit_bytes:
                return False
        return True

    def _run(self) -> Iterator[int]:
        """Take file by file; yield how many bytes each step has cost."""
        for file, name in enumerate(self._names):
            first, count = self._layout.chunks_of(file)
            whole = (1 << count) - 1
            if self._chunks >> first & whole:
                yield from self._take(name, self._layout.manifest.entries[self._layout.files[file]])
                if self._here().get(name) == whole:
                    self.found |= self._chunks & whole << first
                yield FILE_BYTES
        self._content.count()

    def _take(self, name: str, entry: Entry) -> Iterator[int]:
        here, whole = self._here().get(name), whole_mask(entry)
        if here is None or here == whole:
            return  # nobody needs it any more, or it has come meanwhile
        step = chunk_bytes_of(entry.size)
        lacking_bytes = max(0, entry.size - here.bit_count() * step)
        self._room.make(lacking_bytes)
        try:
            if not self._content.borrow(name, entry):
                return
            right = here if self._content.is_part_of_borrowed(name) else 0
            begin = (~right & right + 1).bit_length() - 1
            while begin * step < entry.size:
                chunks = max(1, STEP_BYTES // step)
                expected = ((1 << chunks) - 1) << begin & whole
                if self._content.right_in_borrowed(name, entry, begin, chunks * step) != expected:
                    return
                begin += chunks
                yield chunks * step
            if name in self._here() and self._content.keep_borrowed(name, entry):
                self._here()[name] = whole
                self._content.used_bytes += lacking_bytes
        except OSError:
            return  # then it comes over a link, and what is wrong with the disk is said there
        finally:
            self._content.give_back(name)
