"""The house is in order: each thing has one name, one place and one sentence that says what it is."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
LONGEST = 400
LONG = {
    "src/heorot/core/images/hop.py": 510,
    "src/heorot/core/wire/tree.py": 504,
    "src/heorot/runtime/channel.py": 478,
    "src/heorot/runtime/links.py": 447,
    "tests/bpinit/test_rooms.py": 535,
    "tests/cli/test_commands.py": 419,
    "tests/cluster/test_bpcp.py": 419,
    "tests/cluster/test_images.py": 402,
    "tests/core/head/test_jobs.py": 453,
    "tests/core/head/test_settling.py": 486,
    "tests/images/test_cache.py": 523,
    "tests/images/test_placing.py": 453,
    "tests/runtime/test_links.py": 434,
    "tests/security/test_join.py": 406,
    "bench/costs.py": 431,
}
"""What is longer than `LONGEST`, with its lines. A number may only fall; a file that has got short enough leaves."""

SAME_NAME = {
    "main": "what `heorot.start` calls in the module of each command",
    "Cluster": "the library's two forms have the same names",
    "Job": "the library's two forms have the same names",
    "connect": "the library's two forms have the same names",
    "encode": "a message as bytes, in either codec: with msgspec, and without",
    "parse": "words to values, always called by its module's name",
    "node_name": "two lines that each program takes from what it has loaded",
}
"""Names of more than one thing in `src`, and why."""

TESTED_ELSEWHERE = {
    "client/job": "core/client/test_session.py",
    "errors": "core/tree/test_nodelist.py",
    "head/clients": "core/head/test_jobs.py",
    "head/context": "core/head/test_jobs.py",
    "head/input": "core/head/test_jobs.py",
    "head/machine": "core/head/test_placing.py",
    "head/membership": "core/head/test_placing.py",
    "head/receipts": "core/head/test_launches.py",
    "head/releases": "core/head/test_jobs.py",
    "head/reports": "core/head/test_jobs.py",
    "head/routes": "core/test_routes.py",
    "head/timers": "core/test_timers.py",
    "images/chunks": "core/images/test_manifest.py",
    "images/fetcher": "core/images/test_hop.py",
    "images/one_image": "core/images/test_hop.py",
    "images/sender": "core/images/test_hop.py",
    "keeper/election": "coord/test_local.py",
    "keeper/shell": "daemons/test_keeper.py",
    "keeper/steps": "core/keeper/test_machine.py",
    "keeper/watchdog": "daemons/test_watchdog.py",
    "machine": "runtime/test_shell.py",
    "node/config": "core/node/test_machine.py",
    "node/context": "core/node/test_machine.py",
    "node/images": "core/node/test_programs.py",
    "node/known_heads": "core/head/test_list_of_heads.py",
    "node/routes": "core/test_routes.py",
    "node/space": "core/node/test_machine.py",
    "node/timers": "core/test_timers.py",
    "pmi/rank": "core/pmi/test_states.py",
    "safe_text": "cli/test_odd_bytes.py",
    "shells": "shells/test_links.py",
    "space/events": "core/space/test_machine.py",
    "space/input": "core/space/test_machine.py",
    "space/jobs": "core/space/test_machine.py",
    "space/output": "core/space/test_machine.py",
    "space/queries": "core/space/test_machine.py",
    "space/reports": "core/space/test_machine.py",
    "space/routes": "core/test_routes.py",
    "space/shell": "shells/test_spaces.py",
    "space/turn": "core/space/test_machine.py",
    "space/view": "bpinit/test_guests.py",
    "wakefulness": "core/node/test_uplink.py",
    "wire/base": "core/wire/test_tree.py",
    "wire/clients": "fuzz/test_frames.py",
    "wire/heads": "core/head/test_list_of_heads.py",
    "wire/images": "core/images/test_hop.py",
    "wire/joining": "security/test_join.py",
    "wire/passing": "runtime/test_passing.py",
    "wire/tags": "core/wire/test_tree.py",
}
"""Modules of the core without a test module of their own, and where they are tested. May only get shorter."""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    return {name_of(path): ast.parse(path.read_bytes()) for path in sorted(SOURCES.glob("heorot/**/*.py"))}


def is_public(name: str) -> bool:
    return not name.startswith("_")


def definitions(body: list[ast.stmt], within: str) -> Iterator[tuple[str, Definition]]:
    """Yield what is defined for others: at the top level, and in public classes."""
    for node in body:
        if isinstance(node, Definition) and is_public(node.name):
            yield f"{within}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node.body, f"{within}.{node.name}")


def is_setter(node: Definition) -> bool:
    return any(isinstance(item, ast.Attribute) and item.attr in ("setter", "deleter") for item in node.decorator_list)


def is_overload(node: Definition) -> bool:
    return any(isinstance(item, ast.Name) and item.id == "overload" for item in node.decorator_list)


def only_for_types(module: ast.Module) -> list[Definition]:
    """Return what is defined for type checkers alone."""
    blocks = [node for node in module.body if isinstance(node, ast.If)]
    return [item for block in blocks for item in ast.walk(block) if isinstance(item, Definition)]


def test_every_public_definition_says_in_a_docstring_what_it_is() -> None:
    silent = [
        name
        for module, tree in modules().items()
        for name, node in definitions(tree.body, module)
        if ast.get_docstring(node) is None and not is_setter(node) and not is_overload(node)
    ]
    assert silent == []


def test_every_module_says_what_it_is_about() -> None:
    assert [name for name, tree in modules().items() if ast.get_docstring(tree) is None] == []


def test_no_two_things_have_the_same_name() -> None:
    homes = defaultdict(list)
    for module, tree in modules().items():
        for node in tree.body:
            if isinstance(node, Definition) and is_public(node.name):
                homes[node.name].append(module)
    twice = {name: places for name, places in homes.items() if len(places) > 1}
    assert {name: places for name, places in twice.items() if name not in SAME_NAME} == {}
    assert sorted(SAME_NAME.keys() - twice.keys()) == [], "these are the only ones of their name by now"


def test_no_module_has_the_name_of_one_of_the_standard_library_or_repeats_that_of_its_room() -> None:
    leaves = [name.rpartition(".")[2] for name in modules()]
    assert sorted(set(leaves) & (sys.stdlib_module_names - {"__main__"})) == []
    repeating = [name for name in modules() if name.split(".")[-1].startswith(f"{name.split('.')[-2:-1]}_")]
    assert repeating == []


def test_no_file_is_longer_than_a_sitting_except_those_that_are_to_get_shorter() -> None:
    files = [path for root in ("src", "tests", "bench", "scripts") for path in (ROOT / root).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    long = {name: lines for name, lines in lengths.items() if lines > LONGEST}
    assert {name: lines for name, lines in long.items() if lines > LONG.get(name, LONGEST)} == {}
    assert sorted(LONG.keys() - long.keys()) == [], "these are short enough by now: take them out of the list"


def test_every_module_of_the_core_has_a_test_module_in_the_same_room() -> None:
    core = {
        name.removeprefix("heorot.core.").replace(".", "/")
        for name, tree in modules().items()
        if name.startswith("heorot.core.") and any(not isinstance(node, ast.Expr) for node in tree.body)
    }
    without = set()
    for name in core:
        room, _, leaf = name.rpartition("/")
        if not (ROOT / "tests" / "core" / room / f"test_{leaf}.py").exists():
            without.add(name)
    assert sorted(without - TESTED_ELSEWHERE.keys()) == []
    assert sorted(TESTED_ELSEWHERE.keys() - without) == [], "these have a test module by now, or are gone"
    assert [test for test in TESTED_ELSEWHERE.values() if not (ROOT / "tests" / test).exists()] == []


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the modules of Heorot that a module names in its imports, those in functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom) and node.module in modules():
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules() else node.module


def test_no_circle_of_imports_not_even_for_type_checkers() -> None:
    # The package itself is the face of the library: it hands names on, and holds the version.
    graph = {name: set(imported(tree)) - {"heorot", name} for name, tree in modules().items() if name != "heorot"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle: {' -> '.join(error.args[1])}") from None
