"""What Linux offers and Python does not: system calls, /proc, trusted paths, values on disk, control groups."""
