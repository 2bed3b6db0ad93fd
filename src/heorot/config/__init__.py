"""What is configured: files, their first text, and where a cluster keeps what on the disk."""
