"""The keeper of a head's lease: it stands for election, has the head's process started, and outlives it."""
