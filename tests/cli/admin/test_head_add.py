"""``heorot head add`` and ``heorot head join`` as commands, run as a user would."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from heorot.cli.admin.head_remove import check_rest
from heorot.config.files import Address, load_head
from heorot.core.errors import HeorotError, SecurityError
from heorot.security.authority import Authority, Identity
from heorot.security.bundle import read_bundle
from heorot.security.head_registry import HeadRegistry
from heorot.security.registry import FILE_NAME, NodeRecord, Registry
from tests.cli.admin.test_commands import command

STORE = """[store]
kind = "etcd"
endpoints = ["https://10.0.0.11:2379"]
user = "it's \\"me\\""
password_file = "/nowhere/password"
"""
SHARED = '[timers]\nheartbeat_ms = 200\nlink_timeout_ms = 1000\n[groups]\n"odd one" = "n1,n3"\n'


class Host:
    """A directory that stands for a host's disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "etc" / "head.toml"
        self.state = directory / "var"
        self.bundle = directory / "bundle"

    def add(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return command("head_add", "add", "--config", self.config, "--output", self.bundle, *arguments)

    def join(self, bundle: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        return command("head_add", "join", bundle, "--config", self.config, "--dir", self.state, *arguments)

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}


def listed(host: Host) -> list[tuple[str, str, int]]:
    """Return the heads that are to be, as that host knows them."""
    return [(head.name, head.host, head.port) for head in HeadRegistry(host.state).listed()]


@pytest.fixture
def first(tmp_path: Path) -> Host:
    host = Host(tmp_path / "first")
    done = command(
        "head", "init", "--dir", host.state, "--cluster", "den", "--listen", "10.0.0.1:7999", "--config", host.config,
        "--capacity", 77, "--socket", host.state / "head.sock",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    text = host.config.read_text().replace("[store]\n", STORE).replace("[groups]\n", "")
    host.config.write_text(text.replace("[timers]\n", SHARED))
    Registry(host.state).put(NodeRecord(3, "ford", "00", "t", 1_800_000_000_000))
    return host


@pytest.fixture
def second(tmp_path: Path) -> Host:
    (tmp_path / "second").mkdir()
    return Host(tmp_path / "second")


def test_a_second_host_becomes_a_head_of_the_cluster(first: Host, second: Host) -> None:
    done = first.add("h1", "--address", "10.0.0.2")
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(first.bundle.stat().st_mode) == 0o600
    both = (Address("10.0.0.1", 7999), Address("10.0.0.2", 7733))
    assert load_head(first.config).head.addresses == both[:1]
    joined = second.join(first.bundle)
    assert (joined.returncode, joined.stderr) == (0, "")
    assert f"rm {first.bundle}" in joined.stdout
    assert "copy from the first head's host, for etcd: /nowhere/password" in joined.stdout
    ours, theirs = load_head(first.config), load_head(second.config)
    assert (theirs.head.name, theirs.head.listen, theirs.head.addresses) == ("h1", Address("0.0.0.0", 7733), both)
    assert (theirs.cluster.id, theirs.cluster.capacity, theirs.cluster.directory) == ("den", 77, str(second.state))
    assert (theirs.store, theirs.timers, theirs.groups) == (ours.store, ours.timers, ours.groups)
    assert Registry(second.state).nodes() == Registry(first.state).nodes()
    identity = Identity.load(second.state / "heads" / "h1")
    assert (identity.name, identity.cluster) == ("head:h1", "den")
    # Its own key, of the same authority; and it can make further heads itself.
    assert identity.key_pem != Identity.load(first.state / "heads" / "h0").key_pem
    assert Authority.load(second.state / "ca").secret_files() == Authority.load(first.state / "ca").secret_files()
    private = [path for path in second.state.rglob("*") if path.is_file()]
    assert not [path for path in private if stat.S_IMODE(path.stat().st_mode) & 0o077]
    # What is secret stands in the bundle and in no text.
    for secret in (Authority.load(first.state / "ca").secret_files()["ca.key"], identity.key_pem):
        key = secret.decode().splitlines()[1]
        assert key not in done.stdout + joined.stdout
    third = second.add("h2", "--address", "10.0.0.3:1")
    assert third.returncode == 0, third.stderr
    assert listed(second) == [("h1", "10.0.0.2", 7733), ("h2", "10.0.0.3", 1), ("", "10.0.0.1", 7999)]


def test_nothing_is_overwritten(first: Host, second: Host) -> None:
    assert first.add("h1", "--address", "10.0.0.2").returncode == 0
    before = first.files()
    again = first.add("h2", "--address", "10.0.0.3")
    assert again.returncode == 1
    assert f"{first.bundle} exists already; remove it, or name another file with --output" in again.stderr
    assert first.files() == before
    assert second.join(first.bundle).returncode == 0
    before = second.files()
    assert "exists already; remove it, or name another with --config" in second.join(first.bundle).stderr
    second.config.unlink()
    for path in ("ca/ca.pem", "ca/signing.key", FILE_NAME, "heads/other"):
        present = second.state / path
        content = present.read_bytes() if present.exists() else b""
        present.write_bytes(b"of another cluster")
        refused = second.join(first.bundle)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"{second.state} holds a head already: {present} exists" in refused.stderr
        assert present.read_bytes() == b"of another cluster"
        present.write_bytes(content) if content else present.unlink()
    del before[second.config]
    assert second.files() == before


def test_an_interrupted_join_is_done_again(first: Host, second: Host) -> None:
    assert first.add("h1", "--address", "10.0.0.2").returncode == 0
    assert second.join(first.bundle).returncode == 0
    whole = second.files()
    identity = second.state / "heads" / "h1"
    for lost in (identity / "cert.pem", second.state / FILE_NAME, second.state / "ca" / "ca.key"):
        # As if it had ended before this was written; the configuration is last.
        lost.unlink()
        second.config.unlink()
        again = second.join(first.bundle)
        assert (again.returncode, again.stderr) == (0, "")
        own = {identity / "cert.pem", identity / "key.pem"}
        now = second.files()
        assert now.keys() == whole.keys()
        assert {path for path in now if now[path] != whole[path]} <= own


def test_a_directory_that_was_there_keeps_its_mode(first: Host, second: Host) -> None:
    assert first.add("h1", "--address", "10.0.0.2").returncode == 0
    second.state.mkdir(mode=0o700)
    assert second.join(first.bundle).returncode == 0
    assert second.state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["h0", "--address", "10.0.0.2"], "the head on this host is called h0 itself"),
        (["h/1", "--address", "10.0.0.2"], "'h/1' cannot be a head's name"),
        (["h1", "--address", "10.0.0.2:x"], "'10.0.0.2:x' has no usable port"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_written(first: Host, arguments: list[str], message: str) -> None:
    before = first.files()
    done = first.add(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert first.files() == before


def test_heads_on_several_hosts_need_etcd(first: Host) -> None:
    first.config.write_text(first.config.read_text().replace('kind = "etcd"', 'kind = "local"'))
    done = first.add("h1", "--address", "10.0.0.2")
    assert done.returncode == 1
    assert "heads on several hosts need etcd to agree who leads: fill in [store]" in done.stderr
    assert not first.bundle.exists()


def test_the_new_head_is_in_the_registry_and_the_configuration_stays(first: Host, second: Host) -> None:
    text = first.config.read_text()
    assert first.add("h1", "--address", "[fe80::1]:2").returncode == 0
    assert first.config.read_text() == text
    assert listed(first) == [("h0", "10.0.0.1", 7999), ("h1", "fe80::1", 2)]
    assert stat.S_IMODE((first.state / "heads.json").stat().st_mode) == 0o600
    assert second.join(first.bundle).returncode == 0
    assert load_head(second.config).head.addresses == (Address("10.0.0.1", 7999), Address("fe80::1", 2))
    # A bundle that was lost is made again.
    first.bundle.unlink()
    assert first.add("h1", "--address", "[fe80::1]:2").returncode == 0
    first.bundle.unlink()
    for name, address, why in (
        ("h1", "10.0.0.9", "there is a head h1 at [fe80::1]:2"),
        ("h2", "[fe80::1]:2", "[fe80::1]:2 is the address of the head h1"),
    ):
        done = first.add(name, "--address", address)
        assert (done.returncode, done.stdout) == (1, "")
        assert why in done.stderr
        assert not first.bundle.exists()


def test_add_says_that_nobody_tells_the_nodes_while_no_head_runs(first: Host) -> None:
    done = first.add("h1", "--address", "10.0.0.2")
    assert (
        "The nodes are told of 10.0.0.2:7733 as soon as a head is active: no head runs on this host now." in done.stdout
    )


def remove(host: Host, *arguments: object) -> subprocess.CompletedProcess[str]:
    return command("head_remove", "remove", "--config", host.config, *arguments)


def test_a_head_is_removed_by_its_name_or_address_and_stays_removed(first: Host) -> None:
    for name, address in (("h1", "10.0.0.2"), ("h2", "10.0.0.3")):
        assert first.add(name, "--address", address).returncode == 0
        first.bundle.unlink()
    done = remove(first, "h1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nobody can say whether all nodes know another head than h1: " in done.stderr
    assert "or use --force" in done.stderr
    done = remove(first, "--force", "h1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("h1 at 10.0.0.2:7733 is removed")
    assert f"rm -r {first.state}/ca {first.state}/heads " in done.stdout
    assert listed(first) == [("h0", "10.0.0.1", 7999), ("h2", "10.0.0.3", 7733)]
    done = remove(first, "--force", "h1")
    assert (done.returncode, done.stderr) == (1, "heorot: there is no head h1; there is h0, h2\n")
    assert remove(first, "--force", "10.0.0.3:7733").returncode == 0
    # What the configuration names is the beginning, and does not bring a removed head back.
    assert remove(first, "--force", "h0").returncode == 1
    assert first.add("h1", "--address", "10.0.0.2").returncode == 0
    assert listed(first) == [("h0", "10.0.0.1", 7999), ("h1", "10.0.0.2", 7733)]
    assert remove(first, "--force", "h0").returncode == 0
    assert remove(first, "--force", "h1").returncode == 1
    assert listed(first) == [("h1", "10.0.0.2", 7733)]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_bundle_that_others_may_read_is_refused(first: Host, second: Host, mode: int) -> None:
    assert first.add("h1", "--address", "10.0.0.2").returncode == 0
    first.bundle.chmod(mode)
    done = second.join(first.bundle)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"others may read {first.bundle} (mode {mode:o})" in done.stderr
    assert second.files() == {}


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", "cut", "version", "authority", "other", "capacity", "section"]
)
def test_a_bundle_that_is_none_is_one_error_without_a_secret(first: Host, second: Host, damage: str) -> None:
    assert first.add("h1", "--address", "10.0.0.2").returncode == 0
    text = first.bundle.read_text()
    value = json.loads(text)
    key = value["authority"]["ca.key"].splitlines()[1]
    if damage == "cut":
        text = text[:1000]
    elif damage == "version":
        text = json.dumps({**value, "version": 2})
    elif damage == "authority":
        text = json.dumps({**value, "authority": {**value["authority"], "ca.key": "x" + key}})
    elif damage == "other":
        Authority.create(second.directory.parent / "other")
        other = (second.directory.parent / "other" / "ca.key").read_text()
        text = json.dumps({**value, "authority": {**value["authority"], "ca.key": other}})
    elif damage == "capacity":
        text = json.dumps({**value, "capacity": 10**9})
    elif damage == "section":
        text = json.dumps({**value, "settings": {"store": {"kind": "zookeeper"}}})
    else:
        text = damage
    first.bundle.write_text(text)
    done = second.join(first.bundle)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("heorot: ")
    assert done.stderr.count("\n") == 1
    assert key not in done.stderr
    assert second.files() == {}


def test_a_bundle_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(SecurityError, match="cannot read the bundle"):
        read_bundle(tmp_path / "none")
    with pytest.raises(SecurityError, match=r"cannot read the bundle|no file"):
        read_bundle(tmp_path)
    with pytest.raises(SecurityError, match="no file"):
        read_bundle(Path("/dev/null"))


def shown(others: list[dict[str, Any]], down: tuple[int, ...] = ()) -> dict[str, Any]:
    """Return what heorot status shows of a cluster with the heads h0, which leads, and h1."""
    return {
        "heads": [{"name": "h0", "role": "active"}, {"name": "h1", "role": "standby"}],
        "head_list": {"heads": [{"name": "h0", "address": "a:1"}, {"name": "h1", "address": "b:1"}], "others": others},
        "nodes": [{"id": node, "state": "down" if node in down else "up"} for node in range(8)],
    }


def test_a_head_that_leads_is_not_removed() -> None:
    with pytest.raises(HeorotError, match="h0 is the active head; first, on its host: heorot head switch"):
        check_rest(shown([]), {"a:1": "h0"}, "h0")


@pytest.mark.parametrize("kept", [None, [], [{"name": "h1", "address": "b:1"}]], ids=["old", "unsure", "alone"])
def test_a_head_that_nodes_may_know_alone_is_not_removed(kept: list[dict[str, str]] | None) -> None:
    fine = {"nodes": [1], "heads": [{"name": "h0", "address": "a:1"}]}
    with pytest.raises(HeorotError, match=r"n\[2,4\] may know no other head than h1"):
        check_rest(shown([fine, {"nodes": [4, 2], "heads": kept}]), {"b:1": "h1"}, "h1")
    assert check_rest(shown([fine]), {"b:1": "h1"}, "h1") == []


def test_nodes_that_cannot_be_told_now_are_named() -> None:
    (note,) = check_rest(shown([], down=(3, 5)), {"b:1": "h1"}, "h1")
    assert note.startswith("n[3,5] cannot be told now. Who knows no other head than h1 needs one in heads of node.toml")
