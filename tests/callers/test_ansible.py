"""Ansible through `bprsh` as its ssh, and through Heorot's own connection plugin, all in the same run of a playbook."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.local_cluster import ROOT, Finished, LocalCluster

BIN = Path(sys.executable).parent
PLUGINS = ROOT / "plugins" / "ansible"
SSH = "ansible_ssh_executable=bprsh"
WAYS = {
    "piped": f"ansible_host=n0 {SSH} ansible_ssh_transfer_method=piped",
    "sftp": f"ansible_host=n1 {SSH} ansible_ssh_transfer_method=sftp ansible_sftp_extra_args='-S bprsh'",
    "scp": f"ansible_host=n2 {SSH} ansible_ssh_transfer_method=scp ansible_scp_extra_args='-S bprsh'",
    "plugin": "ansible_host=n0 ansible_connection=heorot",
    "pipelined": "ansible_host=2 ansible_connection=heorot ansible_pipelining=true",
}
NODES = {"piped": 0, "sftp": 1, "scp": 2, "plugin": 0, "pipelined": 2}
TASKS = """
- hosts: all
  gather_facts: false
  tasks:
    - ping:
    - copy: {src: "DIR/a file", dest: "DIR/to-{{ inventory_hostname }}", mode: "0640"}
    - shell: echo $HEOROT_NODE; cat; exit 3
      args: {stdin: "from the playbook"}
      register: said
      failed_when: said.rc != 3 or said.stdout_lines != [node | string, "from the playbook"]
    - fetch: {src: "DIR/to-{{ inventory_hostname }}", dest: "DIR/back/{{ inventory_hostname }}", flat: true}
"""
REFUSED = {
    "absent": (f"ansible_host=n99 {SSH}", "n99"),
    "gone": ("ansible_host=n99 ansible_connection=heorot", "n99"),
    "several": ("ansible_host=n[0-1] ansible_connection=heorot", "is a list of nodes, and a host is one"),
    "nowhere": ("ansible_connection=heorot ansible_heorot_bin=/no/such", "put Heorot's commands into PATH"),
    "secret": (
        "ansible_host=n0 ansible_connection=heorot ansible_become=true ansible_become_password=x",
        "types no passwords",
    ),
    "stranger": (
        "ansible_host=n0 ansible_connection=heorot ansible_user=no-such-user",
        "this host knows no user 'no-such-user'",
    ),
}
UNREACHABLE = {"absent", "gone", "several", "stranger"}


class Site:
    """A directory with a playbook and a file, and how Ansible is started there."""

    def __init__(self, cluster: LocalCluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        self.content = os.urandom(200_000)
        (directory / "a file").write_bytes(self.content)
        (directory / "tasks.yml").write_text(TASKS.replace("DIR", str(directory)))
        self.environment = {
            **cluster.environment,
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(directory / "ansible"),
            "ANSIBLE_REMOTE_TMP": str(directory / "remote"),
            "ANSIBLE_CONNECTION_PLUGINS": str(PLUGINS),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        }

    def run(self, program: str, hosts: dict[str, str], *words: str) -> Finished:
        """Run one of Ansible's programs on these hosts."""
        inventory = self.directory / "inventory"
        inventory.write_text("".join(f"{name} {variables}\n" for name, variables in hosts.items()))
        return self.cluster.run(
            str(BIN / program), "-i", str(inventory), *words, env=self.environment, cwd=self.directory
        )


@pytest.fixture
def site(cluster: LocalCluster, tmp_path: Path) -> Site:
    return Site(cluster, tmp_path)


def test_a_playbook_in_every_way(site: Site) -> None:
    hosts = {name: f"{variables} node={NODES[name]}" for name, variables in WAYS.items()}
    result = site.run("ansible-playbook", hosts, "tasks.yml")
    text = result.stdout.decode() + result.stderr.decode()
    assert result.returncode == 0, text
    assert "WARNING" not in text
    for name in WAYS:
        there = site.directory / f"to-{name}"
        assert there.read_bytes() == (site.directory / "back" / name).read_bytes() == site.content
        assert there.stat().st_mode & 0o777 == 0o640


def test_what_cannot_be_done_is_said(site: Site) -> None:
    hosts = {name: variables for name, (variables, _) in REFUSED.items()}
    result = site.run("ansible", hosts, "all", "-o", "-m", "raw", "-a", "true")
    assert result.returncode != 0
    said = {line.partition(" | ")[0]: line for line in result.stdout.decode().splitlines() if " | " in line}
    assert said.keys() == REFUSED.keys(), result.stdout.decode()
    for name, (_, words) in REFUSED.items():
        assert words in said[name]
        assert ("UNREACHABLE" in said[name]) == (name in UNREACHABLE), said[name]


def test_the_plugin_is_documented_where_ansible_looks(site: Site) -> None:
    result = site.cluster.run(str(BIN / "ansible-doc"), "-t", "connection", "heorot", env=site.environment)
    assert result.returncode == 0, result.stderr
    assert b"ansible_heorot_dir" in result.stdout
