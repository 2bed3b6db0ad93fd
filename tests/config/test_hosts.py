"""A hosts file with a part of Heorot's: what others have written stays, and counts first."""

from __future__ import annotations

from pathlib import Path

from heorot.config.hosts import (
    BEGIN,
    END,
    LOCAL,
    MAX_OWN_BYTES,
    defined_names,
    line_of,
    loopback_address,
    own_text,
    with_part,
    without_part,
)

OWN = "127.0.0.1 localhost\n10.0.0.9 Data # n7 is not meant here\n"
NODES = [("10.0.0.1", ["c1", "n1"]), ("10.0.0.2", ["data", "n2"]), ("10.0.0.3", ["localhost"])]


def test_a_part_is_added_and_a_name_that_is_defined_already_is_left_out() -> None:
    assert with_part(OWN, NODES) == f"{OWN}{BEGIN}\n10.0.0.1 c1 n1\n10.0.0.2 n2\n{END}\n"
    assert defined_names(OWN) == {"localhost", "data"}
    assert line_of("10.0.0.3", ["N3"], {"n3"}) == ""


def test_the_part_is_taken_out_wherever_it_is_and_however_often() -> None:
    assert without_part(with_part(OWN, NODES)) == OWN
    twice = with_part(with_part("", NODES) + OWN, NODES)
    assert without_part(twice) == OWN
    assert without_part(f"{OWN}{BEGIN}\n10.0.0.1 n1\n") == OWN, "the end is missing"
    assert without_part("10.0.0.1 a") == "10.0.0.1 a\n"
    assert without_part("") == ""


def test_a_file_is_read_that_is_not_there_or_is_no_text_or_has_no_end(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    assert own_text(str(file)) == LOCAL
    file.write_bytes(b"10.0.0.1 caf\xe9\n")
    assert own_text(str(file)).encode("utf-8", "surrogateescape") == b"10.0.0.1 caf\xe9\n"
    file.write_text("10.0.0.1 name\n" * (MAX_OWN_BYTES // 14 + 1))
    assert own_text(str(file)) == "10.0.0.1 name\n" * (MAX_OWN_BYTES // 14)
    file.write_text(with_part(OWN, NODES))
    assert own_text(str(file)) == OWN


def test_each_node_of_an_embedded_cluster_has_an_address_of_its_own() -> None:
    assert [loopback_address(node) for node in (0, 3, 255, 256, 4095)] == [
        "127.1.0.0",
        "127.1.0.3",
        "127.1.0.255",
        "127.1.1.0",
        "127.1.15.255",
    ]
