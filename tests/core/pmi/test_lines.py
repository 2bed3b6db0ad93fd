"""Lines of PMI-1, as MPICH's clients write them and read them."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.pmi.lines import MAX_VALUE_BYTES, answer_line, fields_of, number_of


def test_a_line_is_its_fields_and_a_value_may_hold_what_it_likes() -> None:
    assert fields_of(b"cmd=init pmi_version=1 pmi_subversion=1") == {
        b"cmd": b"init", b"pmi_version": b"1", b"pmi_subversion": b"1",
    }  # fmt: skip
    assert (
        fields_of(b"cmd=put kvsname=kvs_1 key=bc-3 value=tcp;ifname=eth0 port==7 ")[b"value"]
        == b"tcp;ifname=eth0 port==7 "
    )
    assert fields_of(b"cmd=barrier_in") == {b"cmd": b"barrier_in"}
    assert fields_of(b"cmd=abort exitcode=3 message with spaces")[b"exitcode"] == b"3"


@pytest.mark.parametrize("line", [b"", b"hello", b"mcmd=put", b"cmd= key=1", b" cmd=init", b"\0\xff"])
def test_what_is_no_line_of_pmi_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        fields_of(line)


def test_an_answer_says_first_what_it_answers_and_whether_it_worked() -> None:
    assert answer_line(b"maxes", kvsname_max=256, keylen_max=64) == b"cmd=maxes rc=0 kvsname_max=256 keylen_max=64\n"
    assert answer_line(b"get_result", value=b"a b") == b"cmd=get_result rc=0 value=a b\n"
    assert answer_line(b"put_result", "no room here") == b"cmd=put_result rc=-1 msg=no_room_here\n"
    # Clients split a line at its spaces, and read bytes.
    assert answer_line(b"put_result", "größer").isascii()


@pytest.mark.parametrize(("text", "number"), [(b"7", 7), (b"-1", -1), (b"", 5), (b"x", 5), (b"9" * 30, 5), (b"-", 5)])
def test_a_number_that_is_none_is_the_default(text: bytes, number: int) -> None:
    assert number_of({b"exitcode": text}, b"exitcode", 5) == number
    assert number_of({}, b"exitcode", 5) == 5


def test_the_longest_put_fits_into_a_line() -> None:
    line = b"cmd=put kvsname=%s key=%s value=%s" % (b"n" * 256, b"k" * 64, b"v" * MAX_VALUE_BYTES)
    assert len(fields_of(line)[b"value"]) == MAX_VALUE_BYTES
