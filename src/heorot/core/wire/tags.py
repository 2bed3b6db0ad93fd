"""The tags of messages that are told apart without decoding them: looked up once, as they stand at the messages."""

from __future__ import annotations

from typing import get_args

from heorot.core.wire import tree as m


def _tag(kind: type[m.Message]) -> int:
    tag = kind.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


TAG_HELLO = _tag(m.Hello)
TAG_REPORT = _tag(m.Report)
TAG_ATTACH = _tag(m.Attach)
TAG_PLACE = _tag(m.Place)
TAG_TELL_HEADS = _tag(m.TellHeads)
TAG_BARRED = _tag(m.Barred)
TAG_TELL_NAMES = _tag(m.TellNames)
TAG_LAUNCH = _tag(m.Launch)
TAG_RELEASE = _tag(m.Release)
TAG_RESIZE = _tag(m.Resize)
TAG_INVENTORIZE = _tag(m.Inventorize)
TAG_QUERY = _tag(m.Query)
TAG_ADMIT = _tag(m.Admit)
TAG_LOOK = _tag(m.Look)
TAG_INVENTORY = _tag(m.Inventory)
TAG_REPLY = _tag(m.Reply)
TAG_SCATTERED = _tag(m.Scattered)

FIRST_COMMAND_TAG, LAST_COMMAND_TAG = 48, 79
"""Commands to a process space have these tags, of later releases, too."""
FIRST_ANSWER_TAG, LAST_ANSWER_TAG = 80, 111
"""And these its answers."""
KNOWN_TAGS = frozenset(
    _tag(kind)
    for kind in (*get_args(m.HeadCommand), *get_args(m.SpaceCommand), *get_args(m.SpaceAnswer), m.Look, m.SpaceView)
)
"""Of commands and answers of this release."""
BULK_TAGS = (_tag(m.Stdin), _tag(m.Output), TAG_TELL_NAMES)
"""Of input, output and lists of names, which wait for everything else on a link."""
_SHORT_BYTES = 32 * 1024


def is_bulk(tag: int, payload: bytes) -> bool:
    """Say whether a command waits for all else on a link: input, and what is put at barriers, if that is much."""
    return tag in BULK_TAGS or (tag == TAG_SCATTERED and len(payload) > _SHORT_BYTES)
