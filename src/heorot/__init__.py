"""Heorot: many Linux machines, one computer."""

__version__ = "0.1.0"
