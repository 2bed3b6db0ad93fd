"""The pure core: protocol and state, without sockets, files, clocks, random numbers, threads or asyncio."""
