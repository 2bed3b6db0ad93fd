"""Groups of ClusterShell's, from its ``groups.conf`` (groups.conf(5)), as far as they are in files.

These are the YAML files of its ``autodir``, if Python has PyYAML here, and sources whose ``map`` only looks into a file
of lines ``GROUP: NODES`` with sed(1), as the ``groups.conf`` that ClusterShell comes with. Other sources need commands;
no head runs these, and each is named. A source's group is ``@SOURCE:GROUP``, the default source's also ``@GROUP``. In
a source ``@GROUP`` is its own, ``@rack[1,3]`` are two groups, and ``@SOURCE:*`` is its group ``all``, if it has one.
"""

from __future__ import annotations

import configparser
import importlib
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from string import Template
from types import ModuleType
from typing import Any

from heorot.core.tree.host_names import expand_names
from heorot.daemons.group_reading import FILE_ERRORS, GROUP_NAME, RESERVED, GroupReading
from heorot.linux.trusted_path import check_file

MAX_YAML_BYTES = 128 * 1024
"""The head reads nothing else meanwhile: PyYAML takes 0.1 s for so much, or 2 s without its library in C."""
MAX_GROUPS_IN_LIST = 1024
_MAIN = "Main"
_SED = r"sed -n 's/\^\$GROUP:\\\(\.\*\\\)/\\1/p'"
_ONE_FILE = re.compile(_SED + r" ([\w$./{}-]+)")
_FIRST_FILE = re.compile(r"\[ -f (\S+) \] && f=(\S+) \|\| f=([\w$./{}-]+); " + _SED + r" \$f")
"""As ClusterShell comes with it since 1.7."""
_OPERAND = re.compile(r"([,!&^]?)((?:\[[^\]]*\]|[^\[,!&^])+)")
_OPERATORS = re.compile(r"[!&^](?![^\[]*\])")


def read_clustershell(reading: GroupReading, path: Path) -> dict[str, str]:
    """Return the groups of a ``groups.conf``, or of one to which `path` is a link, under all of their names."""
    sources = _Sources(reading)
    reading.look(path)
    try:
        check_file(path)
    except FILE_ERRORS as error:
        reading.complain(path, error)
        return {}
    path = Path(os.path.realpath(path))
    default = sources.read(path)
    groups: dict[str, str] = {}
    for source, texts in sources.found.items():
        for name, text in texts.items():
            try:
                nodes = _translated(source, text, groups)
            except FILE_ERRORS as error:
                reading.complain(path, f"@{source}:{name}: {error}")
                continue
            groups[f"{source}:{name}"] = nodes
            if source == default:
                groups[name] = nodes
        if "all" in texts:
            groups[f"{source}:*"] = f"@{source}:all"
    return groups


class _Sources:
    """The sources of a ``groups.conf``: what their groups are, in ClusterShell's words."""

    def __init__(self, reading: GroupReading) -> None:
        self._reading = reading
        self.found: dict[str, dict[str, str]] = {}
        self._known: list[str] = []
        """All that there are, those that need commands, too."""

    def read(self, path: Path) -> str:
        """Read all; return which source is the default one, empty if there is none."""
        parser = self._parsed(path)
        if parser is None:
            return ""
        base = path.parent
        main: Mapping[str, str] = parser[_MAIN] if parser.has_section(_MAIN) else {}
        for directory in self._directories(path, main.get("groupsdir") or main.get("confdir", "")):
            for name in self._reading.names(directory):
                if name.endswith(".conf") and (part := self._parsed(directory / name)) is not None:
                    self._take_sections(directory / name, part, directory)
        for directory in self._directories(path, main.get("autodir", "")):
            for name in self._reading.names(directory):
                if name.endswith(".yaml"):
                    self._take_yaml(directory / name)
        self._take_sections(path, parser, base)
        default = main.get("default") or next(iter(self._known), "")
        if default and default not in self._known:
            self._reading.complain(path, f"the default source {default!r} is not there")
        return default

    def _parsed(self, path: Path) -> configparser.ConfigParser | None:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(self._reading.text(path))
        except (*FILE_ERRORS, configparser.Error) as error:
            self._reading.complain(path, error)
            return None
        return parser

    def _directories(self, path: Path, text: str) -> list[Path]:
        try:
            words = shlex.split(text)
        except ValueError as error:
            self._reading.complain(path, f"{text!r:.60}: {error}")
            return []
        found = [os.path.normpath(path.parent / Template(word).safe_substitute(CFGDIR=path.parent)) for word in words]
        return [Path(directory) for directory in dict.fromkeys(found)]

    def _take_sections(self, path: Path, parser: configparser.ConfigParser, base: Path) -> None:
        for section in parser.sections():
            if section == _MAIN:
                continue
            command = " ".join(parser.get(section, "map", fallback="").split())
            for source in (word.strip() for word in section.split(",")):
                if not self._is_new(path, source):
                    continue
                files = _files_of(command, base, source)
                if not files:
                    self._reading.complain(
                        path,
                        f"the groups of @{source} come from a command ({command:.60}), and a head runs none: let"
                        f" ClusterShell run it, as in: nodeset -s {source} -ll > {source}.cfg",
                    )
                    continue
                there = [each for each in files if self._reading.look(each) is not None]
                self._take_lines((there or files)[0], source)

    def _is_new(self, path: Path, source: str) -> bool:
        if source in RESERVED or not GROUP_NAME.fullmatch(source):
            self._reading.complain(path, f"no groups can be called @{source[:64]}:...")
        elif source in self._known:
            self._reading.complain(path, f"there is another source {source}, which counts")
        else:
            self._known.append(source)
            return True
        return False

    def _take_lines(self, path: Path, source: str) -> None:
        """Take a file of lines ``GROUP: NODES``; what is no such line, sed would not print either."""
        try:
            text = self._reading.text(path)
        except FILE_ERRORS as error:
            self._reading.complain(path, error)
            return
        groups: dict[str, list[str]] = {}
        for line in text.splitlines():
            name, colon, nodes = line.partition(":")
            if colon and GROUP_NAME.fullmatch(name):
                groups.setdefault(name, []).append(nodes.strip())
        self.found[source] = {name: " ".join(parts) for name, parts in groups.items()}

    def _take_yaml(self, path: Path) -> None:
        try:
            content = _load_yaml(self._reading.text(path, MAX_YAML_BYTES))
        except FILE_ERRORS as error:
            self._reading.complain(path, error)
            return
        for source, groups in content.items():
            if not isinstance(source, str) or not isinstance(groups, dict):
                self._reading.complain(path, f"{source!r:.60} is no source: below it write lines GROUP: 'NODES'")
            elif self._is_new(path, source):
                self.found[source] = self._texts(path, source, groups)

    def _texts(self, path: Path, source: str, groups: dict[Any, Any]) -> dict[str, str]:
        texts: dict[str, str] = {}
        for name, nodes in groups.items():
            lists = nodes if isinstance(nodes, list) else [] if nodes is None else [nodes]
            if isinstance(name, str) and GROUP_NAME.fullmatch(name) and all(isinstance(each, str) for each in lists):
                texts[name] = " ".join(lists)
            else:
                self._reading.complain(path, f"{source}: {name!r:.60} is no group: write GROUP: 'NODES', with quotes")
        return texts


def _files_of(command: str, base: Path, source: str) -> list[Path]:
    """Return in which of these files a command looks, the first that there is; none: it does something else."""
    if match := _FIRST_FILE.fullmatch(command):
        words = [match[1], match[3]] if match[1] == match[2] else []
    elif match := _ONE_FILE.fullmatch(command):
        words = [match[1]]
    else:
        words = []
    names = [Template(word).safe_substitute(CFGDIR=base, SOURCE=source) for word in words]
    return [] if any("$" in name for name in names) else [base / name for name in names]


def _load_yaml(text: str) -> dict[Any, Any]:
    """Raises ValueError if it is no dictionary, or cannot be read here."""
    yaml = _yaml_library()
    if yaml is None:
        raise ValueError("groups in YAML are read where Python has PyYAML: pip install pyyaml, beside Heorot")
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError) as error:
        # Of values that are none of their kind, such as !!int '', it raises what it stumbles over.
        raise ValueError(f"no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError("it has no sources of groups")
    return content


def _yaml_library() -> ModuleType | None:
    try:
        return importlib.import_module("yaml")
    except ImportError:
        return None


def _translated(source: str, text: str, groups: dict[str, str]) -> str:
    """Return a list of nodes in the words of `heorot.core.tree.nodelist`, with each node once, as ClusterShell has it.

    Lists of groups that it names, as ``@rack[1,3]``, become groups of that name. Raises ValueError, NodeListError.
    """
    lists = text.split() if "[" not in text else re.split(r"\s+(?![^\[]*\])", text.strip())
    if len(lists) > 1 and _OPERATORS.search(text):
        raise ValueError("it has several lists with operators: write one list, without spaces")
    text = re.sub(",+", ",", ",".join(lists)).strip(",")
    found = _OPERAND.findall(text)
    if "".join(operator + operand for operator, operand in found) != text or (found and found[0][0]):
        raise ValueError(f"{text!r:.60} is no list of nodes")
    operands = [(operator or ",", _named(source, operand.strip(), groups)) for operator, operand in found]
    if all(operator == "," for operator, _ in operands):
        operands.sort(key=lambda each: each[1].startswith("@"))
    # A union, in which who stands on both sides comes once.
    parts = [
        f"!{operand},{operand}" if operator == "," and operand.startswith("@") else operator + operand
        for operator, operand in operands
    ]
    if not parts:
        return ""
    parts[0] = operands[0][1]
    return "".join(parts)


def _named(source: str, operand: str, groups: dict[str, str]) -> str:
    """Return an operand under its whole name."""
    if not operand.startswith("@"):
        return operand
    name = operand[1:]
    if ":" not in name:
        name = f"{source}:{name}"
    if "[" in name and name not in groups:
        names = [f"@{each}" for each in expand_names(name, MAX_GROUPS_IN_LIST)]
        groups[name] = names[0] + "".join(f"!{each},{each}" for each in names[1:])
    return f"@{name}"
