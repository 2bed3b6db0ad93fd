"""A deterministic simulator: the machines of `heorot.core` under virtual time, with faults, and invariants checked."""
