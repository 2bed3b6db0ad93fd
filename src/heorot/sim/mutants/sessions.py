"""Mutants of the client's session; see `heorot.sim.mutants`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heorot.core.client import again, messages


def _launches_as_if_for_the_first_time(session: Any) -> None:
    """The next head is not told that a launch is asked for once more."""

    def ask_again(head_ms: int) -> None:
        for fields in again.unacknowledged_launches(session.unanswered.values(), head_ms, session._now_ms):
            first = list(fields)
            first[messages.SPAWN_AGAIN], first[messages.SPAWN_ASKED_AT] = False, 0
            session.outgoing += messages.encode(first)

    session._ask_again = ask_again


def _acknowledges_before_it_has_consumed(session: Any) -> None:
    """Output is acknowledged as soon as it is here, wherever its reader has it."""
    honest = session._handlers["output"]

    def output(message: list[Any], events: list[Any]) -> None:
        honest(message, events)
        job = session.jobs.get(message[1])
        stream = job.streams.get((message[2], message[3])) if job is not None else None
        if job is not None and stream is not None and not job.released:
            consumed, stream.consumed = stream.consumed, stream.received
            session._acknowledge(job, stream)
            stream.consumed = consumed

    session._handlers["output"] = output


def _gives_all_a_turn_at_once(session: Any) -> None:
    """Every stream that has used its window may send more, however much is on its way."""
    honest = session._handlers["spawned"]

    def spawned(message: list[Any], events: list[Any]) -> None:
        honest(message, events)
        for job in session.jobs.values():
            turns = job.take_turns()
            if turns is not None:
                turns._spare_bytes = 1 << 40

    session._handlers["spawned"] = spawned


def _gives_output_twice(session: Any) -> None:
    """What is sent again by the next head is taken for new."""
    honest = session._resumed

    def resumed(job: Any) -> None:
        for stream in job.streams.values():
            stream.received = stream.consumed = stream.acknowledged
        honest(job)

    session._resumed = resumed


def _sends_no_input_again(session: Any) -> None:
    """Input that no head has acknowledged is forgotten with the head that it was sent to."""
    honest = session._resumed

    def resumed(job: Any) -> None:
        for stream in job.stdin.values():
            stream.kept.clear()
        honest(job)

    session._resumed = resumed


def _drops_the_offsets(session: Any) -> None:
    """The next head is not told how far the input was acknowledged."""
    honest = session._send_request

    def send(request: Any, build: Any, *fields: Any, **named: Any) -> int:
        if build is messages.resume_job:
            fields = (fields[0], [], *fields[2:])
        return int(honest(request, build, *fields, **named))

    session._send_request = send


def _hands_over_what_nodes_have(session: Any) -> None:
    """A launch is handed to the next head although nodes have spoken of it, and have taken its input."""
    honest = session._send_request

    def send(request: Any, build: Any, *fields: Any, **named: Any) -> int:
        if build is messages.resume_job and request.job.launch is not None:
            session._hand_over(request.job)
            return 0
        return int(honest(request, build, *fields, **named))

    session._send_request = send


def _repeats_signals(session: Any) -> None:
    """Every signal is sent again to the next head."""
    honest = session.signal

    def signal(*args: Any, **named: Any) -> Any:
        request = honest(*args, **named)
        request.repeatable = True
        return request

    session.signal = signal


SESSION: dict[str, Callable[[Any], None]] = {
    "session-launches-as-if-for-the-first-time": _launches_as_if_for_the_first_time,
    "session-acknowledges-before-it-has-consumed": _acknowledges_before_it_has_consumed,
    "session-gives-all-a-turn-at-once": _gives_all_a_turn_at_once,
    "session-gives-output-twice": _gives_output_twice,
    "session-sends-no-input-again": _sends_no_input_again,
    "session-drops-the-offsets": _drops_the_offsets,
    "session-hands-over-what-nodes-have": _hands_over_what_nodes_have,
    "session-repeats-signals": _repeats_signals,
}
_RUSH = {"faults": 40, "head_weight": 4, "ambush_weight": 12, "rush": 80, "detached_rate": 0.1, "heads": 2}
_INPUT = {"faults": 40, "head_weight": 12, "jobs": 25, "job_span_ms": 15_000, "detached_rate": 0.1, "reader_rate": 0.8}
_MUCH = {"job_window_bytes": 64 << 10, "largest_write_bytes": 200_000, "stall_reader_rate": 0.3}
FOCUS: dict[str, dict[str, Any]] = {
    "session-launches-as-if-for-the-first-time": {**_RUSH, "stop_rate": 0.0},
    "session-acknowledges-before-it-has-consumed": {"stall_reader_rate": 0.5},
    "session-gives-all-a-turn-at-once": _MUCH,
    "session-gives-output-twice": {"head_weight": 12, "faults": 40},
    "session-sends-no-input-again": _INPUT,
    "session-drops-the-offsets": _INPUT,
    "session-hands-over-what-nodes-have": _INPUT,
    "session-repeats-signals": {"head_weight": 12, "faults": 40, "signal_rate": 1.0, "jobs": 25},
}
