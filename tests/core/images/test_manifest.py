"""Manifests: what is accepted, and where chunks belong."""

from __future__ import annotations

import contextlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.errors import ProtocolError
from heorot.core.images import chunks
from heorot.core.images import manifest as image
from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.core.images.manifest import ChunkLayout, Entry, Manifest


def entry_of(path: bytes, content: bytes, mode: int = 0o755) -> Entry:
    step = chunks.chunk_bytes_of(len(content))
    digests = b"".join(sha256(content[at : at + step]).digest() for at in range(0, len(content), step))
    return Entry(path, FILE, mode, len(content), digests)


def test_a_manifest_survives_its_encoding() -> None:
    manifest = Manifest(
        [
            entry_of(b"/bin/prog\nname", b"x" * 200_000),
            Entry(b"/opt/data", DIRECTORY, 0o700),
            Entry(b"/opt/data/link", SYMLINK, 0o777, target=b"../nowhere"),
            entry_of(b"/opt/data/empty", b""),
        ],
        b"/bin/prog\nname",
    )
    assert image.decode_manifest(image.encode_manifest(manifest)) == manifest


@pytest.mark.parametrize(
    "entry",
    [
        Entry(b"bin/prog", FILE, 0o755),
        Entry(b"/", DIRECTORY, 0o755),
        Entry(b"", FILE, 0o755),
        Entry(b"/bin/../etc/shadow", FILE, 0o755),
        Entry(b"/bin//prog", FILE, 0o755),
        Entry(b"/bin/./prog", FILE, 0o755),
        Entry(b"/bin/pr\0og", FILE, 0o755),
        Entry(b"/proc/1/mem", FILE, 0o755),
        Entry(b"/dev/null", FILE, 0o755),
        Entry(b"/sys", DIRECTORY, 0o755),
        Entry(b"/bin/su", FILE, 0o4755),
        Entry(b"/bin/prog", FILE, 0o755, 1, b""),
        Entry(b"/bin/prog", FILE, 0o755, 0, b"x" * 32),
        Entry(b"/bin/prog", FILE, 0o755, 70_000, b"x" * 32),
        Entry(b"/bin/prog", FILE, 0o755, chunks.MAX_FILE_BYTES + 1, b"x" * 32),
        Entry(b"/bin/link", SYMLINK, 0o777),
        Entry(b"/bin/what", 3, 0o777),
    ],
)
def test_what_no_image_may_hold_is_refused(entry: Entry) -> None:
    with pytest.raises(ProtocolError):
        image.decode_manifest(image.encode_manifest(Manifest([entry])))


def test_a_path_may_come_once_and_the_program_must_be_there() -> None:
    prog = entry_of(b"/bin/prog", b"x")
    with pytest.raises(ProtocolError, match="twice"):
        image.decode_manifest(image.encode_manifest(Manifest([prog, prog])))
    with pytest.raises(ProtocolError, match="not among"):
        image.decode_manifest(image.encode_manifest(Manifest([prog], b"/bin/other")))


@pytest.mark.parametrize(
    ("above", "below"),
    [
        (Entry(b"/usr/zz", SYMLINK, 0o777, target=b"/srv/victim"), entry_of(b"/usr/zz/f", b"x")),
        (
            Entry(b"/usr/zz", SYMLINK, 0o777, target=b"/srv/victim"),
            Entry(b"/usr/zz/l", SYMLINK, 0o777, target=b"/home/u/evil"),
        ),
        (Entry(b"/usr/zz", SYMLINK, 0o777, target=b"/srv/victim"), Entry(b"/usr/zz/d/sub", DIRECTORY, 0o755)),
        (entry_of(b"/usr/zz", b"x"), entry_of(b"/usr/zz/a/b/c/d", b"x")),
    ],
)
def test_nothing_lies_below_a_link_or_a_file(above: Entry, below: Entry) -> None:
    for entries in ([above, below], [below, above]):
        with pytest.raises(ProtocolError, match="which is no directory"):
            image.decode_manifest(image.encode_manifest(Manifest(entries)))
    beside = [above, Entry(above.path + b"z", DIRECTORY, 0o755), entry_of(above.path + b"z/f", b"x")]
    image.decode_manifest(image.encode_manifest(Manifest(beside)))


def test_a_manifest_has_a_bound() -> None:
    entries = [Entry(b"/data/%0100d" % number, DIRECTORY, 0o755) for number in range(60_000)]
    with pytest.raises(ProtocolError, match="fewer files"):
        image.encode_manifest(Manifest(entries))
    with pytest.raises(ProtocolError, match="at most"):
        image.decode_manifest(bytes(image.MAX_MANIFEST_BYTES + 1))


@given(st.binary(max_size=200))
def test_anything_else_is_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        image.decode_manifest(data)


def test_the_largest_file_fits_into_chunks_that_fit_into_frames() -> None:
    assert chunks.chunk_bytes_of(chunks.MAX_FILE_BYTES) == chunks.MAX_CHUNK_BYTES
    assert chunks.chunk_bytes_of(1) == chunks.CHUNK_BYTES


@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=6))
def test_chunks_cover_every_file_once_and_in_order(sizes: list[int]) -> None:
    contents = [bytes([number]) * size for number, size in enumerate(sizes)]
    layout = ChunkLayout(Manifest([entry_of(b"/f%d" % number, content) for number, content in enumerate(contents)]))
    rebuilt = dict.fromkeys(range(len(layout.files)), b"")
    for chunk in range(layout.chunks):
        file, offset, length = layout.place(chunk)
        first, count = layout.chunks_of(file)
        assert first <= chunk < first + count
        assert offset == len(rebuilt[file])
        data = contents[layout.files[file]][offset : offset + length]
        assert layout.digest(chunk) == sha256(data).digest()
        rebuilt[file] += data
    assert [rebuilt[file] for file in range(len(layout.files))] == [content for content in contents if content]
    assert layout.size == sum(sizes)


def test_equal_contents_have_one_name_and_others_another() -> None:
    layout = ChunkLayout(Manifest([entry_of(b"/a", b"same"), entry_of(b"/b", b"same"), entry_of(b"/c", b"else")]))
    assert layout.id_of(0) == layout.id_of(1) != layout.id_of(2)


@given(st.integers(0, 1 << 200))
def test_ranges_say_the_same_as_the_mask(mask: int) -> None:
    assert image.mask_of(image.ranges_of(mask), 201) == mask


@pytest.mark.parametrize("ranges", [[0], [0, 0], [-1, 2], [5, 6], [0, -1]])
def test_ranges_outside_of_the_image_are_refused(ranges: list[int]) -> None:
    with pytest.raises(ProtocolError):
        image.mask_of(ranges, 10)
