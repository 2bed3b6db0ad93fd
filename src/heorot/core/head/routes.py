"""Who may say what to a head: `heorot.core.routes` tells how to read this.

What is done stands in the part that is named first in each row.
"""

from __future__ import annotations

from heorot.core.routes import Routes, Side
from heorot.core.tree.below_links import HEARD_BY_BOTH
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m

FROM_BELOW = Routes(
    "a head",
    {
        **HEARD_BY_BOTH,
        (Side.CHILD, m.Report): lambda head, link, report: head.passed.report(link, report),
        (Side.CHILD, m.Replies): lambda head, link, replies: head.requests.questions.replied(link, replies),
        (Side.CHILD, m.Gathered): lambda head, link, word: head.jobs.collectives.gathered(link.mask, word),
        (Side.CHILD, m.Up): lambda head, link, up: head.passed.up(link, up),
        (Side.CHILD, m.Want): lambda head, link, want: head.images.child_wants(link, want),
        (Side.CHILD, m.Took): lambda head, link, took: head.images.transfers.took(link.link, took),
        (Side.CHILD, m.ImageManifest): lambda head, link, manifest: head.images.child_lists(link, manifest),
        (Side.CHILD, m.Piece): lambda head, link, piece: head.images.child_sends(link, piece),
        (Side.CHILD, m.Unavailable): lambda head, link, word: head.images.child_has_not(link, word),
        (Side.CHILD, m.ImageKept): lambda head, link, word: head.images.safekeeping.answered(link.link, word),
        (Side.NODE, m.Attach): lambda head, link, node, attach: head._attach(link, node, attach),
        (Side.NODE, m.Inventory): lambda head, _, node, said: head._inventory(head.members.records[node], said),
        (Side.NODE, m.SpaceGone): lambda head, _, node, gone: head._space_gone(head.members.records[node], gone),
        (Side.NODE, m.Output): lambda head, _, node, output: head.jobs.output(node, output),
        (Side.NODE, m.StdinAck): lambda head, _, node, ack: head.jobs.stdin_ack(node, ack),
        (Side.NODE, m.Reply): lambda head, _, node, reply: head.requests.questions.reply(node, reply),
        (Side.NODE, m.HeadsKept): lambda head, _, node, kept: head.listed.kept(head.members.records[node], kept),
        (Side.NODE, m.LaunchCopy): lambda head, _, node, copy: head._launch_copy(node, copy),
    },
)

SAID_BY_NODES = FROM_BELOW.said_by(Side.NODE)

FROM_RIVALS = Routes(
    "a head",
    {
        (Side.RIVAL, m.Hello): lambda rivals, address, message: rivals._greeted(address, message),
        (Side.RIVAL, m.Refused): lambda rivals, address, message: rivals._refused(address, message),
    },
)

FROM_CLIENTS = Routes(
    "a head",
    {
        (Side.NEWCOMER, c.ClientHello): lambda clients, caller, ask: clients._client_hello(caller, ask),
        (Side.CLIENT, c.ClientAck): lambda clients, caller, ask: clients._client_ack(caller, ask),
        (Side.CLIENT, c.ClientStdin): lambda clients, caller, ask: clients._client_stdin(caller, ask),
        (Side.CLIENT, c.Spawn): lambda clients, caller, ask: clients.launches.ask(caller, ask),
        (Side.CLIENT, c.ClientRelease): lambda clients, caller, ask: clients._client_release(caller, ask),
        (Side.CLIENT, c.ClientResize): lambda clients, caller, ask: clients._client_resize(caller, ask),
        (Side.CLIENT, c.Detach): lambda clients, caller, ask: clients._detach_job(caller, ask),
        (Side.CLIENT, c.AttachJob): lambda clients, caller, ask: clients._attach_job(caller, ask),
        (Side.CLIENT, c.Wait): lambda clients, caller, ask: clients._wait(caller, ask),
        (Side.CLIENT, c.Signal): lambda clients, caller, ask: clients._signal(caller, ask),
        (Side.CLIENT, c.Resolve): lambda clients, caller, ask: clients._resolve(caller, ask),
        (Side.CLIENT, c.ShowStatus): lambda clients, caller, ask: clients._status(caller, ask),
        (Side.CLIENT, c.ListNodes): lambda clients, caller, ask: clients._list_nodes(caller, ask),
        (Side.CLIENT, c.ListProcesses): lambda clients, caller, ask: clients._list_processes(caller, ask),
        (Side.CLIENT, c.Watch): lambda clients, caller, ask: clients._watch(caller, ask),
        (Side.CLIENT, c.Seen): lambda clients, caller, word: clients.watches.seen(caller.client, word.request),
        (Side.CLIENT, c.Unwatch): lambda clients, caller, word: clients._unwatch(caller, word),
        (Side.CLIENT, c.ListEvents): lambda clients, caller, ask: clients._list_events(caller, ask),
        (Side.CLIENT, c.SetNodes): lambda clients, caller, ask: clients.wishes.ask(caller, ask),
        (Side.CLIENT, c.LookOn): lambda clients, caller, ask: clients._look_on(caller, ask),
        (Side.CLIENT, c.LookTook): lambda clients, caller, word: clients._jobs.onlookers.took(
            caller.client, word.request, word.size_bytes
        ),
        (Side.CLIENT, c.ListJobs): lambda clients, caller, ask: clients._list_jobs(caller, ask),
        (Side.CLIENT, c.ShowJob): lambda clients, caller, ask: clients._show_job(caller, ask),
        (Side.CLIENT, c.Stage): lambda clients, caller, ask: clients._images.stage(caller, ask),
        (Side.CLIENT, c.OfferedManifest): lambda clients, caller, offered: clients._images.manifest(
            caller.client, offered
        ),
        (Side.CLIENT, c.OfferedPiece): lambda clients, caller, piece: clients._images.piece(caller.client, piece),
        (Side.CLIENT, c.NotOffered): lambda clients, caller, word: clients._images.not_offered(caller.client, word),
    },
)

SAID_BY_CLIENTS = FROM_CLIENTS.said_by(Side.CLIENT)
