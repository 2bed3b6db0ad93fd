"""Who may say what to a process space: `heorot.core.routes` tells how to read this.

What is done stands in the part that is named first in each row.
"""

from __future__ import annotations

from heorot.core.routes import Routes, Side
from heorot.core.wire import tree as m

FROM_AGENT = Routes(
    "the process space",
    {
        (Side.AGENT, m.Launch): lambda space, command: space._launches.launch(command),
        (Side.AGENT, m.RefuseLaunch): lambda space, command: space._launches.refuse(command),
        (Side.AGENT, m.Stdin): lambda space, command: space._stdin(command),
        (Side.AGENT, m.Ack): lambda space, command: space._ack(command),
        (Side.AGENT, m.Attend): lambda space, command: space._attend(command),
        (Side.AGENT, m.Release): lambda space, command: space._release(command),
        (Side.AGENT, m.Resize): lambda space, command: space._resize(command),
        (Side.AGENT, m.Inventorize): lambda space, command: space._inventorize(command),
        (Side.AGENT, m.Query): lambda space, command: space._queries.ask(command),
        (Side.AGENT, m.FetchLaunch): lambda space, command: space._fetch_launch(command),
        (Side.AGENT, m.Admit): lambda space, command: space._admit(command),
        (Side.AGENT, m.Alone): lambda space, command: space._alone(command),
        (Side.AGENT, m.Scattered): lambda space, command: space.pmi.scattered(command),
    },
)

SAID_BY_AGENT = FROM_AGENT.said_by(Side.AGENT)
