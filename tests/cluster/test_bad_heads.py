"""Heads that must not lead, or not be believed, beside a running job: bad identities, wrong clocks, other clusters."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from heorot.cli.request import Head
from heorot.config.files import Address
from heorot.config.text import render_head
from heorot.core.errors import ProtocolError, RequestError
from heorot.security.authority import Authority
from tests.cluster.harness import DEADLINE_S, ROOT, Cluster, Finished, await_that, cluster, host_pids, kill_hard
from tests.cluster.test_takeover import await_epoch, head, roles
from tests.cluster.witness import Witness
from tests.support.etcd import Etcd, etcd, free_ports

pytestmark = pytest.mark.slow

LEASE_MS = 4_000
TIMES = {"HEOROT_TIMES": f"heartbeat_ms=300,link_timeout_ms=5000,lease_ms={LEASE_MS}"}
DAY_S = 86_400


def heads(made: Cluster) -> dict[str, str]:
    """Return the role of each head in the words of the active one; nothing while nobody leads."""
    # `heorot status` leaves out those that a cluster on one machine does not run itself.
    try:
        client = Head(str(made.directory), patient=False)
    except RequestError:
        return {}
    try:
        return {row["name"]: row["role"] for row in client.ask("status")["heads"]}
    except (RequestError, ProtocolError):
        return {}
    finally:
        client.close()


class Lone:
    """A head with a configuration of its own, as a service manager runs it, in place of one of a cluster."""

    def __init__(self, directory: Path, name: str, made: Cluster, store: Etcd | None = None) -> None:
        self.directory = directory
        self.identity = directory / "heads" / name
        self.config = directory / "head.toml"
        self.log = directory / "log" / f"{name}.log"
        self.name = name
        self.made = made
        self.port = next(int(h["address"].rpartition(":")[2]) for h in made.status()["heads"] if h["name"] == name)
        made.check("heorot", "head", "stop", name)
        await_that(lambda: name not in heads(made), f"{name} has made room")
        shutil.copytree(made.directory / "heads" / name, self.identity)
        self.cluster_id = (made.directory / "cluster.toml").read_text().split('"')[1]
        self.store = store

    def configure(self, *others: Address) -> None:
        """Write the configuration; `others` are where the other heads are."""
        listen = Address("127.0.0.1", self.port)
        settings = {"timers": {"heartbeat_ms": 300, "link_timeout_ms": 5000}}
        if self.store is not None:
            settings["store"] = {"kind": "etcd", "lease_ms": LEASE_MS, "endpoints": self.store.urls}  # type: ignore[dict-item]
        text = render_head(
            cluster=self.cluster_id,
            directory=str(self.directory),
            name=self.name,
            listen=listen,
            addresses=[*others, listen],
            socket=str(self.directory / "head.sock"),
            settings=settings,
        )
        self.config.write_text(text)

    def start(self, clock_off_s: int = 0) -> subprocess.Popen[bytes]:
        """Start it, with a clock that is wrong by so much."""
        code = (
            f"import time; right = time.time; time.time = lambda: right() + {clock_off_s}; "
            "from heorot.start import run; run('bphead')"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self.made.environment,
        )

    @contextmanager
    def running(self, clock_off_s: int = 0) -> Iterator[Cluster]:
        """Run it, and give what runs commands at it."""
        with self.start(clock_off_s) as process:
            try:
                yield Cluster(self.directory)
            finally:
                process.terminate()
                process.communicate(timeout=DEADLINE_S)

    def fails(self) -> Finished:
        """Start it; it must end by itself."""
        with self.start() as process:
            try:
                output, errors = process.communicate(timeout=DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Finished([], process.returncode, output, errors)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Cluster, Lone]]:
    """Three nodes under h0, and h1 to be started by the test; they agree through etcd."""
    with (
        etcd(tmp_path, 1) as store,
        cluster(3, "--heads", "2", "--etcd", store.urls[0], environment=TIMES) as made,
    ):
        await_that(lambda: set(roles(made).values()) == {"active", "standby"}, "both heads")
        lone = Lone(tmp_path / "h1", "h1", made, store)
        lone.configure(Address("127.0.0.1", int(head(made)["address"].rpartition(":")[2])))
        yield made, lone


# ------------------------------------------------------------------ identities


def authority_of(lone: Lone) -> Authority:
    return Authority.load(lone.made.directory / "ca")


def without(name: str) -> Callable[[Lone], None]:
    return lambda lone: (lone.identity / name).unlink()


def issued(issue: Callable[[Authority], object]) -> Callable[[Lone], None]:
    return lambda lone: issue(authority_of(lone)).write(lone.identity)  # type: ignore[attr-defined]


def of_another_authority(lone: Lone) -> None:
    """The certificate of a cluster with the same id, and our authority beside it."""
    ours = (lone.identity / "ca.pem").read_bytes()
    Authority.create(lone.directory / "elsewhere", lone.cluster_id).issue_head("h1").write(lone.identity)
    (lone.identity / "ca.pem").write_bytes(ours)


def of_another_cluster(lone: Lone) -> None:
    Authority.create(lone.directory / "elsewhere", "elsewhere").issue_head("h1").write(lone.identity)


def with_another_key(lone: Lone) -> None:
    shutil.copy(lone.made.directory / "heads/h0/key.pem", lone.identity / "key.pem")


def of_our_namesake(lone: Lone) -> None:
    """A whole identity of another cluster that has our id: only the store can tell."""
    Authority.create(lone.directory / "elsewhere", lone.cluster_id).issue_head("h1").write(lone.identity)


BAD: dict[str, tuple[Callable[[Lone], None], list[str]]] = {
    "nothing": (lambda lone: shutil.rmtree(lone.identity), ["ca.pem", "heorot head join"]),
    "no certificate": (without("cert.pem"), ["cert.pem", "No such file", "heorot head join"]),
    "no key": (without("key.pem"), ["private key", "key.pem", "No such file", "heorot head join"]),
    "no signing key": (without("signing.key"), ["signing.key", "No such file", "heorot head join"]),
    "an open key": (lambda lone: (lone.identity / "key.pem").chmod(0o644), ["(mode 644); use: chmod 600", "key.pem"]),
    "an open signing key": (
        lambda lone: (lone.identity / "signing.key").chmod(0o640),
        ["(mode 640); use: chmod 600", "signing.key"],
    ),
    "garbage": (lambda lone: _ignore((lone.identity / "cert.pem").write_text("?")), ["cert.pem", "not a certificate"]),
    "expired": (
        issued(lambda authority: authority.issue_head("h1", timedelta(minutes=-1))),
        ["cert.pem has expired", "heorot certificate renew"],
    ),
    "of another head": (
        issued(lambda authority: authority.issue_head("h7")),
        ["cert.pem is of head:h7, not of head:h1"],
    ),
    "of a node": (issued(lambda authority: authority.issue_node(3)), ["cert.pem is of node:3, not of head:h1"]),
    "of another cluster": (of_another_cluster, ["cert.pem is of the cluster 'elsewhere'", "heorot head join"]),
    "of another authority": (of_another_authority, ["cert.pem was not issued by the authority", "heorot head join"]),
    "with another key": (with_another_key, ["key.pem and cert.pem"]),
    "of our namesake": (of_our_namesake, ["in etcd belongs to another cluster", "give one of them another id"]),
}


def _ignore(value: object) -> None:
    """A function that gives nothing."""


def test_a_standby_with_a_bad_identity_ends_with_an_error_and_no_job_notices(
    pair: tuple[Cluster, Lone], tmp_path: Path
) -> None:
    made, lone = pair
    good = tmp_path / "good"
    shutil.copytree(lone.identity, good)
    before = made.status()["epoch"], heads(made)
    with Witness(made, tmp_path) as witness:
        for what, (spoil, says) in BAD.items():
            shutil.rmtree(lone.directory / "elsewhere", ignore_errors=True)
            shutil.rmtree(lone.identity, ignore_errors=True)
            shutil.copytree(good, lone.identity)
            spoil(lone)
            ended = lone.fails()
            errors = ended.stderr.decode()
            assert ended.returncode == 1, (what, errors)
            assert errors.startswith("bphead: "), (what, errors)
            assert "Traceback" not in errors, (what, errors)
            assert all(word in errors for word in says), (what, errors)
            assert str(lone.identity) in errors or what == "of our namesake", (what, errors)
            witness.check()
        # None of them stood for election, and with a good one it does.
        assert (made.status()["epoch"], heads(made)) == before
        shutil.rmtree(lone.identity)
        shutil.copytree(good, lone.identity)
        with lone.running():
            await_that(lambda: heads(made) == {"h0": "active", "h1": "standby"}, "h1 stands by")


# ------------------------------------------------------------------ clocks


@pytest.mark.parametrize("days", [5, -5])
def test_a_head_whose_clock_is_days_off_says_so_and_harms_no_job(
    pair: tuple[Cluster, Lone], tmp_path: Path, days: int
) -> None:
    made, lone = pair
    marker = uuid.uuid4().hex
    with Witness(made, tmp_path) as witness:
        kept = made.detach("-a", "/bin/sh", "-c", "echo kept; sleep 600")
        ended = made.detach("n1", "/bin/sh", "-c", "exit 7")
        made.await_job(ended, lambda shown: shown["state"] == "done", "the short job over")
        with lone.running(days * DAY_S) as there:
            await_that(lambda: heads(made).get("h1") == "standby", "h1 stands by")
            made.check("heorot", "head", "switch", "h1")
            await_epoch(there, 2)
            # What ran goes on, and is known: each node tells what it runs when it comes.
            there.await_job(kept, lambda shown: shown["running"] == 3, "all of the job is known")
            assert there.job(ended)["statuses"] == {"0": {"code": 7}}
            # What is launched here is refused, and the reason given.
            refused = there.run("bpsh", "-a", "/bin/sh", "-c", "sleep 600", marker)
            assert refused.returncode == 126, refused.stderr
            assert b"synchronise the clocks" in refused.stderr
            off_s = re.search(rb"clock is (-?\d+) s off", refused.stderr)
            assert off_s is not None, refused.stderr
            assert abs(int(off_s[1]) + days * DAY_S) < DEADLINE_S
            there.check("heorot", "head", "switch", "--dir", str(lone.directory), "h0")
            await_epoch(made, 3)
            witness.check()
        made.await_job(kept, lambda shown: shown["running"] == 3, "all of the job is known again")
        assert host_pids(marker) == []
        assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
        assert made.run("bpjob", "attach", "--from-start", ended).returncode == 7


WRONG_CLOCK = """
import os, time
_right = time.time
def _time():
    with open("/proc/self/comm") as name, open(os.environ["WRONG_CLOCKS"]) as wrong:
        return _right() + (5 * 86_400 if name.read() == wrong.read() else 0)
if "WRONG_CLOCKS" in os.environ:
    time.time = _time
"""
"""Python reads this at its start: the daemon that is named in the file has a wrong clock."""


def open_command(name: str) -> list[str]:
    """Return the words that run one of Heorot's commands in a Python which reads its environment.

    Installed commands do not (``python3 -IS``).
    """
    return [sys.executable, "-c", f"import sys; sys.argv[0] = {name!r}; from heorot.start import run; run({name!r})"]


def test_what_a_node_with_a_wrong_clock_has_refused_is_not_started_by_the_next_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cluster.harness.command", open_command)
    wrong, marker = tmp_path / "wrong", uuid.uuid4().hex
    wrong.write_text("bpnode n1\n")
    (tmp_path / "sitecustomize.py").write_text(WRONG_CLOCK)
    environment = {**TIMES, "WRONG_CLOCKS": str(wrong), "PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}
    with cluster(3, "--heads", "2", environment=environment) as made, Witness(made, tmp_path) as witness:
        job = made.detach("-a", "/bin/sh", "-c", "sleep 600", marker)
        shown = made.await_job(job, lambda shown: shown["running"] == 2 and shown["failed"] == 1, "all is known")
        assert "synchronise the clocks" in shown["statuses"]["1"]["error"]
        # The clock is set right, and another head leads: what was refused stays so.
        wrong.write_text("nobody\n")
        kill_hard(made.node(1)["agent_pid"])
        await_that(lambda: made.run("bpsh", "n1", "echo", "here").stdout == b"here\n", "n1 starts what it is given")
        made.check("heorot", "head", "switch", "h1")
        await_epoch(made, 2)
        assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
        again = made.job(job)
        assert [again[key] for key in ("running", "failed", "statuses")] == [2, 1, shown["statuses"]]
        assert len(host_pids(marker)) == 2
        witness.check()


# ------------------------------------------------------------------ other clusters


def test_a_head_of_another_cluster_at_a_known_address_is_passed_by(tmp_path: Path) -> None:
    with cluster(3, "--heads", "3", environment=TIMES) as made, Witness(made, tmp_path) as witness:
        await_that(lambda: len(roles(made)) == 3, "all heads")
        # h1 is gone, and another cluster has got its address.
        lone = Lone(tmp_path / "gone", "h1", made)
        lone.cluster_id = "elsewhere"
        shutil.rmtree(lone.identity)
        Authority.create(lone.directory / "ca", "elsewhere").issue_head("h1").write(lone.identity)
        lone.configure()
        with lone.running() as elsewhere:
            await_that(lambda: bool(elsewhere.known()), "the other cluster's head leads")
            # Without any head of theirs, the nodes find the other one again and again.
            for name in ("h0", "h2"):
                made.check("heorot", "head", "stop", name)
            for node in range(3):
                await_that(lambda node=node: (headless_ms(made, node) or 0) > 3000, f"n{node} looks for a head")  # type: ignore[misc]
            said = [(made.directory / "log" / f"n{node}.log").read_text() for node in range(3)]
            made.check("heorot", "head", "start", "h2")
            await_that(lambda: heads(made) == {"h2": "active"}, "h2 leads")
            await_epoch(made, made.status()["epoch"])
            witness.check()
            assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
            # Each said it once for each of its heads that it lost; the other head knows nothing of them, and did not
            # fill its log either.
            for text in said:
                lines = [line for line in text.splitlines() if f"port {lone.port}" in line]
                reasons = Counter(line.partition("no way up")[2] for line in lines)
                assert max(reasons.values()) <= 2, lines
                lines = [line for line in lines if "refused" not in line]
                assert 1 <= len(lines) <= 2, lines
                assert "warning" in lines[0]
                assert "no way up" in lines[0]
                assert "the peer's certificate is not of this cluster" in lines[0]
            assert json.loads(elsewhere.check("heorot", "status", "--json"))["nodes"] == []
            refusals = [line for line in lone.log.read_text().splitlines() if "refused a connection" in line]
            assert 1 <= len(refusals) <= 2, refusals


def headless_ms(made: Cluster, node: int) -> int | None:
    """Return for how long a node has been without a head; None: it has one."""
    (answer,) = json.loads(made.check("heorot", "node", "ps", f"n{node}", "--json"))
    value: int | None = answer["headless_ms"]
    return value


def test_a_head_tells_once_that_another_cluster_is_where_another_head_should_be(
    pair: tuple[Cluster, Lone], tmp_path: Path
) -> None:
    made, lone = pair
    (port,) = free_ports(1)
    stranger = tmp_path / "stranger"
    config = stranger / "head.toml"
    here = Cluster(stranger)
    here.check(
        "heorot", "head", "init", "--dir", str(stranger), "--listen", f"127.0.0.1:{port}", "--config", str(config),
        "--socket", str(stranger / "head.sock"),
    )  # fmt: skip
    lone.configure(Address("127.0.0.1", port), Address("127.0.0.1", int(head(made)["address"].rpartition(":")[2])))
    process = here.start("bphead", "--config", str(config))
    try:
        await_that(lambda: bool(here.known()), "the stranger leads its own cluster")
        with Witness(made, tmp_path) as witness, lone.running() as there:
            # On standby it passes its clients by the stranger on to h0.
            await_that(lambda: roles(there) == {"h0": "active", "h1": "standby"}, "h1 stands by")
            assert there.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
            made.check("heorot", "head", "switch", "h1")
            await_epoch(there, 2)
            line = f"the address of another head: 127.0.0.1 port {port}: the peer's certificate is not of this cluster"
            await_that(lambda: line in lone.log.read_text(), "the head says it")
            # It tries that address again, once in the time of a lease.
            began_s = there.status()["store"]["since_s"]
            await_that(lambda: there.status()["store"]["since_s"] > began_s + LEASE_MS / 400, "two more rounds")
            there.check("heorot", "head", "switch", "--dir", str(lone.directory), "h0")
            await_epoch(made, 3)
            witness.check()
            assert lone.log.read_text().count(line) == 1
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
        assert os.path.exists(stranger)
