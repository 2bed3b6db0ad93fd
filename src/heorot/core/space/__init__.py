"""The process space's machine, run by bpinit: the jobs of one node, their ranks and their streams."""
