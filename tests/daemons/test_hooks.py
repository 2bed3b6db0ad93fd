"""The site's hook as a process: one after the other, with what nodes are shown as."""

from __future__ import annotations

from pathlib import Path

from heorot.core.wire.events import TellSite
from heorot.daemons.hooks import Hooks, HookSettings
from heorot.runtime.loop import EpollLoop
from tests.support.waiting import await_that


def test_it_is_told_one_after_the_other_and_a_failure_is_a_line_in_the_log(tmp_path: Path) -> None:
    loop, said = EpollLoop(), list[str]()
    script = tmp_path / "changed"
    script.write_text(f'#!/bin/sh\necho "$1 $2 $3" >> {tmp_path}/told\n[ "$3" != down ]\n')
    script.chmod(0o755)
    hooks = Hooks(
        loop, HookSettings(script, tmp_path / "log" / "hook.log", tmp_path), lambda _, text: said.append(text)
    )
    hooks.tell(TellSite((("n[0-1]", "up", "down"), ("n2", "boot", "up"))))

    def told() -> bool:
        loop.run_once(0.05)
        path = tmp_path / "told"
        return path.exists() and path.read_text() == "n[0-1] up down\nn2 boot up\n" and bool(said)

    await_that(told, "both changes")
    assert said == ["the site's hook: it ended with status 1"]
    hooks.close()
    Hooks(loop, None, lambda *_: None).tell(TellSite((("n0", "up", "down"),)))
    loop.close()
