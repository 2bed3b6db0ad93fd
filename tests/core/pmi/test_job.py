"""The ranks of a job on one node: what each is answered, when barriers open, and what ends the job."""

from __future__ import annotations

import pytest

from heorot.core.pmi.dictionary import Dictionary
from heorot.core.pmi.job import Abort, PmiJob
from heorot.core.pmi.lines import MAX_LINE_BYTES
from heorot.core.pmi.states import CUT, INSIDE, LEFT, MUTE, SILENT

MAPPING = b"(vector,(0,2,2))"


def job(ranks: int = 2, size: int = 4) -> PmiJob:
    """Return a job with its first ranks on this node."""
    dictionary = Dictionary(lambda size_bytes: "", lambda size_bytes: "")
    return PmiJob(b"kvs", size, list(range(ranks)), "n7", MAPPING, dictionary)


def say(made: PmiJob, rank: int, *words: str) -> str:
    """Let a rank say lines; return what it is answered."""
    made.hear(rank, "".join(f"{word}\n" for word in words).encode())
    return b"".join(data for number, data in made.take_answers() if number == rank).decode()


def entered(made: PmiJob, *ranks: int) -> None:
    """Let ranks go inside, and into a barrier."""
    for rank in ranks:
        if made.ranks[rank].state is SILENT:
            say(made, rank, "cmd=init pmi_version=1 pmi_subversion=1")
        assert say(made, rank, "cmd=barrier_in") == ""


def test_a_rank_learns_what_its_library_asks_for_first() -> None:
    made = job()
    said = say(
        made, 1, "cmd=init pmi_version=1 pmi_subversion=1", "cmd=get_maxes", "cmd=get_appnum", "cmd=get_my_kvsname",
        "cmd=get_universe_size", "cmd=get kvsname=kvs key=PMI_process_mapping",
        "cmd=get kvsname=kvs key=PMI_hwloc_xmlfile",
    )  # fmt: skip
    assert said.splitlines() == [
        "cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=2",
        "cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=1024",
        "cmd=appnum rc=0 appnum=0",
        "cmd=my_kvsname rc=0 kvsname=kvs",
        "cmd=universe_size rc=0 size=4",
        "cmd=get_result rc=0 value=(vector,(0,2,2))",
        "cmd=get_result rc=0 value=unavailable",
    ]


def test_lines_may_come_in_pieces_of_any_size() -> None:
    made = job()
    for byte in b"cmd=init pmi_version=1 pmi_subversion=1\ncmd=get_appn":
        made.hear(0, bytes([byte]))
    made.hear(0, b"um\n")
    assert dict(made.take_answers())[0].count(b"\n") == 2


QUESTIONS = (
    "cmd=get_maxes", "cmd=get_appnum", "cmd=get_my_kvsname", "cmd=get_universe_size", "cmd=get key=card-9",
    "cmd=get kvsname=kvs key=card-0", "cmd=get kvsname=kvs key=card-9", "cmd=get kvsname=kvs key=nobody's",
    "cmd=get kvsname=kvs key=card-0 more=1", "cmd=get key=card-0 kvsname=kvs", "cmd=get kvsname=other key=card-0",
    "cmd=get kvsname=kvs key=PMI_process_mapping", "cmd=get kvsname=kvs key=PMI_hwloc_xmlfile",
    "cmd=get kvsname=kvs key=", "cmd=get kvsname=kvs key=card-0 ", "cmd=get",
)  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_aside_as_if_it_were_heard(question: str) -> None:
    made = job(1, 2)
    say(made, 0, "cmd=init pmi_version=1 pmi_subversion=1", "cmd=put key=card-9 value=at 9", "cmd=barrier_in")
    made.scattered(0, 0, 1, [b"card-0", b"at 0", b"card-9", b"at 9"])
    made.take_answers()
    say(made, 0, "cmd=put key=card-10 value=at 10")
    aside = made.answer_aside(0, f"{question}\n".encode())
    assert aside
    assert made.take_answers() == []
    assert say(made, 0, question).encode() == aside


@pytest.mark.parametrize(
    "said",
    [
        b"", b"\n", b"cmd=get", b"cmd=get_appnum\ncmd=get_appnum\n", b"cmd=get_appnum\ncmd=get_appnum", b"hello\n",
        b"cmd=get cmd=\n", b"cmd=getbyidx kvsname=kvs idx=0\n", b"cmd=get cmd=put key=a value=b\n", b"cmd=barrier_in\n",
        b"cmd=put kvsname=kvs key=a value=b\n", b"cmd=init pmi_version=1\n", b"cmd=finalize\n",
        b"cmd=abort exitcode=1\n", b"mcmd=spawn\n",
    ],
)  # fmt: skip
def test_what_is_no_single_question_has_to_be_heard(said: bytes) -> None:
    made = job()
    say(made, 0, "cmd=init pmi_version=1 pmi_subversion=1")
    assert made.answer_aside(0, said) == b""
    assert (made.take_answers(), made.take_cut(), made.abort) == ([], [], None)
    assert (made.ranks[0].state, made.dictionary.own) == (INSIDE, {})


def test_a_question_behind_half_a_line_or_inside_of_a_spawn_is_a_part_of_that() -> None:
    made = job()
    made.hear(0, b"cmd=abort exitcode=")
    made.hear(1, b"mcmd=spawn\n")
    assert made.answer_aside(0, b"cmd=get_appnum\n") == made.answer_aside(1, b"cmd=get_appnum\n") == b""


def test_who_was_cut_off_is_answered_nothing_more() -> None:
    made = job()
    say(made, 0, "nonsense")
    assert made.answer_aside(0, b"cmd=get_appnum\n") == b""


def test_a_barrier_opens_when_what_was_put_everywhere_has_come_down() -> None:
    made = job()
    for rank in (0, 1):
        say(made, rank, "cmd=init pmi_version=1 pmi_subversion=1")
        assert say(made, rank, f"cmd=put kvsname=kvs key=card-{rank} value=at {rank}") == "cmd=put_result rc=0\n"
    assert say(made, 0, "cmd=barrier_in") == ""
    assert made.take_contribution() is None
    assert say(made, 1, "cmd=barrier_in group=WORLD:0") == ""
    assert made.waits
    assert made.take_contribution() == [b"card-0", b"at 0", b"card-1", b"at 1"]
    assert made.take_contribution() is None
    others = [b"card-2", b"at 2", b"card-3", b"at 3"]
    made.scattered(0, 1, 2, others)
    made.scattered(0, 1, 2, others)
    made.scattered(1, 0, 1, [])
    assert made.take_answers() == []
    made.scattered(0, 0, 2, [b"card-0", b"at 0", b"card-1", b"at 1"])
    assert made.take_answers() == [(0, b"cmd=barrier_out rc=0\n"), (1, b"cmd=barrier_out rc=0 group=WORLD:0\n")]
    assert say(made, 0, "cmd=get kvsname=kvs key=card-3") == "cmd=get_result rc=0 value=at 3\n"
    assert (made.generation, made.waits, made.former()) == (1, False, [b"card-0", b"at 0", b"card-1", b"at 1"])
    # What comes late, or again, changes nothing.
    made.scattered(0, 0, 1, [b"card-9", b"nowhere"])
    assert say(made, 0, "cmd=get kvsname=kvs key=card-9").startswith("cmd=get_result rc=-1")


def test_parts_of_two_heads_are_not_put_together() -> None:
    made = job(1, 2)
    entered(made, 0)
    made.scattered(0, 0, 2, [b"a", b"1"])
    made.scattered(0, 1, 3, [b"b", b"2"])
    made.scattered(0, 1, 2, [b"b", b"2"])
    assert made.waits
    made.scattered(0, 0, 2, [b"a", b"1"])
    assert not made.waits


def test_a_job_of_one_node_needs_nobody_else() -> None:
    made = job(2, 2)
    entered(made, 0)
    say(made, 1, "cmd=init pmi_version=1 pmi_subversion=1", "cmd=put key=a value=b")
    assert say(made, 1, "cmd=barrier_in") == "cmd=barrier_out rc=0\n"
    assert made.take_contribution() is None
    assert say(made, 0, "cmd=get key=a") == "cmd=get_result rc=0 value=b\n"


@pytest.mark.parametrize(
    ("line", "answered"),
    [
        ("cmd=put key=a value=b", "cmd=put_result rc=-1 msg=put_of_a_rank_that_is_silent"),
        ("cmd=get kvsname=other key=PMI_process_mapping", "cmd=get_result rc=-1 msg=there_is_no_such_key"),
        ("cmd=publish_name service=a port=b", "cmd=publish_result rc=-1 msg=publish_name_is_not_served_by_Heorot"),
        ("cmd=lookup_name service=a", "cmd=lookup_result rc=-1 msg=lookup_name_is_not_served_by_Heorot"),
        ("cmd=getbyidx kvsname=a idx=0", "cmd=getbyidx_results rc=-1 msg=getbyidx_is_not_served_by_Heorot"),
        ("cmd=of-tomorrow x=1", "cmd=of-tomorrow rc=-1 msg=of-tomorrow_is_not_served_by_Heorot"),
        (
            "cmd=init pmi_version=3 pmi_subversion=0",
            "cmd=response_to_init rc=-1 msg=PMI-3_is_not_served_by_Heorot,_only_PMI-1_and_PMI-2"
            " pmi_version=1 pmi_subversion=2",
        ),
        (
            "mcmd=spawn\nnprocs=2\nexecname=/bin/x\ntotspawns=1\nendcmd",
            "cmd=spawn_result rc=-1 msg=MPI_Comm_spawn_is_not_served_by_Heorot",
        ),
    ],
)
def test_what_is_not_served_is_refused_by_name_and_the_rank_goes_on(line: str, answered: str) -> None:
    made = job()
    assert say(made, 0, line, "cmd=get_appnum") == f"{answered}\ncmd=appnum rc=0 appnum=0\n"
    assert made.take_cut() == []


def test_a_barrier_of_some_ranks_is_refused() -> None:
    made = job()
    say(made, 0, "cmd=init pmi_version=1 pmi_subversion=1")
    assert say(made, 0, "cmd=barrier_in group=0,1:77").startswith("cmd=barrier_out rc=-1 msg=barriers_of_some_ranks")
    assert made.ranks[0].state is INSIDE


@pytest.mark.parametrize(
    "put", ["key= value=b", "key=PMI_mine value=b", f"key={'k' * 65} value=b", f"key=a value={'v' * 1025}"]
)
def test_what_may_not_be_put_is_refused(put: str) -> None:
    made = job()
    say(made, 0, "cmd=init pmi_version=1 pmi_subversion=1")
    assert say(made, 0, f"cmd=put kvsname=kvs {put}").startswith("cmd=put_result rc=-1 msg=keys")
    assert made.dictionary.own == {}


@pytest.mark.parametrize(
    "nonsense", [b"hello\n", b"cmd=\n", b"\xff\0\n", b"cmd=barrier_in\n", b"cmd=finalize\n", b"x" * MAX_LINE_BYTES * 2]
)
def test_nonsense_costs_a_rank_its_own_connection_and_nothing_else(nonsense: bytes) -> None:
    made = job()
    made.hear(0, nonsense)
    ((number, told),) = made.take_answers()
    assert number == 0
    assert told.startswith(b"cmd=error rc=-1")
    assert made.take_cut() == [0]
    assert made.ranks[0].state is MUTE
    made.hear(0, b"cmd=get_appnum\n")
    assert made.take_answers() == []
    made.gone(0, "ended with status 0", 0)
    assert made.abort is None
    assert say(made, 1, "cmd=get_appnum") == "cmd=appnum rc=0 appnum=0\n"


def test_abort_ends_the_job_with_its_status() -> None:
    made = job()
    say(made, 1, "cmd=init pmi_version=1 pmi_subversion=1", "cmd=abort exitcode=5 message=abort")
    assert made.abort == Abort(1, 5, "rank 1 on n7 called MPI_Abort with 5")


def test_a_rank_that_ends_between_init_and_finalize_ends_the_job() -> None:
    made = job()
    say(made, 0, "cmd=init pmi_version=1 pmi_subversion=1")
    made.gone(0, "was killed by signal 9", 137)
    assert made.abort == Abort(0, 137, "rank 0 on n7 was killed by signal 9 before MPI_Finalize")


def test_a_rank_that_ends_so_with_0_is_no_success() -> None:
    made = job()
    say(made, 0, "cmd=init pmi_version=1 pmi_subversion=1")
    made.gone(0, "ended with status 0", 0)
    assert made.abort is not None
    assert made.abort.status == 1


def test_a_program_that_knows_nothing_of_mpi_ends_as_it_likes() -> None:
    made = job()
    made.gone(0, "ended with status 3", 3)
    made.gone(1, "ended with status 0", 0)
    assert made.abort is None


def test_finalize_is_an_end_and_a_new_beginning() -> None:
    made = job()
    say(made, 0, "cmd=init pmi_version=1 pmi_subversion=1")
    assert say(made, 0, "cmd=finalize") == "cmd=finalize_ack rc=0\n"
    assert made.ranks[0].state is LEFT
    say(made, 0, "cmd=init pmi_version=1 pmi_subversion=1", "cmd=finalize")
    made.gone(0, "ended with status 0", 0)
    assert made.abort is None


def test_who_waits_for_one_that_cannot_come_waits_for_nothing() -> None:
    made = job()
    made.gone(1, "ended with status 0", 0)
    entered(made, 0)
    assert made.abort == Abort(1, 1, "rank 1 on n7 ended while others wait for it in MPI")


def test_who_waits_for_one_that_was_cut_off_waits_for_nothing() -> None:
    made = job()
    entered(made, 0)
    say(made, 1, "cmd=init pmi_version=1 pmi_subversion=1", "nonsense")
    assert made.ranks[1].state is CUT
    assert made.abort == Abort(1, 1, "rank 1 on n7 said what is not PMI while others wait for it in MPI")


def test_when_no_rank_is_left_only_what_others_may_ask_for_is_kept() -> None:
    made = job(1, 2)
    say(made, 0, "cmd=init pmi_version=1 pmi_subversion=1", "cmd=put key=a value=b", "cmd=barrier_in")
    made.scattered(0, 0, 1, [b"a", b"b", b"c", b"d"])
    say(made, 0, "cmd=finalize")
    made.gone(0, "ended with status 0", 0)
    assert (made.dictionary.known, made.former()) == ({}, [b"a", b"b"])
