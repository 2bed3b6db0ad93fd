"""What heads share through etcd: the one that leads puts it there, and whoever is elected has it, with real members."""

from __future__ import annotations

import errno

import pytest

from heorot.core.keeper.election import StoreRefused
from tests.coord.test_etcd import Candidates, Numbers, elect
from tests.coord.test_etcd import shared as shared
from tests.support.etcd import Etcd


def test_an_elected_head_has_what_was_put_before_though_it_has_not_looked_since(shared: Etcd) -> None:
    with Candidates(shared) as made:
        theirs, ours = Numbers(1), Numbers(2)
        former, successor = made.new("h0", shared=theirs), made.new("h1", shared=ours)
        elect(former)
        successor.look()
        theirs.known.add(7)
        assert former.renew().shared
        assert 7 not in ours.known
        former.resign()
        elect(successor)
        assert 7 in ours.known


def test_what_a_head_puts_that_was_deposed_meanwhile_is_not_taken(shared: Etcd) -> None:
    with Candidates(shared) as made:
        ours = Numbers()
        successor = made.new("h1", shared=ours)

        class Late(Numbers):
            def merge(self, theirs: bytes) -> bytes:
                if 7 in self.known:
                    made.delete("leader")
                    elect(successor)
                return super().merge(theirs)

        theirs = Late()
        former = made.new("h0", shared=theirs)
        elect(former)
        assert former.renew().shared
        theirs.known.add(7)
        assert not former.renew().shared
        successor.renew()
        assert 7 not in ours.known


def test_a_head_that_cannot_write_down_what_heads_share_does_not_lead(shared: Etcd) -> None:
    class Full(Numbers):
        def merge(self, theirs: bytes) -> bytes:
            raise OSError(errno.ENOSPC, "No space left on device")

    with Candidates(shared) as made:
        former, successor = made.new("h0", shared=Numbers(1)), made.new("h1", shared=Full())
        elect(former)
        former.renew()
        former.resign()
        with pytest.raises(StoreRefused, match="cannot write down what the heads share: No space left"):
            successor.campaign(0)
        assert former.look().leader == ""
