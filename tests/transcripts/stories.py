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
        "Head2 sleeps beyond its lease, and head1 is elected. When head2 wakes up at 11.2 s, head1 tells it that it "
        "leads, and head2 ends; the store says the same to its keeper. The nodes cannot reach head1 before 14.6 s: "
        "then it takes over the two jobs that their users have left behind, which are over, and which nobody has "
        "collected. Now head1 sleeps, and head2 is elected, in epoch 3; the nodes leave the silent head at 19.1 s, "
        "and head2 takes the jobs over. Head1 wakes up, is told, and ends. At the end somebody collects both jobs, "
        "with all their statuses.",
    ),
    Story(
        "killed-between-words",
        29,
        ("ambush",),
        "Job 1.1 is detached: head1 acknowledges it when n1 has given its copy of the launch, and is killed when it "
        "has just been told that all ranks run. Its keeper gives the lease up, and head2 is elected 25 ms after the "
        "kill. A user asks for a job on n0, n1 and n2 then, before head2 has heard of any of them: that waits until "
        "all three have spoken, and is acknowledged at 1.617 s, when n0 and n1 have the launch. Head2 takes job 1.1 "
        "over from n0's copy, and at the end somebody collects it.",
    ),
    Story(
        "walls-and-store",
        7,
        ("wall", "store_wall"),
        "Head2 leads, and is cut off from the store and from all nodes. It acknowledges job 1.1 at 3.3 s, but "
        "nothing that it sends reaches n1: no node has the launch. Its lease runs out, and head1 is elected. As "
        "soon as the store can be heard again, at 5.3 s, it says that the lease is gone: the keeper of head2 ends "
        "its head. User0 hands its launch to head1, with the receipt that it was given: the job is started under "
        "the same id, once, on n1, which has gone over to head1 by itself.",
    ),
    Story(
        "sleeping-node",
        104,
        ("doze",),
        "The agents of n0 and n1 are stopped while head2 leads: launches that n2 has a copy of are acknowledged, "
        "and what the sleepers have to do of them is done when they go on, at 6.8 s and at 8.3 s. At 19.1 s n1 and "
        "n2 sleep, and head2 is killed. Head1 hears of n0 alone, takes job 1.1 over from it, and is killed as well; "
        "head2 leads again, in epoch 3. Whoever wakes up goes to the head that leads by then and offers what it "
        "holds: n1 knows job 1.1 as well. At the end somebody collects it, with the statuses that both nodes have "
        "kept.",
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
