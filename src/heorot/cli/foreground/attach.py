"""Taking part in a job that nobody attends: what ``bpjob attach`` does with `bpsh`'s parts."""

from __future__ import annotations

from heorot.cli import table
from heorot.cli.foreground.forms import LineForm, PlainForm, Sink
from heorot.cli.foreground.loop import ForegroundLoop
from heorot.cli.foreground.options import DEFAULT_LINE_BYTES
from heorot.client.connection import Connection
from heorot.core.client.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.cli.foreground.forms import Form
    from heorot.core.client.job import ReadStream


def attach(directory: str, job_id: str, from_start: bool, style: str) -> int:
    """Relay a job's output and our signals until it is over, or we leave it; return the status to exit with.

    The job is released only when all of its output was written. Whatever else ends us, what was not written is kept for
    the next who attaches, and so is the status.

    Input is not relayed: that of a detached job ended when it was started, and how much of an abandoned job's was read
    by its former client cannot be known here.

    Parameters
    ----------
    style:
        Empty: bytes as they come; ``lines``: whole lines; ``number``, ``label``: with the node's number or name.

    Raises
    ------
    RequestError
        If there is no cluster or no such job.
    """
    session = Session()
    connection = Connection(directory, session)
    connection.reach()
    job = session.attach(job_id, from_start)

    def consumed(stream: ReadStream, count: int) -> None:
        session.consumed(job, stream, count)

    sinks = {number: Sink(number, consumed) for number in (1, 2)}

    def make_form() -> Form:
        if not style:
            return PlainForm(sinks)
        prefixes: list[bytes] = []
        if style == "number":
            prefixes = [b"%3d: " % node for node in job.nodes]
        elif style == "label":
            prefixes = [f"{table.node_name(node)}: ".encode() for node in job.nodes]
        # The windows of a job of very many ranks are no larger than a line.
        keep_held = job.acknowledge_bytes > DEFAULT_LINE_BYTES
        return LineForm(sinks, consumed, prefixes, DEFAULT_LINE_BYTES, keep_held=keep_held)

    relay = ForegroundLoop("bpjob", session, connection, job, sinks, make_form, read_stdin=False, joined=True)
    refused = relay.run_until_acknowledged()
    # Its first output may come with the acknowledgement, and find nobody who takes it.
    if refused is not None and not job.id:
        return refused
    if relay.leaves_at_end and not job.done:
        relay.say(f"Ctrl-D leaves job {job.id} running; Ctrl-C, Ctrl-Z and Ctrl-\\ go to it")
    status = relay.run()
    if not relay.all_written:
        return relay.leave()
    relay.release()
    # Who left by Ctrl-D while the last of it was written has got it all, and so the status, too.
    return job.exit_status if relay.left else status
