"""Groups of ClusterShell's configuration, compared with what ClusterShell itself makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heorot.core.tree.nodelist import NodeView, parse
from heorot.core.tree.nodeset import NodeSet
from heorot.daemons.clustershell_groups import MAX_YAML_BYTES, read_clustershell
from heorot.daemons.group_reading import GroupReading, looks

NODESET = Path(sys.executable).with_name("nodeset")
HOSTS = [f"example{number}" for number in range(60)]

CONF = r"""
[Main]
default: local
confdir: $CFGDIR/groups.conf.d "/nowhere at all"
autodir: $CFGDIR/groups.d $CFGDIR/./groups.d

[local]
map: [ -f $CFGDIR/groups ] && f=$CFGDIR/groups || f=$CFGDIR/groups.d/local.cfg; sed -n 's/^$GROUP:\(.*\)/\1/p' $f
all: [ -f $CFGDIR/groups ] && f=$CFGDIR/groups || f=$CFGDIR/groups.d/local.cfg; sed -n 's/^all:\(.*\)/\1/p' $f
list: [ -f $CFGDIR/groups ] && f=$CFGDIR/groups || f=$CFGDIR/groups.d/local.cfg; sed -n 's/^\([0-9A-Za-z_-]*\):.*/\1/p' $f
"""  # noqa: E501
LOCAL = """\
# of ClusterShell
adm: example0
oss: example4 example5
io: example[4-6] @adm
io: example7
all: example[4-6,32-39]
"""
YAML = """\
roles:
    adm: 'example0'
    io: '@racks:rack2,example2'
    compute: '@racks:rack[3-4]'
    gpu: '@racks:rack4!example37'
    both: '@compute,@gpu,@racks:rack2&@racks:rack[2,4]'
    apart: 'example[30-33]^@racks:rack3'
    none:
    all: '@io,@compute,@gpu'
racks:
    rack1: 'example[0,2]'
    rack2: 'example[4-5]'
    rack3: 'example[32-35]'
    rack4: 'example[34-39]'
    old: '@rack[1,3]'
    rack5:
        - 'example[40-41]'
        - 'example45'
        - 'example50,example[51-52]'
"""
SLURM = """\
[slurmpart,sp]
map: sinfo -h -o "%N" -p $GROUP
list: sinfo -h -o "%R"
[flat]
map: sed -n 's/^$GROUP:\\(.*\\)/\\1/p' $SOURCE.txt
list: echo one
"""


class Rig:
    """A directory of ClusterShell's, and the link to it that a head reads."""

    def __init__(self, base: Path) -> None:
        self.base = base / "clustershell"
        for name in ("groups.d", "groups.conf.d"):
            (self.base / name).mkdir(parents=True)
        self.link = base / "clustershell.conf"
        self.link.symlink_to(self.base / "groups.conf")
        self.reading = GroupReading()

    def write(self, name: str, text: str) -> None:
        (self.base / name).write_text(text)

    def read(self) -> dict[str, str]:
        self.reading = GroupReading()
        return read_clustershell(self.reading, self.link)

    def hosts(self, group: str) -> list[str]:
        groups = self.read()
        view = NodeView(NodeSet.of(range(len(HOSTS))), {}, groups, {name: number for number, name in enumerate(HOSTS)})
        return [HOSTS[number] for number in parse(f"@{group}", view)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rig.write("groups.conf", CONF)
    rig.write("groups.d/local.cfg", LOCAL)
    rig.write("groups.d/cluster.yaml", YAML)
    return rig


GROUPS = ["adm", "oss", "io", "all", "local:io", "local:*", "roles:io", "roles:compute", "roles:gpu", "roles:both",
          "roles:apart", "roles:all", "roles:*", "roles:none", "racks:old", "racks:rack5", "racks:*"]  # fmt: skip


def test_each_group_is_what_clustershell_itself_says_and_names_a_node_once(rig: Rig) -> None:
    found = {group: sorted(rig.hosts(group)) for group in GROUPS}
    assert rig.reading.problems == []
    for group in GROUPS:
        said = subprocess.run(
            [NODESET, "-e", f"@{group}"], env={"CLUSTERSHELL_CFGDIR": str(rig.base)}, stdout=subprocess.PIPE, check=True
        )
        assert (group, found[group]) == (group, sorted(said.stdout.decode().split()))


def test_only_the_default_source_needs_no_name(rig: Rig) -> None:
    groups = rig.read()
    assert groups["io"] == groups["local:io"]
    assert "racks:rack1" in groups
    assert "rack1" not in groups
    rig.write("groups.conf", CONF.replace("default: local", "default: racks"))
    assert "rack1" in rig.read()
    rig.write("groups.conf", CONF.replace("default: local", "default: elsewhere"))
    assert "rack1" not in rig.read()
    assert rig.reading.problems == [f"{rig.base}/groups.conf: the default source 'elsewhere' is not there"]


def test_no_command_is_run_and_each_source_that_needs_one_is_named(rig: Rig) -> None:
    rig.write("groups.conf.d/slurm.conf", SLURM)
    rig.write("groups.conf.d/flat.txt", "one: example1\n")
    rig.write(
        "groups.conf.d/evil.conf", f"[evil]\nmap: touch {rig.base}/run; echo $GROUP\nlist: touch {rig.base}/run\n"
    )
    groups = rig.read()
    assert groups["flat:one"] == "example1"
    assert [text.partition(": ")[2].split(" come ")[0] for text in rig.reading.problems] == [
        "the groups of @evil", "the groups of @slurmpart", "the groups of @sp",
    ]  # fmt: skip
    assert "nodeset -s slurmpart -ll" in rig.reading.problems[1]
    assert not (rig.base / "run").exists()


def test_what_is_wrong_costs_itself_alone_and_is_told(rig: Rig) -> None:
    rig.write("groups.d/a.yaml", "odd: [1]\nmore: {5: n1, five: 5, good: 'example3', bad: 'a[1', 'b c': example1}\n")
    rig.write(
        "groups.d/b.yaml",
        "racks: {here: example1}\nstate: {up: example1}\nlists: {two: 'example1!example2 example3'}\n",
    )
    rig.write("groups.d/c.yaml", "a: b: c\n")
    rig.write("groups.d/d.yaml", "only words\n")
    rig.write("groups.d/g.yaml", "odd: {one: !!int ''}\n")
    rig.write("groups.d/h.yaml", "odd: {one: !!timestamp then}\n")
    rig.write("groups.d/i.yaml", "[" * 50_000)
    rig.write("groups.d/e.yaml", f"long: {{one: '{'example1,' * (MAX_YAML_BYTES // 9)}'}}\n")
    rig.write("groups.d/f.yaml", "mine: {one: example1}\n")
    (rig.base / "groups.d/f.yaml").chmod(0o666)
    rig.write("groups.conf.d/a.conf", "no section\n")
    os.mkfifo(rig.base / "groups.conf.d/b.conf")
    groups = rig.read()
    assert groups["more:good"] == "example3"
    # cluster.yaml comes behind b.yaml, whose source of this name counts.
    assert (groups["racks:here"], "racks:rack1" in groups) == ("example1", False)
    assert not {"mine:one", "long:one", "lists:two", "more:bad", "state:up"} & set(groups)
    told = "\n".join(rig.reading.problems)
    for part in (
        "a.yaml: 'odd' is no source", "a.yaml: more: 5 is no group", "a.yaml: more: 'five' is no group",
        "a.yaml: more: 'b c' is no group", "@more:bad: ", "b.yaml: no groups can be called @state:",
        "cluster.yaml: there is another source racks", "@lists:two: it has several lists with operators",
        "c.yaml: no YAML: ", "g.yaml: no YAML: ", "h.yaml: no YAML: ", "i.yaml: no YAML: ",
        "d.yaml: it has no sources", "e.yaml: it has more than", "f.yaml: everybody may write",
        "a.conf: File contains no section headers", "b.conf: it is no file",
    ):  # fmt: skip
        assert part in told


def test_without_the_library_yaml_is_not_read_and_that_is_said(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    groups = rig.read()
    assert "io" in groups
    assert "racks:rack1" not in groups
    (problem,) = rig.reading.problems
    assert problem.endswith(
        "cluster.yaml: groups in YAML are read where Python has PyYAML: pip install pyyaml, beside Heorot"
    )


def test_what_was_read_is_what_is_looked_at_again(rig: Rig) -> None:
    rig.read()
    assert set(rig.reading.seen) >= {
        rig.link, rig.base / "groups.conf", rig.base / "groups", rig.base / "groups.d", rig.base / "groups.conf.d",
        rig.base / "groups.d/local.cfg", rig.base / "groups.d/cluster.yaml",
    }  # fmt: skip

    def changed() -> list[str]:
        return [path.name for path, seen in rig.reading.seen.items() if looks(path) != seen]

    assert changed() == []
    (rig.base / "groups.d/cluster.yaml").chmod(0o600)
    rig.write("groups.conf.d/new.conf", "")
    rig.write("groups", "one: example1\n")
    assert sorted(changed()) == ["cluster.yaml", "groups", "groups.conf.d"]


def test_a_link_to_what_others_may_change_is_not_read(rig: Rig) -> None:
    (rig.base / "groups.conf").chmod(0o666)
    assert rig.read() == {}
    assert "everybody may write" in rig.reading.problems[0]
