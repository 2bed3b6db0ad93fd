"""What the pages name exists."""

from __future__ import annotations

import re
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from heorot.core.states import word
from scripts import tables
from scripts.screen import SCRIPT

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
MADE = {"benchmarks.png"}
"""Drawn by ``make bench BENCH_OPTIONS=--publish``."""
TEST = re.compile(r"`(?:tests/)?((?:(?!tests/)[a-z_]+/)*test_\w+\.py)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)]*)?\)")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target, _ in LINK.findall(page.read_text()) if ":" not in target and target not in MADE]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_the_tests_that_are_named_are_there(page: Path) -> None:
    assert [test for test in TEST.findall(page.read_text()) if not (ROOT / "tests" / test).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {page.name for page in PAGES if page.parent == ROOT / "docs"} - {"README.md"}
    assert pages == {target for target, _ in LINK.findall(index) if "/" not in target}


def test_who_may_say_what_is_what_the_machines_obey() -> None:
    page = tables.PAGE.read_text("utf-8")
    assert tables.BEGIN in page
    assert page == tables.rewritten(page), "write it anew: make docs"


def test_the_pictures_of_states_are_those_of_the_tables_and_the_page_says_what_each_state_means() -> None:
    page = tables.STATES_PAGE.read_text("utf-8")
    assert page == tables.redrawn(page), "draw them anew: make docs"
    for name, states in tables.ALL_STATES.items():
        _, _, section = page.partition(f"<!-- {name}: ")
        said = section.partition("\n## ")[0]
        assert [word(then) for _, _, then in states if f"**{word(then)}**" not in said] == []


def test_every_command_is_in_the_readme_and_has_a_manual_page_if_people_type_it() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = {path.name for path in (ROOT / "bin").iterdir()} - {"bphead", "bpnode", "bpinit"}
    assert {name for name in commands if f"`{name} " not in readme and f"`{name}`" not in readme} == set()
    pages = {page.name.partition(".")[0] for page in (ROOT / "man").iterdir()}
    assert commands - pages == set()


def test_the_picture_of_the_readme_shows_the_commands_that_its_script_runs() -> None:
    shown = (ROOT / "docs" / "screen.svg").read_text()
    missing = [line for words in SCRIPT for line in words if escape(line) not in shown]
    assert missing == []
    assert "(docs/screen.svg)" in (ROOT / "README.md").read_text()


def test_the_makefile_has_the_targets_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`?make ([a-z]+)", (ROOT / "README.md").read_text()))
    assert named >= {"venv", "demo", "test", "check", "sim", "bench"}
    assert {name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()


@pytest.mark.parametrize("decision", [page for page in PAGES if page.parent.name == "decisions"], ids=ids)
def test_decisions_have_the_form_that_their_readme_asks_for(decision: Path) -> None:
    if decision.name != "README.md":
        text = decision.read_text()
        places = [text.find(f"**{part}.**") for part in ("Context", "Choice", "Evidence", "What would change it")]
        assert -1 < places[0] < places[1] < places[2] < places[3]
