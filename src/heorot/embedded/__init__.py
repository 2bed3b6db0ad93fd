"""A cluster on one machine: its plan, its warden, the control socket, and the demonstration."""
