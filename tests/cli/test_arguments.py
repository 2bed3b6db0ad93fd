"""The parser of options, as commands with operands use it."""

from __future__ import annotations

import pytest

from heorot.cli.arguments import Command, Option, UsageError, parse

COMMAND = Command(
    "tool",
    "[OPTION]... WORD",
    "A tool.",
    [
        Option("-a --all", "everything"),
        Option("-n --nodes", "which", "LIST"),
        Option("-w --watch", "again", "SECONDS", optional=True),
        Option("--no-header", "without"),
    ],
)


@pytest.mark.parametrize(
    ("line", "values", "operands"),
    [
        ("", {}, []),
        ("-a x", {"all": ""}, ["x"]),
        ("x -a y", {"all": ""}, ["x", "y"]),
        ("-n 1-3 -a", {"nodes": "1-3", "all": ""}, []),
        ("-n1-3", {"nodes": "1-3"}, []),
        ("-an1-3", {"nodes": "1-3", "all": ""}, []),
        ("--nodes=1-3", {"nodes": "1-3"}, []),
        ("--nodes 1-3", {"nodes": "1-3"}, []),
        ("--nodes=", {"nodes": ""}, []),
        ("--no-h", {"no-header": ""}, []),
        ("-a -- -n x", {"all": ""}, ["-n", "x"]),
        ("- x", {}, ["-", "x"]),
        ("-w", {"watch": ""}, []),
        ("-w 2", {"watch": "2"}, []),
        ("-w0.5", {"watch": "0.5"}, []),
        ("-w x", {"watch": ""}, ["x"]),
        ("--watch=3 x", {"watch": "3"}, ["x"]),
        ("--watch -a", {"watch": "", "all": ""}, []),
        ("-n 1 -n 2", {"nodes": "2"}, []),
    ],
)
def test_a_command_line_is_read(line: str, values: dict[str, str], operands: list[str]) -> None:
    parsed = parse(COMMAND, line.split())
    assert parsed.values == values
    assert parsed.operands == operands


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-z", "unknown option -z"),
        ("-az", "unknown option -z in -az"),
        ("--zebra", "unknown option --zebra"),
        ("--no", "ambiguous: --no-header, --nodes"),
        ("-n", "option -n needs a value: LIST"),
        ("--nodes", "needs a value"),
        ("--all=1", "takes no value"),
    ],
)
def test_what_cannot_be_read_is_named(line: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(COMMAND, line.split())
    assert message in str(raised.value)


def test_the_order_of_options_is_kept() -> None:
    assert parse(COMMAND, ["-a", "-w3", "-a"]).given == [("all", ""), ("watch", "3"), ("all", "")]


def test_the_help_shows_every_option_and_its_value() -> None:
    text = COMMAND.help_text()
    assert "-n, --nodes=LIST" in text
    assert "-w, --watch[=SECONDS]" in text
    assert "--dir=DIR" in text
    assert "usage: tool [OPTION]... WORD\n" in text


def test_a_command_may_declare_a_common_option_itself() -> None:
    own = Command("tool", "", "", [Option("-d --dir", "where", "DIR")])
    assert parse(own, ["-d", "x"]).get("dir") == "x"
    assert own.help_text().count("--dir") == 1
