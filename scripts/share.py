"""Put the manual pages and completions of a clone where man(1) and shells look for those of its virtual environment.

    .venv/bin/python scripts/share.py .venv

pip leaves out the data files of an editable installation: here they are links to the files in the clone, so that what
is read is what stands there.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def link_all(prefix: Path) -> None:
    """Make the links below this directory; what is out of date there is replaced."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for folder, patterns in project["tool"]["setuptools"]["data-files"].items():
        place = prefix / folder
        place.mkdir(parents=True, exist_ok=True)
        for link in place.iterdir():
            if link.is_symlink() and not link.exists():
                link.unlink()
        for file in (file for pattern in patterns for file in ROOT.glob(pattern)):
            link = place / file.name
            if not link.exists() or not link.samefile(file):
                link.unlink(missing_ok=True)
                link.symlink_to(os.path.relpath(file, place.resolve()))


if __name__ == "__main__":
    link_all(Path(sys.argv[1]))
