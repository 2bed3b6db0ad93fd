"""PMI, by which MPI libraries find each other: what a process manager hears of the ranks of a node, and answers."""
