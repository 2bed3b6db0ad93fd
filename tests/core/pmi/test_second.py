"""Ranks that speak PMI-2: over the same dictionary and the same barriers as those that speak PMI-1."""

from __future__ import annotations

import pytest

from heorot.core.pmi.job import Abort, PmiJob
from heorot.core.pmi.messages import message_fields, take_message
from heorot.core.pmi.second import MAX_LOOKS
from heorot.core.pmi.states import CUT, INSIDE, LEFT, MUTE, SILENT, WAITING
from tests.core.pmi.test_job import job, say

INIT = "cmd=init pmi_version=2 pmi_subversion=0"


def message(*pairs: str) -> bytes:
    """Return a message: ``message("kvs-put", "key=a", "value=b")``."""
    body = "".join(f"{pair};" for pair in (f"cmd={pairs[0]}", *pairs[1:])).encode()
    return b"%-6d" % len(body) + body


def told(made: PmiJob) -> dict[int, list[dict[str, str]]]:
    """Return what each rank is told now, which must be messages."""
    found: dict[int, list[dict[str, str]]] = {}
    for number, data in made.take_answers():
        heard = bytearray(data)
        while (body := take_message(heard)) is not None:
            fields = {name.decode(): value.decode() for name, value in message_fields(body).items()}
            found.setdefault(number, []).append(fields)
        assert heard == b""
    return found


def ask(made: PmiJob, rank: int, *pairs: str) -> dict[str, str]:
    """Let a rank ask; return the one answer."""
    made.hear(rank, message(*pairs))
    ((number, (said,)),) = told(made).items()
    assert number == rank
    assert said.pop("cmd") == f"{pairs[0]}-response"
    return said


def inside(made: PmiJob, *ranks: int) -> None:
    """Let ranks go inside."""
    for rank in ranks:
        assert say(made, rank, INIT) == "cmd=response_to_init rc=0 pmi_version=2 pmi_subversion=0\n"
        ask(made, rank, "fullinit", f"pmirank={rank}", "threaded=FALSE")


def test_a_rank_learns_what_its_library_asks_for_first() -> None:
    made = job()
    made.hear(1, INIT.encode() + b"\n" + message("fullinit", "pmirank=1", "threaded=TRUE"))
    ((_, said),) = made.take_answers()
    line, _, rest = said.partition(b"\n")
    assert line == b"cmd=response_to_init rc=0 pmi_version=2 pmi_subversion=0"
    assert message_fields(take_message(bytearray(rest)) or b"") == {
        b"cmd": b"fullinit-response", b"rc": b"0", b"pmi-version": b"2", b"pmi-subversion": b"0", b"rank": b"1",
        b"size": b"4", b"appnum": b"0", b"debugged": b"FALSE", b"pmiverbose": b"FALSE",
    }  # fmt: skip
    assert made.ranks[1].state is INSIDE
    assert ask(made, 1, "job-getid", "thrid=0x1") == {"rc": "0", "thrid": "0x1", "jobid": "kvs"}
    assert ask(made, 1, "info-getjobattr", "key=PMI_process_mapping")["value"] == "(vector,(0,2,2))"
    assert ask(made, 1, "info-getjobattr", "key=universeSize") == {"rc": "0", "found": "TRUE", "value": "4"}
    assert ask(made, 1, "info-getjobattr", "key=physTopology") == {"rc": "0", "found": "FALSE"}


def test_ranks_of_both_versions_are_in_one_barrier_and_have_one_dictionary() -> None:
    made = job()
    inside(made, 0)
    say(made, 1, "cmd=init pmi_version=1 pmi_subversion=1", "cmd=put key=one value=of 1")
    assert ask(made, 0, "kvs-put", "key=two", "value=of 0;;") == {"rc": "0"}
    made.hear(0, message("kvs-fence", "thrid=0x5"))
    assert (made.take_answers(), made.ranks[0].state) == ([], WAITING)
    # Another thread of it may ask meanwhile, and may put nothing.
    assert ask(made, 0, "kvs-get", "key=two")["value"] == "of 0;"
    assert ask(made, 0, "kvs-put", "key=three", "value=x")["rc"] == "-1"
    assert say(made, 1, "cmd=barrier_in") == ""
    assert made.take_contribution() == [b"one", b"of 1", b"two", b"of 0;"]
    made.scattered(0, 0, 1, [b"one", b"of 1", b"two", b"of 0;", b"far", b"away"])
    assert dict(made.take_answers()) == {
        0: b"    38cmd=kvs-fence-response;thrid=0x5;rc=0;",
        1: b"cmd=barrier_out rc=0\n",
    }
    assert ask(made, 0, "kvs-get", "jobid=kvs", "srcid=-1", "key=far") == {"rc": "0", "found": "TRUE", "value": "away"}
    assert ask(made, 0, "kvs-get", "jobid=kvs", "srcid=-1", "key=none") == {"rc": "0", "found": "FALSE"}
    assert ask(made, 0, "kvs-get", "jobid=other", "key=far")["rc"] == "-1"
    assert say(made, 1, "cmd=get key=two") == "cmd=get_result rc=0 value=of 0;\n"


def test_what_ranks_of_a_node_tell_each_other_is_waited_for() -> None:
    made = job()
    inside(made, 0, 1)
    assert ask(made, 0, "info-getnodeattr", "key=segment", "wait=FALSE") == {"rc": "0", "found": "FALSE"}
    made.hear(0, message("info-getnodeattr", "thrid=0x1", "key=segment", "wait=TRUE"))
    made.hear(0, message("info-getnodeattr", "thrid=0x2", "key=another", "wait=TRUE"))
    assert made.take_answers() == []
    made.hear(1, message("info-putnodeattr", "key=segment", "value=/x"))
    assert told(made) == {
        1: [{"cmd": "info-putnodeattr-response", "rc": "0"}],
        0: [{"cmd": "info-getnodeattr-response", "thrid": "0x1", "rc": "0", "found": "TRUE", "value": "/x"}],
    }
    assert ask(made, 1, "info-getnodeattr", "key=segment", "wait=TRUE")["value"] == "/x"
    assert ask(made, 1, "info-putnodeattr", "key=segment", "value=/y")["errmsg"].endswith("another value")
    # It is of this node alone, and travels nowhere.
    assert made.contribution() == []


def test_so_many_threads_may_wait_and_no_more() -> None:
    made = job()
    inside(made, 0)
    for number in range(MAX_LOOKS):
        made.hear(0, message("info-getnodeattr", f"key={number}", "wait=TRUE"))
    assert made.take_answers() == []
    assert ask(made, 0, "info-getnodeattr", "key=more", "wait=TRUE")["rc"] == "-1"
    made = job()
    inside(made, 0)
    assert ask(made, 0, "info-getnodeattr", f"key={'k' * 65}", "wait=TRUE")["rc"] == "-1"


@pytest.mark.parametrize(
    "command",
    ["spawn", "name-publish", "name-unpublish", "name-lookup", "job-connect", "job-disconnect", "of-tomorrow"],
)
def test_what_is_not_served_is_refused_by_name_and_the_rank_goes_on(command: str) -> None:
    made = job()
    inside(made, 0)
    said = ask(made, 0, command, "thrid=0x9", "name=a", "port=b")
    assert said == {"thrid": "0x9", "rc": "-1", "errmsg": f"{command} is not served by Heorot"}
    assert ask(made, 0, "job-getid")["jobid"] == "kvs"


@pytest.mark.parametrize("put", ["key=", "key=PMI_mine", f"key={'k' * 65}", "key=a b", "key=a\nb", "key=\t"])
@pytest.mark.parametrize("command", ["kvs-put", "info-putnodeattr"])
def test_keys_that_may_not_be_put_are_refused(command: str, put: str) -> None:
    made = job()
    inside(made, 0)
    if (command, put) != ("info-putnodeattr", "key=PMI_mine"):
        assert ask(made, 0, command, put, "value=b")["rc"] == "-1"
        assert (made.dictionary.own, made.dictionary.here) == ({}, {})


@pytest.mark.parametrize("value", ["v" * 1025, "two\nlines"])
def test_values_that_may_not_be_put_are_refused(value: str) -> None:
    made = job()
    inside(made, 0)
    assert ask(made, 0, "kvs-put", "key=a", f"value={value}")["rc"] == "-1"
    assert ask(made, 0, "info-putnodeattr", "key=a", f"value={value}")["rc"] == "-1"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"hello!",
        b"cmd=get_appnum\n",
        b"8     cmd=x;y ",
        message("kvs-fence"),
        message("job-getid"),
        b"999999" + b"x" * 9,
    ],
)
def test_nonsense_costs_a_rank_its_own_connection_and_nothing_else(nonsense: bytes) -> None:
    made = job()
    say(made, 0, INIT)
    made.hear(0, nonsense)
    assert made.take_cut() == [0]
    assert made.ranks[0].state is MUTE
    made.take_answers()
    made.gone(0, "ended with status 0", 0)
    assert made.abort is None
    assert say(made, 1, "cmd=get_appnum") == "cmd=appnum rc=0 appnum=0\n"


@pytest.mark.parametrize(
    "said", [message("fullinit"), message("kvs-fence") * 2, message("kvs-fence") + message("finalize")]
)
def test_who_was_inside_and_says_nonsense_is_missed(said: bytes) -> None:
    made = job()
    inside(made, 0)
    made.hear(0, said)
    assert made.take_cut() == [0]
    assert made.ranks[0].state is CUT


def test_abort_ends_the_job_with_its_status() -> None:
    made = job()
    inside(made, 1)
    made.hear(1, message("abort", "isworld=TRUE", "exitcode=5", "msg=enough"))
    assert made.abort == Abort(1, 5, "rank 1 on n7 called MPI_Abort with 5")


def test_finalize_is_an_end_and_a_new_beginning_in_either_version() -> None:
    made = job()
    inside(made, 0)
    assert ask(made, 0, "finalize") == {"rc": "0"}
    assert made.ranks[0].state is LEFT
    inside(made, 0)
    ask(made, 0, "finalize")
    say(made, 0, "cmd=init pmi_version=1 pmi_subversion=1", "cmd=finalize")
    made.gone(0, "ended with status 0", 0)
    assert made.abort is None


def test_who_begins_and_does_not_go_on_is_not_inside() -> None:
    made = job()
    say(made, 0, INIT)
    assert made.ranks[0].state is SILENT
    made.gone(0, "ended with status 0", 0)
    assert made.abort is None


def test_no_message_is_answered_aside() -> None:
    made = job()
    inside(made, 0)
    assert made.answer_aside(0, b"cmd=get_appnum\n") == b""


def test_what_is_told_on_one_node_is_counted_and_given_back() -> None:
    made = job(1, 2)
    inside(made, 0)
    while ask(made, 0, "info-putnodeattr", f"key={len(made.dictionary.here)}", f"value={'v' * 1000}")["rc"] == "0":
        assert len(made.dictionary.here) < 100
    ask(made, 0, "finalize")
    made.gone(0, "ended with status 0", 0)
    assert made.dictionary.here == {}
