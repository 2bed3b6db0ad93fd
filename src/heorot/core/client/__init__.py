"""The client's side of a conversation with a head: its messages, and what it knows of its jobs."""
