"""A finding of ``heorot doctor``."""

from __future__ import annotations


class Check:
    """One finding: what was looked at, whether it is well, and in words what is there or what to do."""

    def __init__(self, name: str, ok: bool, text: str, required: bool = True) -> None:
        self.name = name
        self.ok = ok
        self.text = text
        self.required = required
        """Without it there is no cluster, or some of it does not work."""
