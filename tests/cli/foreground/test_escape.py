"""What of the keys is an escape, wherever the pieces are cut in which they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.cli.foreground.escape import HELP, LEAVE, SUSPEND, Escape, character_of


def typed(*pieces: bytes, character: bytes = b"~") -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return what is sent, and which escapes were found, each with how much was sent before it."""
    keys = Escape(character)
    sent = b""
    found = []
    for piece in pieces:
        held = keys.held
        taken = keys.take(piece)
        assert sum(len(data) for data, _ in taken) <= len(piece) + held
        for data, key in taken:
            sent += data
            if key:
                found.append((len(sent), key))
    return sent, found


@pytest.mark.parametrize(
    ("keys", "sent", "found"),
    [
        (b"ls\r", b"ls\r", []),
        (b"~.", b"", [(0, LEAVE)]),
        (b"ls\r~.", b"ls\r", [(3, LEAVE)]),
        (b"ls\n~\x1aps\r", b"ls\nps\r", [(3, SUSPEND)]),
        (b"~?~?x", b"x", [(0, HELP), (0, HELP)]),
        (b"ls ~. ~\x1a\r", b"ls ~. ~\x1a\r", []),
        (b"~~.", b"~.", []),
        (b"~~\r~.", b"~\r", [(2, LEAVE)]),
        (b"~x~.", b"~x~.", []),
        (b"~\r~.", b"~\r", [(2, LEAVE)]),
        (b"a~\r", b"a~\r", []),
    ],
)
def test_an_escape_is_one_at_the_start_of_a_line_only(keys: bytes, sent: bytes, found: list[tuple[int, bytes]]) -> None:
    assert typed(keys) == (sent, found)
    assert typed(*(bytes([key]) for key in keys)) == (sent, found)


@given(st.lists(st.binary(max_size=8).map(lambda data: data.replace(b"~", b"")), max_size=8))
def test_what_holds_no_escape_goes_through_as_it_is(pieces: list[bytes]) -> None:
    assert typed(*pieces) == (b"".join(pieces), [])


@given(st.lists(st.sampled_from([b"~", b"~~", b"~.", b"\r", b"x", b"~\x1a", b"", b"x\n~?"]), max_size=12))
def test_it_makes_no_difference_where_the_pieces_are_cut(pieces: list[bytes]) -> None:
    keys = b"".join(pieces)
    assert typed(*pieces) == typed(keys) == typed(*(bytes([key]) for key in keys))


def test_another_character_may_be_the_escape_and_then_none_else_is() -> None:
    assert typed(b"~.\r\x1d.", character=b"\x1d") == (b"~.\r", [(3, LEAVE)])
    assert typed(b"..", character=b".") == (b".", [])
    assert Escape(b"\x1d").name == "^]"
    assert "%." in Escape(b"%").help()[0]


@pytest.mark.parametrize(
    ("text", "character"), [("~", b"~"), ("%", b"%"), ("^]", b"\x1d"), ("^b", b"\x02"), ("^", b"^"), ("none", None)]
)
def test_a_character_is_named_as_people_write_it(text: str, character: bytes | None) -> None:
    assert character_of(text) == character


@pytest.mark.parametrize("text", ["", "ab", "^?", "^^^", "ä", "\n", "None"])
def test_what_is_no_character_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^.*$"):
        character_of(text)
