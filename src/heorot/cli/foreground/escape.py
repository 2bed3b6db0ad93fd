"""The way out of a terminal whose keys all go elsewhere: a character at the start of a line, as ssh(1) has it."""

from __future__ import annotations

LEAVE, SUSPEND, HELP = b".", b"\x1a", b"?"
DEFAULT = b"~"
_LINE_ENDS = b"\r\n"


class Escape:
    """Finds the escapes in what is typed.

    Parameters
    ----------
    character:
        One byte; it means something only at the start of a line.
    """

    def __init__(self, character: bytes) -> None:
        self._character = character
        self._at_start = True
        self.held = False
        """The character was typed, and what comes next decides what it means."""

    @property
    def name(self) -> str:
        """The character, as people write it."""
        return f"^{chr(self._character[0] | 0x40)}" if self._character < b" " else self._character.decode("latin-1")

    def take(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Return what is to be sent, in pieces, each with what is to be done after it: nothing, or one of this module's
        escapes. All of it together is one byte longer than `data` at most, if the character was held before.
        """
        if not self.held and self._character not in data:
            self._at_start = data[-1:] in (b"\r", b"\n") if data else self._at_start
            return [(data, b"")]
        pieces: list[tuple[bytes, bytes]] = []
        passed = bytearray()
        for number in data:
            key = bytes([number])
            if self.held:
                self.held = False
                if key in (LEAVE, SUSPEND, HELP) and key != self._character:
                    pieces.append((bytes(passed), key))
                    passed.clear()
                    continue
                # Twice it is the character itself; before anything else it was none.
                passed += key if key == self._character else self._character + key
            elif self._at_start and key == self._character:
                self.held = True
                continue
            else:
                passed += key
            self._at_start = number in _LINE_ENDS
        if passed:
            pieces.append((bytes(passed), b""))
        return pieces

    def help(self) -> list[str]:
        """Return what can be typed, a line each."""
        name = self.name
        return [
            f"{name}.   leave the job, which ends as by a hang-up",
            f"{name}^Z  suspend bpsh; the job runs on",
            f"{name}?   this list",
            f"{name}{name}   send one {name}",
            f"({name} counts at the start of a line only)",
        ]


def character_of(text: str) -> bytes | None:
    """Return the byte that a user calls so: itself, ``^X`` for Ctrl-X, or ``none``.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text == "none":
        return None
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        return bytes([ord(text[1].upper()) & 0x1F])
    if len(text) == 1 and text.isascii() and text not in "\r\n":
        return text.encode()
    raise ValueError(text)
