"""Write docs/screen.svg, the picture of the README: real commands on a real cluster, as a terminal shows them.

    .venv/bin/python scripts/screen.py [docs/screen.svg]

Each command runs in a shell on a pseudo-terminal; its output is drawn as it came. What differs from run to run (PIDs,
times of day, milliseconds) differs in the picture, too.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 108, 50
LIMIT_S = 120.0
NODES = 64
SCRIPT = (
    ("# Sixty-four nodes, with two heads, on this machine.", f"heorot up --nodes {NODES} --heads 2"),
    ("# One command on all of them, through the tree.", "bpsh --time -a -p sh -c 'echo I am process $$' | tail -n 3"),
    (
        "# A job that runs on by itself; one table of all processes.",
        "job=$(bpsh --detach -a sleep 600); bpps | head -n 4",
    ),
    (
        "# The head dies. Nothing else does, and the next command works.",
        "kill -9 $(heorot status | awk '$2 == \"active\" {print $3}'); bpsh --time -a true; bpjob list -s running",
    ),
    ("# One signal for all of it, wherever it runs.", "bpkill $job; bpps --no-header | wc -l"),
)
TEXT, DIM, GREEN, BACK = "#e6e6e6", "#8b98a5", "#7ec699", "#1d2329"
WIDTH, LINE, SIZE, MARGIN = 8.43, 19, 14, 16
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Shell:
    """A shell without an editor, on a pseudo-terminal, that is asked for one command after another."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._mark = f"done-{os.getpid()}"
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "--noediting"], {**environment, "PS1": ""})
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.run("stty -echo")

    def run(self, command: str) -> list[str]:
        """Return the lines that a command writes to the terminal."""
        # In one line: what comes after it would be the command's input.
        os.write(self._fd, f"{command}; echo {self._mark[:4]}''{self._mark[4:]}\n".encode())
        seen, end_s = "", time.monotonic() + LIMIT_S
        while f"{self._mark}\r\n" not in seen:
            if not select.select([self._fd], [], [], max(end_s - time.monotonic(), 0))[0]:
                raise SystemExit(f"'{command}' took more than {LIMIT_S:.0f} s: {seen}")
            seen += os.read(self._fd, 65536).decode()
        output = CONTROL.sub("", seen.partition(self._mark)[0]).replace("\r\n", "\n")
        # Of a line that is written again and again, such as progress, the last one stays.
        return [line.rpartition("\r")[2] for line in output.removesuffix("\n").split("\n") if output]

    def close(self) -> None:
        """Hang up."""
        os.close(self._fd)
        os.waitpid(self._pid, 0)


def record() -> list[tuple[str, str]]:
    """Run everything; return the lines with their colours."""
    scratch = tempfile.mkdtemp(prefix="heorot.")
    directory = os.path.join(scratch, "den")
    environment = {
        **{name: os.environ[name] for name in ("HOME", "USER") if name in os.environ},
        "PATH": f"{ROOT / '.venv' / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "TERM": "xterm",
        "HEOROT_DIR": directory,
    }
    shell = Shell(environment)
    lines: list[tuple[str, str]] = []
    try:
        for remark, command in SCRIPT:
            if remark:
                lines += [("", TEXT)] if lines else []
                lines.append((remark, DIM))
            lines.append((f"$ {command}", GREEN))
            lines += [(line, TEXT) for line in shell.run(command)]
    finally:
        shell.run("cd /")
        subprocess.run(["heorot", "down"], env=environment, check=True, stdout=subprocess.DEVNULL)
        shell.close()
        shutil.rmtree(scratch)
    return lines


def draw(lines: list[tuple[str, str]]) -> str:
    """Return the picture."""
    longest = max(len(line) for line, _ in lines)
    width, height = round(longest * WIDTH + 2 * MARGIN), len(lines) * LINE + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<!-- made by scripts/screen.py from a real run -->",
        f'<rect width="{width}" height="{height}" rx="8" fill="{BACK}"/>',
        f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{SIZE}" xml:space="preserve">',
    ]
    for number, (line, colour) in enumerate(lines):
        if line.strip():
            y = MARGIN + number * LINE + SIZE
            # The length is said, so that columns stand below each other in any font.
            length = f'textLength="{len(line) * WIDTH:.1f}" lengthAdjust="spacingAndGlyphs"'
            parts.append(f'<text x="{MARGIN}" y="{y}" fill="{colour}" {length}>{escape(line)}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def main() -> int:
    """Record and draw."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screen.svg"
    target.write_text(draw(record()))
    print(f"{target}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
