"""What ``self`` means in a node list: the node of the rank that says it."""

from __future__ import annotations

import pytest

from heorot.client.here import VARIABLE, with_here


@pytest.mark.parametrize(
    ("nodes", "meant"),
    [
        ("self", "n3"),
        ("localhost", "n3"),
        ("all!self", "all!n3"),
        ("0,self,self,c[0-1]", "0,n3,n3,c[0-1]"),
        # A part of another word is not it.
        ("@self", "@self"),
        ("@site:self", "@site:self"),
        ("myself,self-x,self.site,self[0-3],c[0]self", "myself,self-x,self.site,self[0-3],c[0]self"),
        ("up", "up"),
        ("", ""),
    ],
)
def test_in_a_rank(nodes: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "3")
    assert with_here(nodes) == meant


@pytest.mark.parametrize("node", ["", "-1", "x", "\u0663", None])
def test_elsewhere_the_head_knows(node: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if node is not None:
        monkeypatch.setenv(VARIABLE, node)
    assert with_here("self,all") == "self,all"
