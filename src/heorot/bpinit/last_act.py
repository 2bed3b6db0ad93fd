"""The end of a process space, and of every process in it."""

from __future__ import annotations

import os
import time
from typing import NoReturn

from heorot.bpinit.census import exterminate
from heorot.linux.proctable import children

_PATIENCE_S = 10


def end_with_all(isolated: bool) -> NoReturn:
    """End this process, and all that it has started; `isolated`: it is PID 1 of a namespace, which ends with it."""
    if not isolated:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            exterminate(children(os.getpid()))
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break
            time.sleep(0.002)
    os._exit(0)
