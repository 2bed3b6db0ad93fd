"""The head's machine: root of the tree, table of nodes and jobs, and the server of clients."""
