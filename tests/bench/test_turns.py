"""The turns of peers: who is measured when, and what comes of a peer that fails. The peers are stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.peers import table
from bench.peers.peer import CALL_LIMIT_S, Peer, PeerError
from bench.peers.results import COPY_AGAIN, COPY_NEW, KINDS, OUTPUT, TRUE, Attempt, Found, Row, Work
from bench.peers.turns import CHECK_BYTES, Turns

NODES = 2


class StandIn(Peer):
    """Answers what it is told to, and writes down what it was asked for."""

    how = "`stand-in`"
    kinds = KINDS

    def __init__(self, key: str, asked: list[str], answer: Callable[[int], Attempt] | None = None) -> None:
        super().__init__()
        self.key = key  # type: ignore[misc]
        self.name = key.title()  # type: ignore[misc]
        self.asked = asked
        self.answer = answer or (lambda number: Attempt(0.001))
        self.runs = 0
        self.copies = True
        self.refuses = ""

    def start(self) -> None:
        self.asked.append(f"{self.key} starts")
        if self.refuses:
            raise PeerError(self.refuses)

    def stop(self) -> None:
        self.asked.append(f"{self.key} stops")

    def run(self, argv: list[str], expected_bytes: int) -> Attempt:
        self.asked.append(f"{self.key} {argv[0]} {expected_bytes}")
        if expected_bytes == CHECK_BYTES * NODES:
            return Attempt(0.001)
        self.runs += 1
        return self.answer(self.runs)

    def copy(self, source: Path, target: Path) -> Attempt:
        self.asked.append(f"{self.key} copy")
        if self.copies:
            target.write_bytes(source.read_bytes())
        return Attempt(0.002)


class Course:
    """A measurement of stand-ins."""

    def __init__(self, directory: Path, kinds: list[str], rounds: int = 3) -> None:
        self.asked: list[str] = []
        self.said: list[str] = []
        self.rounds = rounds
        self.directory = directory
        works = [Work(kind, NODES) for kind in kinds]
        self.found = Found({}, works, 128, 256, rounds, 0.0)
        self.peers: list[tuple[Peer, Row]] = []

    def add(self, key: str, answer: Callable[[int], Attempt] | None = None) -> StandIn:
        peer = StandIn(key, self.asked, answer)
        row = Row(peer.key, peer.name, peer.how)
        self.peers.append((peer, row))
        self.found.rows.append(row)
        return peer

    def run(self) -> None:
        turns = Turns(self.found, NODES, self.directory, self.said.append, lambda peers, nodes: None)
        turns.begin(self.peers, "python")
        turns.measure(self.rounds)
        turns.end()

    def row(self, key: str) -> Row:
        return next(row for row in self.found.rows if row.key == key)

    def cells(self, key: str) -> list[str]:
        return table.cells(self.row(key), self.found.works)[1:-1]


def test_each_round_begins_with_another_peer_and_all_are_stopped(tmp_path: Path) -> None:
    course = Course(tmp_path, [OUTPUT])
    for key in "abc":
        course.add(key)
    course.run()
    rounds = [line[0] for line in course.asked if line.endswith(f"cat {128 * NODES}")]
    assert "".join(rounds) == "cab" + "abc" + "bca" + "cab"
    assert course.asked[-3:] == ["c stops", "b stops", "a stops"]


def test_what_warms_up_is_not_counted(tmp_path: Path) -> None:
    course = Course(tmp_path, [TRUE])
    peer = course.add("a", lambda number: Attempt(9.0 if number <= 2 else number / 1000))
    course.run()
    assert peer.runs == 5
    assert course.row("a").good_s(course.found.works[0]) == [0.003, 0.004, 0.005]


def test_a_peer_that_does_not_start_has_a_row_that_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    course = Course(tmp_path, [TRUE])
    course.add("a").refuses = "did not start: no port"
    course.add("b")
    course.run()
    assert course.cells("a") == ["did not start: no port"]
    assert course.cells("b") == ["1 ms"]
    assert course.asked[:3] == ["a starts", "a stops", "b starts"]
    assert any("no port" in line for line in course.said)


def test_a_peer_whose_small_check_never_comes_back_whole_is_not_measured(tmp_path: Path) -> None:
    course = Course(tmp_path, [TRUE])
    peer = course.add("a")
    peer.run = lambda argv, expected_bytes: Attempt(0.1, "1 of 2 bytes came")  # type: ignore[method-assign]
    course.run()
    assert course.cells("a") == ["did not work: 1 of 2 bytes came"]


def test_an_attempt_that_fails_is_counted_as_such(tmp_path: Path) -> None:
    course = Course(tmp_path, [OUTPUT])
    course.add("a", lambda number: Attempt(0.2, "127 of 256 bytes came" if number == 3 else ""))
    course.run()
    assert course.cells("a") == ["200 ms (1 of 3 failed)"]
    assert table.notes(course.found) == ["A: `stand-in`; 2 x 0.0001221 MiB of output: 1 of 3 127 of 256 bytes came"]


def test_a_peer_that_raises_has_failed_that_time_only(tmp_path: Path) -> None:
    def answer(number: int) -> Attempt:
        if number == 2:
            raise BrokenPipeError("gone")
        return Attempt(0.2)

    course = Course(tmp_path, [OUTPUT])
    course.add("a", answer)
    course.run()
    assert course.cells("a") == ["200 ms (1 of 3 failed)"]


def test_a_peer_that_was_not_over_in_time_gets_no_more_turns_at_that(tmp_path: Path) -> None:
    course = Course(tmp_path, [TRUE, OUTPUT])
    late = Attempt(CALL_LIMIT_S + 1, "was not over in time")
    peer = course.add("a", lambda number: late if number == 1 else Attempt(0.2))
    course.add("b")
    course.run()
    # One turn of warming up, which was late, and then the four at output.
    assert peer.runs == 2 + 4
    assert course.cells("a") == ["failed, 1 of 1", "200 ms"]
    assert len(course.row("b").attempts["true-2"]) == 3


def test_more_nodes_than_a_peer_is_meant_for_are_not_tried(tmp_path: Path) -> None:
    course = Course(tmp_path, [TRUE])
    peer = course.add("a")
    peer.most_nodes, peer.most_nodes_because = 1, "not tried: too many"  # type: ignore[misc]
    course.run()
    assert course.asked == []
    assert course.row("a").without == {"true-2": "not tried: too many"}


def test_a_copy_is_made_twice_and_both_are_looked_at(tmp_path: Path) -> None:
    course = Course(tmp_path, [COPY_NEW, COPY_AGAIN])
    course.add("a")
    course.add("b").copies = False
    course.run()
    assert course.cells("a") == ["2 ms", "2 ms"]
    assert course.cells("b") == ["failed, 3 of 3", ""]
    assert course.row("b").problems(course.found.works[0]) == {"the copy differs from the file": 3}
    assert sorted(path.name for path in (tmp_path / f"a-{NODES}").iterdir()) == []
