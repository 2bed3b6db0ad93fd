"""How a shell finds what an instruction of its machine wants: a table by type, made once for each class of shells.

A machine's *contract* is an abstract class with a method for each of its instructions (`heorot.core.shells`,
`heorot.core.space.shell`). A shell is a class that has them all: mypy lets none be made that lacks one. Which
instruction a method is for, its annotation says.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_type_hints

Instruction_contra = TypeVar("Instruction_contra", contravariant=True)


class Dispatch(ABC, Generic[Instruction_contra]):
    """Base of the contracts.

    A contract names the union of its machine's instructions: ``class HeadShell(..., instructions=HeadInstruction)``. It
    cannot be defined (TypeError) unless it has one abstract method for each of them, and for nothing else. Methods are
    looked up when a class is defined: one that is replaced in a class afterwards is not called.
    """

    __slots__ = ()
    _names: ClassVar[dict[type, str]] = {}
    _methods: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {}

    def __init_subclass__(cls, *, instructions: object = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if instructions is not None:
            cls._names = _names_by_type(cls)
            wrong = cls._names.keys() ^ set(get_args(instructions) or (instructions,))
            if wrong:
                names = ", ".join(sorted(kind.__name__ for kind in wrong))
                raise TypeError(f"{cls.__name__} and the instructions of its machine are not the same: {names}")
        cls._methods = {kind: getattr(cls, name) for kind, name in cls._names.items()}

    def carry_out(self, instructions: Iterable[Instruction_contra]) -> None:
        """Do what a machine says, in its order. What is in no contract is a mistake of ours: AssertionError."""
        methods = self._methods
        for instruction in instructions:
            try:
                method = methods[type(instruction)]
            except KeyError:
                raise self._unknown(instruction) from None
            method(self, instruction)

    def carry_out_one(self, instruction: Instruction_contra) -> Any:
        """Do this alone, and return what its method returns."""
        method = self._methods.get(type(instruction))
        if method is None:
            raise self._unknown(instruction)
        return method(self, instruction)

    def _unknown(self, instruction: object) -> AssertionError:
        return AssertionError(f"{type(self).__name__} cannot carry out {instruction!r}")

    @classmethod
    def instructions(cls) -> list[type]:
        """Return what this shell can carry out, in the order of its contract."""
        return list(cls._names)


def _names_by_type(contract: type) -> dict[type, str]:
    found: dict[type, str] = {}
    for base in contract.__mro__:
        for name, method in vars(base).items():
            if getattr(method, "__isabstractmethod__", False):
                hints = get_type_hints(method)
                del hints["return"]
                (kind,) = hints.values()
                found.setdefault(kind, name)
    return found
