"""Measures Heorot against what this machine can do at best: ``python -m bench``, or ``make bench``."""
