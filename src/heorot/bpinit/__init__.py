"""The node's process space: start, hold and reap processes, and the namespaces they live in."""
