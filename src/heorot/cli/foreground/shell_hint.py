"""What to say when the program that was not found is something that only a shell understands."""

from __future__ import annotations

import shlex

from heorot.cli.table import printable, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

WORDS_OF_SHELLS = frozenset((
    ".", ":", "alias", "bg", "break", "case", "cd", "command", "continue", "declare", "eval", "exec", "exit",
    "export", "fg", "for", "function", "hash", "history", "if", "jobs", "let", "local", "popd", "pushd", "read",
    "readonly", "return", "select", "set", "shift", "shopt", "source", "times", "trap", "type", "typeset", "ulimit",
    "umask", "unalias", "unset", "until", "wait", "while",
))  # fmt: skip
"""No programs: some systems have a few of them as files, too, and find these."""
_SIGNS = frozenset("|&;<>$`*?~")


def shell_hint(nodes: str, argv: Sequence[bytes]) -> str:
    """Return what was probably meant by a command that a shell would understand; empty if it would not, either.

    Parameters
    ----------
    nodes:
        As given: a node list, ``-a`` or ``-A``.
    """
    words = [text_of(word) for word in argv]
    first = words[0]
    name, equals, _ = first.partition("=")
    line = shlex.quote(" ".join(words))
    if equals and name.isidentifier() and name.isascii():
        why, meant = f"{name!r} is set by a shell, or by env(1)", f"env {shlex.join(words)}"
    elif first in WORDS_OF_SHELLS:
        why, meant = f"{first!r} is a word of the shell and no program", f"sh -c {line}"
    elif "/" in first if " " in first else _SIGNS.intersection(first):
        # A node says it of words without a slash, which cannot be the path of a file.
        why, meant = "a line for a shell needs one", f"sh -c {line}"
    else:
        return ""
    return printable(f'{why}: did you mean "bpsh {shlex.quote(nodes)} {meant}"?')
