"""Every option of every command stands in its help, manual page and completions; the pages are well formed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from heorot.cli import bpcp, bpjob, bpkill, bpps, bpsrun, bpstat, heorot, mpprun
from heorot.cli.arguments import Command
from tests.cluster.harness import ROOT, Cluster

PAGES = sorted((ROOT / "man").glob("*.[18]"))
COMMANDS = ["bpsh", "bprsh", "bpcp", "bpctl", "bpstat", "bpps", "bpkill", "bpjob", "mpprun", "bpsrun", "heorot"]
DAEMONS = ["bphead", "bpnode", "bpinit"]
SECTIONS = {".1": ["NAME", "SYNOPSIS", "DESCRIPTION"], ".8": ["NAME", "SYNOPSIS", "DESCRIPTION"]}
SPELLINGS = re.compile(r"(?:^ +|, |\|)(--?[A-Za-z][A-Za-z-]*)")


def options_of(name: str, directory: Path) -> set[str]:
    """Return all spellings of all options, as the command's help lists them."""
    nowhere = Cluster(directory, {"COLUMNS": "200"})
    forms: list[tuple[str, ...]] = [()]
    if name == "bpjob":
        forms = [(command,) for command in bpjob.COMMANDS]
    elif name == "heorot":
        forms = list(heorot.COMMANDS)
    found: set[str] = set()
    for words in forms:
        text = nowhere.check(name, *words, "--help").decode()
        for line in text.splitlines():
            if line.startswith("  -"):
                found |= set(SPELLINGS.findall(line[:2] + line[2:].partition("  ")[0]))
        if name == "bpinit":
            found |= set(re.findall(r"--[a-z]+", text))
    return found


def plain(page: Path) -> str:
    """Return a page's text without macros and escapes, one space between words."""
    words: list[str] = []
    for line in page.read_text().splitlines():
        tokens = line.split()
        if line.startswith("."):
            joined = []
            for token in tokens[1:]:
                joined.append("-" if token == "Fl" else token)
            line = re.sub(r"(?<!\S)- (?=\S)", "-", " ".join(joined))
        words.append(line)
    return " ".join(words).replace("\\-", "-").replace("\\&", "")


@pytest.mark.parametrize("name", COMMANDS + DAEMONS)
def test_every_option_stands_in_the_manual_page(name: str, tmp_path: Path) -> None:
    (page,) = (page for page in PAGES if page.stem == name)
    text = plain(page)
    options = options_of(name, tmp_path)
    assert len(options) >= 3
    missing = {option for option in options if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text)}
    assert not missing


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("file", ["bash/heorot", "zsh/_heorot"])
def test_every_option_stands_in_the_completions(name: str, file: str, tmp_path: Path) -> None:
    text = (ROOT / "completions" / file).read_text()
    start = re.search(rf"^(_heorot)?_{name}\(\) ", text, re.MULTILINE)
    assert start is not None
    body = text[start.start() : text.index("\n}\n", start.start())]
    body += text[text.index("local -a common") : text.index("_heorot_bpsh()")] if file.startswith("zsh") else ""
    missing = {o for o in options_of(name, tmp_path) if not re.search(rf"(?<![\w-]){o}(?![\w-])", body)}
    assert not missing


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_in_the_completion_of_fish(name: str, tmp_path: Path) -> None:
    known = {"--dir", "-h", "--help", "-v", "-V", "--version"}
    for line in (ROOT / "completions/fish/heorot.fish").read_text().splitlines():
        if line.startswith(f"complete -c {name} "):
            known |= {f"-{letter}" for letter in re.findall(r" -s (\w)\b", line)}
            known |= {f"--{word}" for word in re.findall(r" -l ([\w-]+)", line)}
    assert options_of(name, tmp_path) <= known


@pytest.mark.parametrize(("shell", "suffix"), [("bash", ""), ("fish", ".fish")])
def test_each_command_of_users_has_a_completion_file_of_its_name(shell: str, suffix: str) -> None:
    """These shells look for the file by the command that is typed; zsh reads the names in its file."""
    pages = {page.stem for page in PAGES} - set(DAEMONS)
    for name in sorted(pages):
        assert (ROOT / "completions" / shell / f"{name}{suffix}").is_file(), name


def test_the_completion_of_zsh_is_for_each_command_of_users() -> None:
    names = (ROOT / "completions/zsh/_heorot").read_text().splitlines()[0].split()
    assert names[0] == "#compdef"
    assert set(names[1:]) == {page.stem for page in PAGES} - set(DAEMONS)


@pytest.mark.parametrize(
    "command",
    [
        bpcp.COMMAND,
        bpstat.COMMAND,
        bpps.COMMAND,
        bpkill.COMMAND,
        mpprun.COMMAND,
        bpsrun.COMMAND,
        *bpjob.COMMANDS.values(),
    ],
    ids=lambda command: command.name,
)
def test_the_help_lists_what_the_parser_knows(command: Command) -> None:
    text = command.help_text()
    for option in command.options:
        assert ", ".join(option.names) in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_well_formed(page: Path) -> None:
    text = page.read_text()
    lines = text.splitlines()
    name, section = page.stem, page.suffix[1:]
    assert [line.split()[0] for line in lines[:3]] == [".Dd", ".Dt", ".Os"]
    assert lines[1] == f".Dt {name.upper()} {section}"
    headings = [line[4:] for line in lines if line.startswith(".Sh ")]
    assert headings[:3] == SECTIONS[page.suffix]
    assert len(set(headings)) == len(headings)
    assert f".Nm {name}\n.Nd " in text
    depth = 0
    for line in lines:
        depth += line.startswith(".Bl ") - line.startswith(".El")
        assert depth >= 0
    assert depth == 0
    assert text.count("\n.Bd ") == text.count("\n.Ed")
    # A text line that begins with a quote or a dot is a request: what follows would be lost.
    assert not [line for line in lines if line.startswith("'")]
    assert not [line for line in lines if line != line.rstrip()]
    for reference, volume in re.findall(r"^\.Xr (\S+) (\d)", text, re.MULTILINE):
        if reference.startswith(("bp", "heorot")):
            assert (ROOT / "man" / f"{reference}.{volume}").exists(), reference


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_rendered_without_a_warning(page: Path) -> None:
    # Where no formatter is installed the structure of the pages, above, is all that can be examined.
    for checker in (["groff", "-mdoc", "-ww", "-Tutf8", "-z"], ["mandoc", "-Tlint", "-Wwarning"]):
        if shutil.which(checker[0]) is not None:
            finished = subprocess.run([*checker, str(page)], capture_output=True, text=True, timeout=150, check=False)
            said = [line for line in (finished.stdout + finished.stderr).splitlines() if "mandoc.db" not in line]
            assert said == []


def test_there_is_a_page_for_every_command() -> None:
    commands = {path.name for path in (ROOT / "bin").iterdir()}
    assert {page.stem for page in PAGES} >= commands
