"""Machines with one safety measure switched off. The simulator must notice each."""
