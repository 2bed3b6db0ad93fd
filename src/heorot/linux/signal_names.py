"""How signals are called."""

from __future__ import annotations


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9, ``SIGRTMIN+2`` for 36, and ``signal 200`` for what is none."""
    import signal  # 2 ms that only a death by signal needs

    try:
        return signal.Signals(number).name
    except ValueError:
        if signal.SIGRTMIN < number < signal.SIGRTMAX:
            return f"SIGRTMIN+{number - signal.SIGRTMIN}"
        return f"signal {number}"
