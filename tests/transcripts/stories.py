"""Three simulated stories that are worth reading, kept as text: who they are about, and which of their lines tell.

``python -m tests.transcripts.stories`` writes them anew after a change that was meant; read the difference before you
commit it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from heorot.sim.cluster import Cluster
from heorot.sim.faults import KINDS
from heorot.sim.settings import draw

HERE = Path(__file__).parent
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
        "paused-head",
        21,
        ("pause",),
        "Head2 sleeps beyond its lease while a job sleeps on all nodes, and head1 is elected. When head2 wakes up, "
        "the store tells its keeper that the lease is gone: its head is ended. For three seconds more no node can "
        "reach head1. Then it takes the job over from them, and the user, who has seen the connection close and has "
        "waited at head1 since, goes on at 12.0 s: the same processes, no rank started again.",
    ),
    Story(
        "killed-between-words",
        447,
        ("ambush",),
        "Head2 is killed when the last node has just said who it is. Head1 is killed just after it has "
        "acknowledged job 2.3 and one node has told that it runs. Head2, in epoch 3, takes both jobs over from "
        "what the nodes hold and has the launch of each fetched. The launch had not reached n2: it starts its "
        "rank when it comes, at 8.3 s. Then the statuses are collected, each once.",
    ),
    Story(
        "walls-and-store",
        64,
        ("wall", "store_wall"),
        "Head2 leads, and is cut off from the store, from the nodes and from head1, in one direction or both. Its "
        "lease runs out at 14.5 s, head1 is elected, and the nodes, which have heard nothing of head2 for a "
        "while, go over to it with the job that they hold. Head2 learns at 16.7 s, when the store answers again, "
        "that its lease is gone, and ends: until then there were two heads, in two epochs, and only the later "
        "one had nodes.",
    ),
)


def tell(story: Story) -> str:
    """Return the text of a story: why it is worth reading, and its telling lines."""
    settings = draw(story.seed)
    # What a story is about is heads; programs that travel would fill pages.
    settings.image_rate = 0.0
    for kind in KINDS:
        setattr(settings, f"{kind}_weight", 4 if kind in story.faults else 0)
    settings.nodes, settings.heads, settings.jobs, settings.faults = 3, 2, 3, 4
    lines: list[str] = []
    Cluster(story.seed, settings, tell_to=lines.append).run()
    told = [line[:WIDTH].rstrip() for line in lines if TELLING.match(line) and not QUIET.search(line)]
    return "\n".join([fill(story.why, 118, initial_indent="# ", subsequent_indent="# "), "", *told, ""])


def path_of(story: Story) -> Path:
    """Return where its text is kept."""
    return HERE / f"{story.name}.txt"


if __name__ == "__main__":
    for story in STORIES:
        path_of(story).write_text(tell(story), "utf-8")
