"""``heorot head init``, ``token`` and ``node join`` as commands, run as a user would."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from heorot.config.files import Address, load_head
from heorot.security.authority import Authority, Identity
from heorot.security.registry import NodeRecord, Registry
from heorot.security.tokens import Token, TokenStore

MODULES = {"certificate": "certificates", "token": "tokens"}
"""Of the words that have not the name of their module."""


def command(name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"heorot.cli.admin.{MODULES.get(name, name)}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment},
    )


@pytest.fixture
def den(tmp_path: Path) -> Path:
    directory = tmp_path / "den"
    done = command(
        "head",
        "init",
        "--dir",
        directory,
        "--cluster",
        "den",
        "--listen",
        "127.0.0.1:7999",
        "--config",
        tmp_path / "head.toml",
    )
    assert (done.returncode, done.stderr) == (0, "")
    return directory


def test_head_init_makes_a_cluster_and_says_what_is_next(den: Path, tmp_path: Path) -> None:
    config = load_head(tmp_path / "head.toml")
    assert (config.cluster.id, config.cluster.directory, config.head.name) == ("den", str(den), "h0")
    assert config.head.addresses == (Address("127.0.0.1", 7999),)
    assert Identity.load(den / "heads" / "h0").name == "head:h0"
    assert stat.S_IMODE((den / "ca").stat().st_mode) == 0o700
    assert stat.S_IMODE((den / "heads" / "h0").stat().st_mode) == 0o700
    assert stat.S_IMODE(den.stat().st_mode) == 0o711
    assert not [path for path in den.rglob("*") if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_head_init_never_touches_a_cluster_that_is_there(den: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in den.rglob("*") if path.is_file()}
    again = command("head", "init", "--dir", den, "--config", tmp_path / "head.toml", "--listen", "127.0.0.1:1")
    assert again.returncode == 1
    assert (
        again.stderr == f"heorot: {tmp_path / 'head.toml'} exists already; remove it, or name another with --config\n"
    )
    again = command("head", "init", "--dir", den, "--config", tmp_path / "other.toml", "--listen", "127.0.0.1:1")
    assert again.returncode == 1
    assert "already holds a cluster's authority" in again.stderr
    assert not (tmp_path / "other.toml").exists()
    assert {path: path.read_bytes() for path in den.rglob("*") if path.is_file()} == before


def test_token_create_prints_the_token_alone(den: Path) -> None:
    done = command("token", "create", "--dir", den, "--ttl", "15m", "--uses", 3)
    token = Token.from_text(done.stdout)
    assert done.stdout == token.to_text() + "\n"
    assert token.fingerprint == Authority.load(den / "ca").fingerprint
    assert "3 hosts may join until" in done.stderr
    assert token.to_text() not in done.stderr
    (record,) = TokenStore(den).list()
    assert record.expires_at_ms - record.created_at_ms == 900_000


def test_token_create_says_as_json_which_token_it_is(den: Path) -> None:
    made = json.loads(command("token", "create", "--dir", den, "--node", 3, "--json").stdout)
    (listed,) = json.loads(command("token", "list", "--dir", den, "--json").stdout)
    assert {"token": made["token"], **listed} == made
    assert (Token.from_text(made["token"]).id.hex(), made["node"]) == (listed["id"], 3)


def test_tokens_are_listed_and_revoked(den: Path) -> None:
    command("token", "create", "--node", 4, HEOROT_DIR=str(den))
    listed = json.loads(command("token", "list", "--json", HEOROT_DIR=str(den)).stdout)
    assert [(row["uses_left"], row["node"]) for row in listed] == [(1, 4)]
    assert listed[0]["id"] in command("token", "list", "--dir", den).stdout
    assert command("token", "revoke", "--dir", den, listed[0]["id"]).returncode == 0
    again = command("token", "revoke", "--dir", den, listed[0]["id"])
    assert (again.returncode, again.stderr) == (
        1,
        f"heorot: there is no token '{listed[0]['id']}'; see: heorot token list\n",
    )


@pytest.mark.parametrize("ttl", ["0s", "1", "h", "1w", "-1h", "9999999999s", ""])
def test_a_duration_that_is_none_is_a_usage_error(tmp_path: Path, ttl: str) -> None:
    done = command("token", "create", "--dir", tmp_path, f"--ttl={ttl}")
    assert done.returncode == 2
    assert "not a duration: write 30s, 15m, 1h or 2d" in done.stderr


def test_where_there_is_no_cluster_the_error_names_the_file(tmp_path: Path) -> None:
    done = command("token", "create", "--dir", tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"heorot: cannot read the cluster's CA certificate {tmp_path}/ca/ca.pem: No such file or directory\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["h:1"], "no token: give one with --token-file, HEOROT_TOKEN or standard input"),
        (["h:1", "--token", "x"], "this is not a join token"),
        (["h:1", "--token", "heorot1.abcd"], "was not copied completely"),
        (["h:x", "--token", "x"], "'h:x' has no usable port"),
        (["h:1", "--token", "x", "--token-file", "y"], "not both"),
    ],
)
def test_node_join_refuses_what_cannot_work_and_writes_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = command("node", "join", "--dir", tmp_path / "d", "--config", tmp_path / "node.toml", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "node.toml").exists()


def test_node_join_does_not_overwrite_a_node(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("mine")
    done = command("node", "join", "--dir", tmp_path, "--config", tmp_path / "node.toml", "h:1", "--token", "x")
    assert done.returncode == 1
    assert "this host is a node already" in done.stderr
    assert (tmp_path / "node.toml").read_text() == "mine"


@pytest.mark.parametrize("name", ["head", "token", "node", "certificate"])
def test_help_is_there(name: str) -> None:
    done = command(name, "--help")
    assert done.returncode == 0
    assert f"usage: heorot {name}" in done.stdout


def test_a_head_renews_its_certificate_where_the_authority_is(den: Path, tmp_path: Path) -> None:
    configs = ("--head-config", tmp_path / "head.toml", "--node-config", tmp_path / "none.toml")
    before = Identity.load(den / "heads" / "h0")
    shown = command("certificate", "show", *configs)
    assert shown.stdout.startswith("head:h0 of cluster den: valid until ")
    (row,) = json.loads(command("certificate", "show", "--json", *configs).stdout)
    assert (row["name"], row["cluster"], row["path"]) == ("head:h0", "den", f"{den}/heads/h0/cert.pem")
    assert row["ends_at_ms"] == before.certificate.not_valid_after_utc.timestamp() * 1000
    assert row["begins_at_ms"] == before.certificate.not_valid_before_utc.timestamp() * 1000
    done = command("certificate", "renew", *configs)
    assert done.returncode == 0, done.stderr
    assert "To use it: systemctl restart heorot-head.service" in done.stdout
    after = Identity.load(den / "heads" / "h0")
    assert (after.name, after.key_pem) == (before.name, before.key_pem)
    assert after.certificate.serial_number != before.certificate.serial_number
    assert after.signing_key_pem == before.signing_key_pem


def test_a_host_that_is_nothing_has_no_certificate(tmp_path: Path) -> None:
    done = command("certificate", "show", "--head-config", tmp_path / "a", "--node-config", tmp_path / "b")
    assert done.returncode == 1
    assert "neither a head nor a node" in done.stderr


def test_nodes_are_listed_and_removed_from_the_registry(den: Path) -> None:
    Registry(den).put(NodeRecord(3, "ford\x1b[2J", "00", "t", 1_800_000_000_000))
    listed = command("node", "list", "--dir", den)
    assert "n3" in listed.stdout
    assert "\x1b" not in listed.stdout
    rows = json.loads(command("node", "list", "--dir", den, "--json").stdout)
    assert [(row["id"], row["host"], row["certificate_ends_at_ms"]) for row in rows] == [(3, "ford\x1b[2J", None)]
    Registry(den).certified(3, "00", 1_700_000_000_000)
    assert " ended " in command("node", "list", "--dir", den).stdout
    Registry(den).certified(3, "00", 4_000_000_000_000)
    assert " 2096-10-" in command("node", "list", "--dir", den).stdout
    # That of a key which the number had before says nothing of it.
    Registry(den).certified(3, "01", 5_000_000_000_000)
    assert json.loads(command("node", "list", "--dir", den, "--json").stdout)[0]["certificate_ends_at_ms"] == 4 * 10**12
    assert command("node", "remove", "--dir", den, 4).stderr == "heorot: there is no node n4; see: heorot node list\n"
    assert command("node", "remove", "--dir", den, 3).returncode == 0
    assert Registry(den).nodes() == {}
