"""The commands of ``heorot``: a cluster on this machine, and the heads, nodes and tokens of one on many."""
