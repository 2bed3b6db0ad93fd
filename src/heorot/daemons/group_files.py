"""Groups of nodes from files: ``[groups]`` of head.toml, and the files of a directory beside it, ``groups.d``.

``groups.d/NAME.toml`` holds lines as in ``[groups]``; ``groups.d/NAME.cfg`` lines ``GROUP: NODES`` or ``@GROUP NODES``,
as ClusterShell keeps and prints them (``nodeset -LL``). A group is ``@GROUP`` and ``@NAME:GROUP``; of several that are
called alike the first one counts, head.toml's before all, then the files in the order of their names. Whatever is wrong
with a line or a file costs that alone, and is told.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from heorot.config.files import load_head
from heorot.core.errors import HeorotError
from heorot.core.machine import GroupsKnown
from heorot.linux.trusted_path import check_file
from heorot.runtime.loop import Loop, Timer

DIRECTORY = "groups.d"
MAX_FILES = 64
MAX_FILE_BYTES = 1 << 20
MAX_GROUPS = 4096
MAX_TOLD = 20
"""So many problems at once go to the log."""
LOOK_EVERY_S = 2.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,63}")
_LINE = re.compile(r"@?(?:[\w.+-]+:)?([A-Za-z0-9_][A-Za-z0-9_./+-]{0,63})(?::\s*|\s+)(\S.*)")
RESERVED = ("state", "all", "*")
"""Sources that no file can be."""


def read_groups(head_path: Path, directory: Path) -> tuple[dict[str, str], list[str]]:
    """Return the groups that there are, by their names without ``@``, and for people what is wrong.

    Raises
    ------
    ConfigError
        If the configuration of the head cannot be used: then what was known stays.
    """
    groups = dict(load_head(head_path).groups)
    problems: list[str] = []
    for path in group_files(directory)[:MAX_FILES]:
        source = path.stem
        try:
            found = _read_file(path, problems)
        except (OSError, ValueError, HeorotError) as error:
            problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
            continue
        if source in RESERVED or not _NAME.fullmatch(source):
            problems.append(f"{path}: no groups can be called @{source}:...")
            continue
        for name, nodes in found.items():
            groups.setdefault(name, nodes)
            groups[f"{source}:{name}"] = nodes
    if len(groups) > MAX_GROUPS:
        problems.append(f"there are {len(groups)} groups; the first {MAX_GROUPS} are known")
        groups = dict(list(groups.items())[:MAX_GROUPS])
    return groups, problems


def group_files(directory: Path) -> list[Path]:
    """Return the files of groups in a directory, in the order of their names."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [directory / name for name in names if name.endswith((".toml", ".cfg")) and not name.startswith(".")]


def _read_file(path: Path, problems: list[str]) -> dict[str, str]:
    check_file(path)
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
    text = data.decode()
    return _toml(path, text, problems) if path.suffix == ".toml" else _lines(path, text, problems)


def _toml(path: Path, text: str, problems: list[str]) -> dict[str, str]:
    groups: dict[str, str] = {}
    for name, nodes in tomllib.loads(text).items():
        if isinstance(nodes, str) and _NAME.fullmatch(name):
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
            groups[match[1]] = match[2].strip()
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
        self._seen: object = None
        self._said: set[str] = set()
        self._next: Timer | None = None
        self._look()

    def close(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()

    def _look(self) -> None:
        seen = [_looks(path) for path in (self._head_path, *group_files(self._directory)[:MAX_FILES])]
        if seen != self._seen:
            self._seen = seen
            self._read()
        self._next = self._loop.call_at(self._loop.time() + LOOK_EVERY_S, self._look)

    def _read(self) -> None:
        try:
            groups, problems = read_groups(self._head_path, self._directory)
        except HeorotError as error:
            groups, problems = None, [f"groups stay as they were: {error}"]
        for text in problems[:MAX_TOLD]:
            if text not in self._said:
                self._log("warning", text)
        self._said = set(problems)
        if groups is not None:
            self._feed(GroupsKnown(groups))


def _looks(path: Path) -> tuple[str, int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), status.st_ino, status.st_mtime_ns, status.st_size
