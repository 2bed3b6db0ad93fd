"""The tree of nodes: sets and lists of nodes, who is below whom, and what is merged on its way up."""
