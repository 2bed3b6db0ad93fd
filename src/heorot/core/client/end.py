"""How a rank came to its end."""

from __future__ import annotations

from errno import ENOENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXIT_NOT_EXECUTABLE = 126
EXIT_NO_COMMAND = 127
EXIT_SIGNAL_BASE = 128
EXIT_LOST = 255


class RankUsage:
    """What a rank has used, its own process and those of its descendants that it has waited for.

    Attributes
    ----------
    user_time_ms:
        CPU time of its program.
    system_time_ms:
        CPU time in the kernel.
    peak_memory_bytes:
        The most memory that one of these processes has held at a time; None: no more than bpinit takes itself, some
        30 MB. How much less cannot be told.
    """

    __slots__ = ("peak_memory_bytes", "system_time_ms", "user_time_ms")

    def __init__(self, user_time_ms: int, system_time_ms: int, peak_memory_bytes: int | None) -> None:
        self.user_time_ms = user_time_ms
        self.system_time_ms = system_time_ms
        self.peak_memory_bytes = peak_memory_bytes

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> RankUsage:
        """Return what ``bpjob show --json`` says of a rank."""
        return cls(value["user_time_ms"], value["system_time_ms"], value["peak_memory_bytes"])

    @property
    def cpu_time_ms(self) -> int:
        """CPU time, of the program and in the kernel."""
        return self.user_time_ms + self.system_time_ms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RankUsage) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(self._fields)

    @property
    def _fields(self) -> tuple[int, int, int | None]:
        return self.user_time_ms, self.system_time_ms, self.peak_memory_bytes

    def __repr__(self) -> str:
        return "RankUsage(user_time_ms={}, system_time_ms={}, peak_memory_bytes={})".format(*self._fields)


class Status:
    """The end of one rank: exactly one of `code`, `signal` and `lost` is set.

    Attributes
    ----------
    code:
        Exit code, 0..255; of a rank that could not be started 127 (no such command) or 126, and `error` says why.
    signal:
        The signal that ended it.
    core_dumped:
        Whether it left a memory image.
    lost:
        The node went away, and the exit status with it.
    error:
        errno of a rank that could not be started; -1: `text` says it all.
    text:
        For people: why it could not be started, or how it was lost.
    """

    __slots__ = ("code", "core_dumped", "error", "lost", "signal", "text")

    def __init__(
        self,
        code: int | None = None,
        signal: int | None = None,
        *,
        core_dumped: bool = False,
        lost: bool = False,
        error: int | None = None,
        text: str = "",
    ) -> None:
        assert (code is not None) + (signal is not None) + lost == 1
        self.code = code
        self.signal = signal
        self.core_dumped = core_dumped
        self.lost = lost
        self.error = error
        self.text = text

    @classmethod
    def of_wait_status(cls, wait_status: int) -> Status:
        """Return the status for a number as of wait(2)."""
        # As Linux lays it out: the low seven bits are the signal, the next is set with a memory image.
        if number := wait_status & 0x7F:
            return cls(signal=number, core_dumped=bool(wait_status & 0x80))
        return cls(wait_status >> 8 & 0xFF)

    @classmethod
    def of_failure(cls, error: int, text: str) -> Status:
        """Return the status of a rank that could not be started."""
        return cls(EXIT_NO_COMMAND if error == ENOENT else EXIT_NOT_EXECUTABLE, error=error or -1, text=text)

    @classmethod
    def of_lost(cls, text: str) -> Status:
        """Return the status of a rank whose node is gone."""
        return cls(lost=True, text=text)

    @property
    def exit_status(self) -> int:
        """One number as a shell gives it: the code, 128 + signal, or 255 for a lost rank."""
        if self.code is not None:
            return self.code
        return EXIT_LOST if self.signal is None else EXIT_SIGNAL_BASE + self.signal

    @property
    def success(self) -> bool:
        """Whether the rank ran and exited with 0."""
        return self.code == 0

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``bpjob show --json`` and ``bpsh --json`` print."""
        if self.lost:
            return {"lost": self.text or True}
        result: dict[str, Any] = {"code": self.code} if self.signal is None else {"signal": self.signal}
        if self.error is not None:
            result["error"] = self.text
        return result

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Status:
        """Return the status for what `as_json` made."""
        if "signal" in value:
            return cls(signal=int(value["signal"]))
        if "code" in value:
            text = str(value.get("error", ""))
            return cls(int(value["code"]), error=-1 if text else None, text=text)
        lost = value.get("lost")
        return cls.of_lost(lost if isinstance(lost, str) else "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Status) and (self.code, self.signal, self.lost) == (
            other.code,
            other.signal,
            other.lost,
        )

    def __hash__(self) -> int:
        return hash((self.code, self.signal, self.lost))

    def __repr__(self) -> str:
        if self.lost:
            return "Status(lost=True)"
        return f"Status(code={self.code})" if self.signal is None else f"Status(signal={self.signal})"
