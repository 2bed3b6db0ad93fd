"""The command line of bpsh, and what every command says of options."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heorot.cli import bpjob, bpsh, heorot
from heorot.cli.foreground.options import BpshOptions
from heorot.cli.options import UsageError


def test_nodes_and_command() -> None:
    options = BpshOptions(["n[0-3]", "echo", "-n", "--", "x"])
    assert (options.select, options.nodes) == ("list", "n[0-3]")
    assert options.argv == [b"echo", b"-n", b"--", b"x"]
    assert (options.stdin, options.stdout, options.stderr) == (b"", b"", b"")


def test_options_before_and_after_the_nodes() -> None:
    options = BpshOptions(["-n", "0-3", "-pb", "100", "--pty", "ls", "-l"])
    assert options.stdin is None
    assert options.prefix
    assert options.lines
    assert options.line_bytes == 100
    assert options.pty
    assert options.argv == [b"ls", b"-l"]


def test_combined_letters_with_an_argument_in_the_same_word() -> None:
    options = BpshOptions(["-nLb100", "0", "ls"])
    assert (options.stdin, options.lines, options.line_bytes) == (None, True, 100)


@pytest.mark.parametrize(("option", "select"), [("-a", "up"), ("-A", "notdown")])
def test_selection_replaces_the_nodes(option: str, select: str) -> None:
    options = BpshOptions(["-s", option, "ls", "-a"])
    assert (options.select, options.nodes, options.argv) == (select, "", [b"ls", b"-a"])


def test_double_dash_ends_the_options() -> None:
    assert BpshOptions(["-a", "--", "-odd", "-x"]).argv == [b"-odd", b"-x"]
    options = BpshOptions(["--", "3", "--", "-odd"])
    assert (options.nodes, options.argv) == ("3", [b"-odd"])


def test_redirections() -> None:
    options = BpshOptions(["-I", "in", "--stdout=out", "--stderr", "err", "0", "cat"])
    assert (options.stdin, options.stdout, options.stderr) == (b"in", b"out", b"err")
    options = BpshOptions(["-N", "-O", "out", "0", "cat"])
    assert (options.stdin, options.stdout, options.stderr) == (None, b"out", None)


@pytest.mark.parametrize(
    ("text", "limit_ms"), [("90", 90_000), ("0.5", 500), ("1.5m", 90_000), ("2h", 7_200_000), ("1d", 86_400_000)]
)
def test_times_are_written_as_for_timeout(text: str, limit_ms: int) -> None:
    assert BpshOptions(["--timeout", text, "0", "ls"]).time_limit_ms == limit_ms


def test_input_for_some_ranks() -> None:
    assert BpshOptions(["--input=0,4-7,5", "0", "ls"]).stdin_ranks == [0, 0, 4, 7]
    assert BpshOptions(["--input=all", "0", "ls"]).stdin_ranks is None
    none = BpshOptions(["--input=none", "0", "ls"])
    assert (none.stdin, none.stdin_ranks) == (None, None)


def test_some_nodes_at_a_time() -> None:
    options = BpshOptions(["--fanout=2", "--stop-on-failure", "0", "ls"])
    assert (options.rolling, options.stop_on_failure, options.stdin) == (2, True, None)


def test_binding() -> None:
    assert [BpshOptions([f"--bind={text}", "0", "ls"]).bind for text in ("none", "core", "0-3:4")] == [
        "",
        "core",
        "0-3:4",
    ]


def test_ranks_and_names_of_files_that_differ() -> None:
    options = BpshOptions(["--ranks", "8", "--ranks-per-node=4", "-O", "out.%r", "0", "ls"])
    assert (options.ranks, options.ranks_per_node, options.patterns) == (8, 4, True)
    assert not BpshOptions(["-O", "out", "0", "ls"]).patterns


def test_long_options_may_be_shortened() -> None:
    assert BpshOptions(["--gath", "0", "ls"]).gather


def test_what_is_sent_ahead_has_no_input() -> None:
    options = BpshOptions(["--stage", "0", "ls"])
    assert (options.stage, options.stdin, options.stdout) == (True, None, b"")


def test_a_user_is_accepted_and_ignored() -> None:
    assert BpshOptions(["-l", "root", "0", "ls"]).argv == [b"ls"]


def test_bytes_that_are_not_text_survive() -> None:
    assert BpshOptions(["0", "ls", b"\xff\xfe".decode("utf-8", "surrogateescape")]).argv == [b"ls", b"\xff\xfe"]


def test_a_divider_implies_one_after_the_other() -> None:
    assert BpshOptions(["-d", "0", "ls"]).sequential


def test_a_detached_job_has_no_input() -> None:
    assert BpshOptions(["--detach", "0", "ls"]).stdin is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no nodes given"),
        (["0"], "no command given after the nodes '0'; for a shell there: bpsh 0 --pty bash"),
        (["hostname"], "no command given: 'hostname' was taken for the nodes; on all that are up: bpsh -a hostname"),
        (["-a"], "no command given"),
        (["0", ""], "the command is empty"),
        (["-x", "0", "ls"], "unknown option -x"),
        (["-nx", "0", "ls"], "unknown option -x in -nx"),
        (["--nope", "0", "ls"], "unknown option --nope"),
        (["--std", "f", "0", "ls"], "ambiguous: --stderr, --stdin, --stdout"),
        (["--pty=yes", "0", "ls"], "takes no value"),
        (["-b"], "needs a value"),
        (["-b", "0", "0", "ls"], "a number from 1 to"),
        (["-b", "many", "0", "ls"], "not 'many'"),
        (["--max-processes=-1", "0", "ls"], "a number from 1 to"),
        (["--timeout=soon", "0", "ls"], "--timeout needs a time such as 90, 1.5m, 2h or 1d, not 'soon'"),
        (["--timeout=0s", "0", "ls"], "not '0s'"),
        (["--timeout=4000d", "0", "ls"], "not '4000d'"),
        (["--timeout=m", "0", "ls"], "not 'm'"),
        (["--bind", "0-", "0", "ls"], "binds to nothing: it is none, core, cpu, or"),
        (["--bind=", "0", "ls"], "are empty"),
        (["--input", "0-x", "0", "ls"], "is not a list of ranks such as 0,4-7"),
        (["--input=0", "-n", "0", "ls"], "--input and -n exclude each other"),
        (["--input=0", "--detach", "0", "ls"], "--input and --detach exclude each other"),
        (["--stop-on-failure", "0", "ls"], "--stop-on-failure needs --rolling"),
        (["--rolling=2", "--json", "0", "ls"], "--rolling and --json exclude each other"),
        (["--fanout=0", "0", "ls"], "--fanout needs a number from 1"),
        (["--ranks=0", "0", "ls"], "--ranks needs a number from 1 to 131072"),
        (["--ranks-per-node=5000", "0", "ls"], "--ranks-per-node needs a number from 1 to 4096"),
        (["-O", "out.%x", "0", "ls"], "'%x' in 'out.%x' means nothing; there are %r"),
        (["-I", "in%", "0", "ls"], "'%' in 'in%' means nothing"),
        (["-aA", "ls"], "exclude each other"),
        (["3", "-a", "ls"], "'3' is given as well"),
        (["-I", "", "0", "ls"], "is empty"),
        (["-p", "--label", "0", "ls"], "-p and --label exclude"),
        (["--gather", "-d", "0", "ls"], "--gather and -d exclude"),
        (["--json", "-L", "0", "ls"], "--json and -L exclude"),
        (["--detach", "--pty", "0", "ls"], "--detach and --pty exclude"),
        (["--stage", "--detach", "0", "ls"], "--stage and --detach exclude"),
        (["--stage", "-O", "out", "0", "ls"], "--stage and --stdout exclude"),
        (["--stage", "--image", "path", "0", "ls"], "--stage and --image path exclude"),
        (["--stage", "0", "ls", "-l"], "--stage starts nothing: name the program alone, and other files with --with"),
    ],
)
def test_what_cannot_be_understood_is_said(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BpshOptions(words)


FORMS = [("bpsh",), *(("bpjob", name) for name in bpjob.COMMANDS), *(("heorot", *words) for words in heorot.COMMANDS)]
MAINS: dict[str, Callable[[list[str]], int]] = {"bpsh": bpsh.run_bpsh, "bpjob": bpjob.main, "heorot": heorot.main}


@pytest.mark.parametrize("words", FORMS, ids=" ".join)
@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--zebra", "unknown option --zebra"),
        ("-hZ", "unknown option -Z in -hZ"),
        ("--help=much", "option --help takes no value"),
    ],
)
def test_every_command_says_the_same_of_options(
    words: tuple[str, ...], option: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert MAINS[words[0]]([*words[1:], option]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{words[0]}")
    assert f": {says}" in said.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "token create --uses many",
            "heorot token create: option --uses needs a number from 0 to ",
        ),
        ("token create more", "heorot token create: unexpected operand 'more'"),
        ("token revoke", "heorot token revoke: ID is missing"),
        ("head add h2", "heorot head add: --address is missing: say how nodes reach the new head"),
        ("head add --address", "heorot head add: option --address needs a value: HOST[:PORT]"),
        ("node remove x", "heorot node remove: 'x' is no node: give its number or name, such as 7 or n7"),
        ("certificate renew --within soon", "'soon' is not a duration: write 30s, 15m, 1h or 2d"),
    ],
)
def test_what_is_missing_or_wrong_is_said_with_where_there_is_help(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert heorot.main(words.split()) == 2
    name = " ".join(words.split()[:2])
    said = capsys.readouterr().err
    assert says in said
    assert said.endswith(f"; try 'heorot {name} --help'\n")
