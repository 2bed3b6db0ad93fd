"""What to say when the program that was not found is a node: lists of nodes are one word, which not everybody knows."""

from __future__ import annotations

import contextlib

from heorot.cli.request import Head
from heorot.cli.table import printable, text_of
from heorot.core.errors import HeorotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER_TIMEOUT_S = 2.0
"""The command has failed already; a head that is busy or gone must not hold it up."""
MAX_WORDS = 32


def hint(directory: str, nodes: str, argv: Sequence[bytes]) -> str:
    """Return what was probably meant by a command that begins with nodes; empty if it does not.

    Parameters
    ----------
    nodes:
        The node list as given; empty for ``-a`` and ``-A``.
    """
    words = [text_of(word) for word in argv[:MAX_WORDS]]
    named: list[str] = []
    try:
        with contextlib.closing(Head(directory, ANSWER_TIMEOUT_S, patient=False)) as head:
            questions = [("resolve", word, "list") for word in words]
            for word, answer in zip(words, head.ask_all(questions, refusals=True), strict=True):
                if isinstance(answer, HeorotError):
                    break
                named.append(word)
    except HeorotError:
        pass
    if not named:
        return ""
    rest = words[len(named) :]
    command = f"{rest[0] if rest else 'COMMAND'}{' ...' if rest[1:] else ''}"
    meant = f"{','.join([nodes, *named] if nodes else named)} {command}"
    and_all = "" if nodes else " (-a and -A replace the nodes)"
    return printable(f"'{named[0]}' names a node: did you mean 'bpsh {meant}'?{and_all}")
