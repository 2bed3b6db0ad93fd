"""A command that is declared once: for parsing, ``--help``, man pages and completion."""

from __future__ import annotations

from heorot.cli.options import Option as Option
from heorot.cli.options import OptionTable
from heorot.cli.options import Parsed as Parsed
from heorot.cli.options import UsageError as UsageError
from heorot.cli.options import is_number as is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_STATUS = 2


class Command:
    """A command (or a subcommand): its name, forms, options and remarks.

    Parameters
    ----------
    name:
        As typed: ``bpps``, ``bpjob show``.
    forms:
        What may follow the name, one form a line.
    summary:
        One sentence.
    options:
        Without the common ones, which every command has unless it declares its own.
    notes:
        Printed below the options.
    completes:
        What an operand is, for completion: ``nodes``, ``jobs``, ``targets`` or empty.
    common:
        The options that every command has; `COMMON` unless it is about no cluster's directory.
    """

    __slots__ = ("completes", "forms", "name", "notes", "options", "summary")

    def __init__(
        self,
        name: str,
        forms: str,
        summary: str,
        options: Sequence[Option],
        notes: str = "",
        completes: str = "",
        common: Sequence[Option] | None = None,
    ) -> None:
        self.name = name
        self.forms = forms.split("\n")
        self.summary = summary
        declared = {option.key for option in options}
        self.options = [
            *options,
            *(option for option in (COMMON if common is None else common) if option.key not in declared),
        ]
        self.notes = notes
        self.completes = completes

    def help_text(self) -> str:
        """Return what ``--help`` prints."""
        lines = [
            ("usage: " if index == 0 else "       ") + f"{self.name} {form}" for index, form in enumerate(self.forms)
        ]
        lines += ["", self.summary, ""]
        lines += option_lines(self.options)
        if self.notes:
            lines += ["", self.notes]
        return "\n".join(lines) + "\n"


def option_lines(options: Sequence[Option], width: int = 0) -> list[str]:
    """Return what ``--help`` says of options, their names in a column of this width (0: as wide as they need)."""
    left = []
    for option in options:
        names = ", ".join(option.names)
        if option.value:
            joint = "=" if option.names[-1].startswith("--") else " "
            names += f"[{joint.strip()}{option.value}]" if option.optional else joint + option.value
        left.append(names)
    width = width or min(max(map(len, left)), 30)
    lines = []
    for names, option in zip(left, options, strict=True):
        first, *more = option.help.split("\n")
        if len(names) > width:
            lines.append(f"  {names}")
            names = ""
        lines.append(f"  {names:<{width}}  {first}")
        lines += [f"  {'':<{width}}  {line}" for line in more]
    return lines


DIRECTORY = Option("--dir", "the cluster's directory (HEOROT_DIR, /run/heorot)", "DIR")
HELP = Option("-h --help", "print this help")
VERSION = Option("-v -V --version", "print the version")
COMMON = (DIRECTORY, HELP, VERSION)
NO_DIRECTORY = (HELP, VERSION)


def parse(command: Command, arguments: Sequence[str]) -> Parsed:
    """Read a command line, in which options may stand after operands.

    Raises
    ------
    UsageError
        As of `OptionTable.take`.
    """
    parsed, table, index = Parsed(), OptionTable(command.options), 0
    while index < len(arguments):
        index = table.take(arguments, index, parsed)
        if parsed.ended:
            parsed.operands += arguments[index:]
            break
        parsed.operands += arguments[index : index + 1]
        index += 1
    return parsed
