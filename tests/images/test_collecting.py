"""What goes into an image beside what the program needs."""

from __future__ import annotations

import os
from pathlib import Path

from heorot.core.images.manifest import decode_manifest
from heorot.images.collecting import collect, describe_image


def test_a_program_may_be_found_by_a_link_in_what_is_sent(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "bin-1.2").mkdir(parents=True)
    (project / "bin").symlink_to("bin-1.2")
    (project / "other").symlink_to("bin-1.2")
    (project / "bin-1.2" / "prog").write_text("#!/bin/sh\n")
    program = os.fsencode(project / "bin" / "prog")
    paths, _ = collect(program, [b"PATH=/usr/bin"], b"/", [os.fsencode(project)])
    manifest = decode_manifest(describe_image(paths, program)[3])
    held = {entry.path for entry in manifest.entries}
    assert program in held
    assert {os.fsencode(project / name) for name in ("bin-1.2/prog", "other")} <= held
    assert os.fsencode(project / "bin") not in held
