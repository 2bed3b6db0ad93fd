"""Images for tests."""

from __future__ import annotations

from hashlib import sha256

from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK, chunk_bytes_of
from heorot.core.images.manifest import ChunkLayout, Entry, Manifest, encode_manifest, image_id


class Sample:
    """An image made of these files; a mode may be given beside the content.

    Its program is the first of them, if none is named. One whose files are below ``/copy`` has none: it is a copy.
    """

    def __init__(self, files: dict[bytes, bytes | tuple[bytes, int]], program: bytes | None = None) -> None:
        self.contents: list[bytes] = []
        entries = []
        for path, value in files.items():
            content, mode = value if isinstance(value, tuple) else (value, 0o644)
            step = chunk_bytes_of(len(content))
            digests = b"".join(sha256(content[at : at + step]).digest() for at in range(0, len(content), step))
            entries.append(Entry(path, FILE, mode, len(content), digests))
            self.contents.append(content)
        if program is None:
            program = b"" if entries[0].path.startswith(b"/copy/") else entries[0].path
        self.manifest = Manifest(entries, program)
        self.encoded = encode_manifest(self.manifest)
        self.layout = ChunkLayout(self.manifest)
        self.image = image_id(self.encoded)

    def with_others(self, directories: list[bytes], links: dict[bytes, bytes]) -> Sample:
        """Add directories and symbolic links."""
        others = [Entry(path, DIRECTORY, 0o755) for path in directories]
        others += [Entry(path, SYMLINK, 0o777, target=target) for path, target in links.items()]
        self.manifest = Manifest([*self.manifest.entries, *others], self.manifest.program)
        self.encoded = encode_manifest(self.manifest)
        self.layout = ChunkLayout(self.manifest)
        self.image = image_id(self.encoded)
        return self

    def chunk(self, number: int) -> bytes:
        """Return the bytes of a chunk."""
        file, offset, length = self.layout.place(number)
        return self.contents[self.layout.files[file]][offset : offset + length]
