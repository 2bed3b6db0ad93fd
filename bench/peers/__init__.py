"""Heorot beside other programs that run commands on many nodes, in one run and by turns: ``python -m bench peers``."""
