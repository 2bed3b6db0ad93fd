"""The configuration files: what is written reads back, and every mistake is named with its place."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.config.files import Address, ConfigError, HeadFile, load_head, load_node, parse_address
from heorot.config.text import render_head, render_node

HEAD = render_head(
    cluster="den",
    directory="/var/lib/heorot",
    name="h0",
    listen=Address("0.0.0.0", 7733),
    addresses=[Address("10.0.0.1", 7733), Address("fd00::1", 7733)],
)
NODE = render_node(
    cluster="den",
    directory="/var/lib/heorot",
    number=7,
    listen=Address("10.0.0.7", 7734),
    heads=[Address("10.0.0.1", 7733)],
)


def load_text(directory: Path, text: str) -> HeadFile:
    path = directory / "head.toml"
    path.write_text(text)
    return load_head(path)


def test_a_new_head_file_reads_back_with_every_default(tmp_path: Path) -> None:
    config = load_text(tmp_path, HEAD)
    assert config.cluster.id == "den"
    assert config.head.addresses == (Address("10.0.0.1", 7733), Address("fd00::1", 7733))
    assert (config.head.listen, config.head.socket) == (Address("0.0.0.0", 7733), "/run/heorot/head.sock")
    assert (config.tree.fanout, config.limits.max_jobs, config.timers.heartbeat_ms) == (32, 4096, 10_000)


def test_every_key_that_is_shown_as_a_comment_can_be_used(tmp_path: Path) -> None:
    def uncomment(line: str) -> str:
        name, equals, _ = line.removeprefix("# ").partition(" = ")
        return line.removeprefix("# ") if equals and name.replace("_", "").isalnum() else line

    text = "\n".join(map(uncomment, HEAD.splitlines()))
    config = load_text(tmp_path, text)
    assert config.groups == {"rack1": "n0-n31"}
    assert text.count("\n#") < HEAD.count("\n#") - 8
    assert load_text(tmp_path, HEAD).timers == config.timers
    assert load_text(tmp_path, HEAD).limits == config.limits


def test_a_new_node_file_reads_back(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(NODE)
    config = load_node(tmp_path / "node.toml")
    assert (config.cluster.id, config.node.number, config.node.listen) == ("den", 7, Address("10.0.0.7", 7734))
    assert config.node.heads == (Address("10.0.0.1", 7733),)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[tree]", "[tree]\nfanuot = 3", r"head\.toml: \[tree\] unknown key 'fanuot'; did you mean 'fanout'\?"),
        ("[tree]", "[tree]\nfanout = '3'", r"\[tree\] fanout: expected a whole number, found '3'"),
        ("[tree]", "[tree]\nfanout = true", r"\[tree\] fanout: expected a whole number, found True"),
        ("[tree]", "[tree]\nfanout = 1", r"\[tree\] fanout: 1 is out of range: use 2 to 1024"),
        ("[tree]", "[trees]", r"unknown section 'trees'; did you mean 'tree'\?"),
        ("[tree]", "[tree]\n[tree.x]", r"\[tree\] unknown key 'x'; known are fanout"),
        ('id = "den"', "", r"\[cluster\] id is missing"),
        ('id = "den"', "id = 7", r"\[cluster\] id: expected a text in quotes, found 7"),
        ('id = "den"', 'id = ""', r"\[cluster\] id: expected a text in quotes, found an empty one"),
        ('id = "den"', 'id = "den"\nlog_level = "loud"', r"log_level: 'loud' is none of debug, info, warning, error"),
        ('"0.0.0.0:7733"', '"0.0.0.0"', r"\[head\] listen: '0.0.0.0' has no port: write HOST:PORT"),
        ('"10.0.0.1:7733"', '"10.0.0.1:77330"', r"\[head\] addresses: '10.0.0.1:77330' has no usable port"),
        ('["10.0.0.1:7733", "[fd00::1]:7733"]', "[]", r"\[head\] addresses: expected a list of addresses"),
        ("[groups]", "[groups]\nx = 1", r"\[groups\] x: expected a node list such as .*, found 1"),
        (
            "[timers]",
            "[timers]\nheartbeat_ms = 20000",
            r"link_timeout_ms \(30000\) must be at least twice heartbeat_ms",
        ),
        ("[tree]", "[tree", r"head\.toml is not valid TOML: .*line "),
    ],
)
def test_every_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in HEAD
    with pytest.raises(ConfigError, match=message):
        load_text(tmp_path, HEAD.replace(old, new, 1))


def test_a_section_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[tree\] must be a section, not 3"):
        load_text(tmp_path, "tree = 3\n" + HEAD.replace("[tree]", ""))


def test_a_missing_a_binary_and_a_deep_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*head\.toml: No such file"):
        load_head(tmp_path / "head.toml")
    for data in (b"\xff\xfe", b"x = " + b"[" * 50_000):
        (tmp_path / "node.toml").write_bytes(data)
        with pytest.raises(ConfigError, match="is not valid TOML"):
            load_node(tmp_path / "node.toml")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("a:1", "a", 1),
        ("a", "a", 99),
        ("[::1]:5", "::1", 5),
        ("[::1]", "::1", 99),
        ("::1", "::1", 99),
        ("10.0.0.1:65535", "10.0.0.1", 65535),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = parse_address(text, 99)
    assert address == Address(host, port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", ":1", "a:", "a:0", "a:65536", "a:x", "a:-1", "a:٣", "[::1", "[::1]x", "[]:1", "a b:1", "[::1]:"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"address|port"):
        parse_address(text, 99)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives_being_written(text: str) -> None:
    rendered = render_node(cluster=text, directory=text, number=1, listen=Address("a", 1), heads=[Address("b", 2)])
    cluster = tomllib.loads(rendered)["cluster"]
    assert (cluster["id"], cluster["directory"]) == (text, text)
