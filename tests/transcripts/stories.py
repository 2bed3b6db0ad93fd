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
        "Head2 sleeps beyond its lease while a job sleeps on all nodes, and so does head1, its standby. When "
        "head2 wakes up, the store tells its keeper that the lease is gone: its head is ended, and a new one "
        "elected on the same host, in the next epoch. It takes the job over from the nodes, and the user, who "
        "has seen the connection close, goes on at 13.2 s: the same processes, no rank started again.",
    ),
    Story(
        "killed-between-words",
        78,
        ("ambush",),
        "Head2 is killed while the first nodes say who they are. Head1 is killed just after it has "
        "acknowledged job 2.3: by then one node knows of it, and nobody else. Head2, in epoch 3, takes both "
        "jobs over from what the nodes hold and has the launch of each fetched; then the statuses are "
        "collected, each once.",
    ),
    Story(
        "walls-and-store",
        64,
        ("wall", "store_wall"),
        "Head2 leads, and is cut off from the store, both ways and then one way. Its lease runs out. Head1 is "
        "elected and does not hear of it: in epoch 2 nobody ever leads. In epoch 3 head1 leads without a "
        "node, because all links of head2 are well, until the wall is gone and head2 learns at 21.3 s that "
        "its lease is: it ends, and the nodes go over with the job that they hold. (Simulated heads do not "
        "tell each other their epochs. Real ones do, and head2 would have ended at 16.3 s.)",
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
