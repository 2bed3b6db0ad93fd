"""How a rank ended, in words, for `bpsh`, `bpjob`, `bpcp` and the library. Loaded when there is something to say."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.core.client.end import Status


def in_words(status: Status) -> str:
    """Return one phrase, for example:

    - ``exit status 3``
    - ``killed by SIGSEGV (core dumped)``
    - ``the node was lost (n3 does not answer)``
    - what the node says of a rank that could not be started, or ``could not be started, error 12``
    """
    if status.lost:
        return "the node was lost" + (f" ({status.text})" if status.text else "")
    if status.signal is not None:
        from heorot.linux.signal_names import signal_name

        return f"killed by {signal_name(status.signal)}" + (" (core dumped)" if status.core_dumped else "")
    if status.error is not None:
        return status.text or f"could not be started, error {status.error}"
    return f"exit status {status.code}"
