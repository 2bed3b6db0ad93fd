"""Groups of nodes from files: ``[groups]`` of head.toml, and the files of a directory beside it, ``groups.d``.

``groups.d/NAME.toml`` holds lines as in ``[groups]``; ``groups.d/NAME.cfg`` lines ``GROUP: NODES`` or ``@GROUP NODES``,
as ClusterShell keeps and prints them (``nodeset -LL``); ``groups.d/NAME.conf`` is a ``groups.conf`` of ClusterShell's
(`clustershell_groups`). A group is ``@GROUP`` and ``@NAME:GROUP``; of several that are called alike the first one
counts, head.toml's before all, then the files in the order of their names. Whatever is wrong with a line or a file
costs that alone, and is told.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from heorot.config.files import load_head
from heorot.core.errors import HeorotError
from heorot.core.machine import GroupsKnown
from heorot.daemons.clustershell_groups import read_clustershell
from heorot.daemons.group_reading import FILE_ERRORS, GROUP_NAME, RESERVED, GroupReading, looks, with_commas
from heorot.runtime.loop import Loop, Timer

DIRECTORY = "groups.d"
MAX_GROUPS = 4096
MAX_TOLD = 20
"""So many problems at once go to the log."""
LOOK_EVERY_S = 2.0
_LINE = re.compile(r"@?(?:[\w.+-]+:)?([A-Za-z0-9_][A-Za-z0-9_./+-]{0,63})(?::\s*|\s+)(\S.*)")


def read_groups(reading: GroupReading, head_path: Path, directory: Path) -> dict[str, str]:
    """Return the groups that there are, by their names without ``@``; `reading` has then what is wrong.

    Raises
    ------
    ConfigError
        If the configuration of the head cannot be used: then what was known stays.
    """
    reading.look(head_path)
    groups = dict(load_head(head_path).groups)
    for name in reading.names(directory):
        path = directory / name
        if path.suffix in (".toml", ".cfg", ".conf"):
            for group, nodes in _groups_of(reading, path).items():
                groups.setdefault(group, nodes)
    if len(groups) > MAX_GROUPS:
        reading.problems.append(f"there are {len(groups)} groups; the first {MAX_GROUPS} are known")
        groups = dict(list(groups.items())[:MAX_GROUPS])
    return groups


def _groups_of(reading: GroupReading, path: Path) -> dict[str, str]:
    """Return the groups of a file, under all of their names."""
    if path.suffix == ".conf":
        return read_clustershell(reading, path)
    try:
        text = reading.text(path)
        found = _toml(path, text, reading.problems) if path.suffix == ".toml" else _lines(path, text, reading.problems)
    except FILE_ERRORS as error:
        reading.complain(path, error)
        return {}
    source = path.stem
    if source in RESERVED or not GROUP_NAME.fullmatch(source):
        reading.complain(path, f"no groups can be called @{source}:...")
        return {}
    return found | {f"{source}:{name}": nodes for name, nodes in found.items()}


def _toml(path: Path, text: str, problems: list[str]) -> dict[str, str]:
    groups: dict[str, str] = {}
    try:
        content = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(f"no TOML: {error}") from error
    for name, nodes in content.items():
        if isinstance(nodes, str) and GROUP_NAME.fullmatch(name):
            groups[name] = nodes
        else:
            problems.append(f'{path}: {name[:64]!r} is no group: write a line such as rack1 = "n[0-31]"')
    return groups


def _lines(path: Path, text: str, problems: list[str]) -> dict[str, str]:
    groups: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            problems.append(f"{path}:{number}: no group: write a line such as rack1: n[0-31]")
        else:
            groups[match[1]] = with_commas(match[2])
    return groups


class GroupFiles:
    """Tells the active head which groups there are, at once and whenever a file has changed.

    Parameters
    ----------
    head_path
        The head's configuration; the files of groups are in `DIRECTORY` beside it.
    """

    def __init__(
        self, loop: Loop, head_path: Path, feed: Callable[[GroupsKnown], None], log: Callable[[str, str], None]
    ) -> None:
        self._loop = loop
        self._head_path = head_path
        self._directory = head_path.parent / DIRECTORY
        self._feed = feed
        self._log = log
        self._seen: dict[Path, object] = {}
        self._said: set[str] = set()
        self._next: Timer | None = None
        self._read()
        self._again()

    def close(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()

    def _again(self) -> None:
        self._next = self._loop.call_at(self._loop.time() + LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        if any(looks(path) != seen for path, seen in self._seen.items()):
            self._read()
        self._again()

    def _read(self) -> None:
        reading = GroupReading()
        groups: dict[str, str] | None = None
        try:
            groups = read_groups(reading, self._head_path, self._directory)
        except HeorotError as error:
            reading.problems = [f"groups stay as they were: {error}"]
        self._seen = reading.seen
        for text in reading.problems[:MAX_TOLD]:
            if text not in self._said:
                self._log("warning", text)
        self._said = set(reading.problems)
        if groups is not None:
            self._feed(GroupsKnown(groups))
