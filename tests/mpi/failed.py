"""What a check of MPI libraries raises."""

from __future__ import annotations


class Failed(Exception):
    """A check found something wrong."""
