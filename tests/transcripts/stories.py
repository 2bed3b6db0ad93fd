"""A simulated story that was found and is worth reading, kept as text: who it is about, and which of its lines tell.

Those of `tests.transcripts.interpreter` are written, and shorter; this one tells what only chance has thought of.
``python -m tests.transcripts.stories`` writes it anew after a change that was meant; read the difference before you
commit it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from heorot.sim.cluster import SimulatedCluster
from heorot.sim.faults import KINDS
from heorot.sim.settings import draw

FOUND = Path(__file__).parent / "found"
TELLING = re.compile(r"^ *[0-9.]+ (fault|store|user\d+|n\d+ +(agent|host|\[)|head\d+ +(?!<-)|head\d+ +<- client)")
QUIET = re.compile(
    r"KeepAlive|Look|Ack\(|Ping|Pong|Resize|Output\(|Stdin\(|Inventory"
    r"|Hello\(|closes link|link \d+ to|\[info\] the link"
)
WIDTH = 180


@dataclass(frozen=True)
class Story:
    """One run of a small cluster. `faults` are the kinds that occur."""

    name: str
    seed: int
    faults: tuple[str, ...]
    why: str


STORIES = (
    Story(
        "sleeping-node",
        104,
        ("doze",),
        "From 19.1 s on the agents of all nodes are stopped, and head2 is killed. Head1 leads in its place, hears of "
        "nobody, and is killed, too; head2 leads again, in epoch 3. Whoever wakes up goes to it and offers what it "
        "holds: n0 has the launch of job 1.1, which head2 takes over, and n1, which comes last, its other rank. At the "
        "end somebody collects it, with the statuses that both nodes have kept.",
    ),
)


def tell(story: Story) -> str:
    """Return the text of a story: why it is worth reading, and its telling lines."""
    settings = draw(story.seed)
    # What a story is about is heads; programs that travel would fill pages.
    settings.image_rate = 0.0
    settings.spare_heads = settings.rush = settings.watchers = settings.administrators = 0
    for kind in KINDS:
        setattr(settings, f"{kind}_weight", 4 if kind in story.faults else 0)
    settings.nodes, settings.heads, settings.jobs, settings.faults = 3, 2, 3, 4
    lines: list[str] = []
    SimulatedCluster(story.seed, settings, tell_to=lines.append).run()
    told = [line[:WIDTH].rstrip() for line in lines if TELLING.match(line) and not QUIET.search(line)]
    return "\n".join([fill(story.why, 118, initial_indent="# ", subsequent_indent="# "), "", *told, ""])


def path_of(story: Story) -> Path:
    """Return where its text is kept."""
    return FOUND / f"{story.name}.txt"


if __name__ == "__main__":
    for story in STORIES:
        path_of(story).write_text(tell(story), "utf-8")
