"""Programs and data that travel: the files of a program, and the cache that each host has of them."""
