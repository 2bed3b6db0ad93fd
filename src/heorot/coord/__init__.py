"""The coordination port: who is head, in which epoch."""
