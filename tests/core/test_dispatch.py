"""A shell has a method for each instruction of its machine, or it cannot be made; what nobody knows raises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, get_args

import pytest

from heorot.core.dispatch import Dispatch
from heorot.core.keeper.shell import KeeperShell
from heorot.core.keeper.steps import Step
from heorot.core.machine import CloseClient, HeadInstruction, Log, NodeInstruction, Stop, ToSpace
from heorot.core.shells import HeadShell, NodeShell
from heorot.core.space import events as e
from heorot.core.space.shell import SpaceShell


class Speaker(ABC):
    """Half of a contract."""

    @abstractmethod
    def log(self, item: Log) -> None:
        """Say something."""


class Contract(Speaker, Dispatch[Log | Stop], instructions=Log | Stop):
    """For a machine with two instructions."""

    @abstractmethod
    def stop(self, item: Stop) -> None:
        """End."""


class Recorder(Contract):
    """Carries nothing out."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def log(self, item: Log) -> None:
        self.done.append(item)

    def stop(self, item: Stop) -> None:
        self.done.append(item)


def test_instructions_are_carried_out_in_order() -> None:
    shell = Recorder()
    items: list[Log | Stop] = [Log("info", "first"), Stop("then"), Log("info", "last")]
    shell.carry_out(items)
    assert shell.done == items


def test_a_shell_carries_instructions_out_in_its_own_way() -> None:
    class Silent(Recorder):
        def log(self, item: Log) -> None:
            pass

    shell = Silent()
    shell.carry_out([Log("info", "nobody hears this"), Stop("enough")])
    assert shell.done == [Stop("enough")]


def test_an_instruction_of_no_contract_raises_after_those_before_it() -> None:
    shell = Recorder()
    with pytest.raises(AssertionError, match="Recorder cannot carry out ToSpace"):
        shell.carry_out([Log("info", "before"), ToSpace(b""), Log("info", "after")])  # type: ignore[list-item]
    assert shell.done == [Log("info", "before")]


def test_what_only_the_other_machine_may_ask_for_raises() -> None:
    assert ToSpace not in HeadShell.instructions()
    assert CloseClient not in NodeShell.instructions()


def test_a_shell_that_lacks_a_method_cannot_be_made() -> None:
    class Half(Contract):
        def log(self, item: Log) -> None:
            pass

    with pytest.raises(TypeError, match="stop"):
        Half()  # type: ignore[abstract]


@pytest.mark.parametrize("instructions", [Log, Log | Stop | ToSpace])
def test_a_contract_that_differs_from_its_machine_cannot_be_defined(instructions: Any) -> None:
    with pytest.raises(TypeError, match=r"not the same: (Stop|ToSpace)$"):

        class Wrong(Contract, instructions=instructions):
            pass


@pytest.mark.parametrize(
    ("contract", "instructions"),
    [(HeadShell, HeadInstruction), (NodeShell, NodeInstruction), (SpaceShell, e.SpaceInstruction), (KeeperShell, Step)],
)
def test_the_contracts_are_those_of_the_machines(contract: type[Dispatch[Any]], instructions: Any) -> None:
    assert set(contract.instructions()) == set(get_args(instructions))
