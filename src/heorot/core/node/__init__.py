"""The node's machine, run by its agent: one hop between the head and the node's process space."""
