"""Text that is safe to show: nothing in it drives a terminal, and bytes that are no text are seen. Imports nothing."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with everything that could drive a terminal written as an escape, ``\\x1b``.

    A byte that is not UTF-8, which Python keeps as a lone surrogate, is written as ``\\xff``.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else escape(character) for character in text)


def escape(character: str) -> str:
    """Return a character as an escape."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def lines(text: str) -> str:
    """Return lines of text in which each is `printable`.

    What ``repr()`` has made of a byte that is not UTF-8 (``\\udcff``) is written as the byte, too.
    """
    if "\\udc" in text:
        before, *rest = text.split("\\udc")
        text = before + "".join("\\x" + part if _is_byte(part[:2]) else "\\udc" + part for part in rest)
    return "\n".join(map(printable, text.split("\n")))


def _is_byte(digits: str) -> bool:
    return len(digits) == 2 and digits[0] in "89abcdef" and digits[1] in "0123456789abcdef"
