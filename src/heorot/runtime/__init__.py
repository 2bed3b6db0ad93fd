"""Runs a pure machine of `heorot.core` for real: event loop, links, unix servers, timers."""
