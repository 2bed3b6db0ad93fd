"""Heorot's commands: one file each, kept light because a command's start is part of its time."""
