"""Mitogen: a child interpreter for each node, over a local connection."""

from __future__ import annotations

import os
import sys
from typing import Any

import mitogen.master
import mitogen.select
import mitogen.utils

from bench.peers.drivers import serve, tasks

CONNECT_TIMEOUT_S = 300


def main() -> None:
    """Serve as many nodes as the first argument says."""

    def serve_nodes(router: mitogen.master.Router) -> None:
        # On a busy machine an interpreter may need longer than Mitogen's own thirty seconds.
        local = {"python_path": sys.executable, "connect_timeout": CONNECT_TIMEOUT_S}
        contexts = [router.local(**local) for _ in range(int(sys.argv[1]))]

        def everywhere(function: object, *arguments: object) -> list[Any]:
            calls = mitogen.select.Select([context.call_async(function, *arguments) for context in contexts])
            return [message.unpickle() for message in calls]

        def run(argv: list[str]) -> list[tuple[int, int]]:
            if not tasks.writes(argv):
                return [(status, 0) for status in everywhere(tasks.run, argv)]
            return [(status, len(data)) for status, data in everywhere(tasks.output, argv)]

        serve([[pid] for pid in everywhere(os.getpid)], run)

    mitogen.utils.run_with_router(serve_nodes)


if __name__ == "__main__":
    main()
