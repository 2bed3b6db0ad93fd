"""The states of an image on one hop: what of it is in the cache."""

from __future__ import annotations

from enum import StrEnum, auto

from heorot.core.states import StateTable


class ImageState(StrEnum):
    """What is known of an image here, and how much of it there is."""

    EXAMINING = auto()
    """The cache is asked what it has."""
    UNLISTED = auto()
    """The cache does not have its manifest: a source is asked for that as soon as there is one."""
    LISTING = auto()
    """The manifest has come, and goes into the cache, which says then what else is there."""
    PARTIAL = auto()
    """The manifest is here, and chunks lack."""
    WHOLE = auto()


class ImageChange(StrEnum):
    """What becomes of an image here. The cache looks when it is asked to, or has been given the manifest; its answer to
    an earlier question, of an image that was given up meanwhile, may come at any time."""

    NOTHING_FOUND = auto()
    """By the cache: not even the manifest."""
    SOME_FOUND = auto()
    ALL_FOUND = auto()
    MANIFEST_CAME = auto()
    COMPLETED = auto()
    """The last chunk that lacked has come."""
    SPOILT = auto()
    """The cache does not have what it was thought to have."""


_S, _C = ImageState, ImageChange

IMAGE = StateTable(
    "an image on its way",
    _S.EXAMINING,
    {
        (_S.EXAMINING, _C.NOTHING_FOUND): _S.UNLISTED,
        (_S.EXAMINING, _C.SOME_FOUND): _S.PARTIAL,
        (_S.EXAMINING, _C.ALL_FOUND): _S.WHOLE,
        (_S.UNLISTED, _C.MANIFEST_CAME): _S.LISTING,
        (_S.UNLISTED, _C.NOTHING_FOUND): _S.UNLISTED,
        (_S.UNLISTED, _C.SOME_FOUND): _S.PARTIAL,
        (_S.UNLISTED, _C.ALL_FOUND): _S.WHOLE,
        (_S.LISTING, _C.NOTHING_FOUND): _S.UNLISTED,
        (_S.LISTING, _C.SOME_FOUND): _S.PARTIAL,
        (_S.LISTING, _C.ALL_FOUND): _S.WHOLE,
        (_S.PARTIAL, _C.COMPLETED): _S.WHOLE,
        (_S.PARTIAL, _C.SPOILT): _S.PARTIAL,
        (_S.PARTIAL, _C.SOME_FOUND): _S.PARTIAL,
        (_S.PARTIAL, _C.ALL_FOUND): _S.WHOLE,
        (_S.PARTIAL, _C.NOTHING_FOUND): _S.PARTIAL,
        (_S.WHOLE, _C.SPOILT): _S.PARTIAL,
        (_S.WHOLE, _C.ALL_FOUND): _S.WHOLE,
        (_S.WHOLE, _C.NOTHING_FOUND): _S.WHOLE,
    },
)
