"""Four simulated stories that are worth reading, kept as text: who they are about, and which of their lines tell.

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
        2,
        ("pause",),
        "Head2 sleeps beyond its lease, and head1 is elected. The nodes leave the silent head at 12.1 s, and "
        "head1 takes over the two jobs that their users have left behind: they are over, and nobody has collected "
        "them. When head2 wakes up, head1 tells it at 13.4 s that it leads, and head2 ends. Then both sleep, and "
        "nobody leads. Whoever wakes up first is elected, in epoch 3, and tells the other one, which ends. At the "
        "end somebody collects both jobs, with all their statuses.",
    ),
    Story(
        "killed-between-words",
        29,
        ("ambush",),
        "Job 1.1 is detached: head1 acknowledges it when n1 has given its copy of the launch, and is killed when "
        "it has just been told that all ranks run. Head2 takes the job over from n1's copy, at 1.89 s. Two more "
        "users ask for jobs then, on nodes of which head2 has not heard yet: they wait until n0 and n2 have "
        "spoken, and are acknowledged at 2.06 s, each as soon as a node has the launch.",
    ),
    Story(
        "walls-and-store",
        7,
        ("wall", "store_wall"),
        "Head2 leads, and is cut off from the store and from what would answer it. It acknowledges job 1.1 at 3.3 "
        "s, but nothing that it sends reaches n1: no node has the launch. Its lease runs out, and head1 is elected. "
        "It reaches head2, and tells it at 4.6 s that it leads: head2 ends, though the store cannot tell it yet. "
        "User0 hands its launch to head1, with the receipt that it was given: the job is started under the same "
        "id, once, when n1 has gone over to head1.",
    ),
    Story(
        "sleeping-node",
        104,
        ("doze",),
        "The agents of n0 and n2 are stopped, and head2 is killed. Head1 takes job 1.1 over from n1. A launch on "
        "the nodes that are up waits two seconds for the silent ones, then starts on n1, and its last word names "
        "those that it left out. Another one names n0 and n2: it is told at 7.2 s for whom it waits, and is "
        "refused at 10.1 s, when n0 has been silent for five seconds. Twice more agents sleep and the head is "
        "killed: whoever wakes up offers what it holds to the head that leads by then.",
    ),
)


def tell(story: Story) -> str:
    """Return the text of a story: why it is worth reading, and its telling lines."""
    settings = draw(story.seed)
    # What a story is about is heads; programs that travel would fill pages.
    settings.image_rate = 0.0
    settings.spare_heads = settings.rush = 0
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
