"""What a second, real user tries against bpinit, and what their processes find: the kernel decides, nobody else."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from heorot.bpinit import calls, own_commands
from heorot.core.wire import tree as m
from tests.bpinit.space_rig import Agent, SpaceRig
from tests.support import keys
from tests.support.other_user import become, own_uid

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.getuid() != 0, reason="a second user needs root")]
USER, THIRD = own_uid(), own_uid()
"""Nobody else's: one of them signals all that belongs to them, and one uses up a quota."""


@pytest.fixture(params=["shared", "copied"])
def space(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpaceRig]:
    """A bpinit; on a machine for which there is no machine code, too."""
    if request.param == "copied":
        monkeypatch.setattr(calls, "_CODE", {})
    rig = SpaceRig("namespace")
    yield rig
    rig.end()


@contextmanager
def attacker(attack: Callable[[], int]) -> Iterator[Callable[[], tuple[int, int]]]:
    """Run an attack again and again as the user, until told to end; what is yielded ends it.

    It returns how often it was tried, and how often it had success.
    """
    reader, writer = os.pipe()
    go, stop = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(stop)
            os.set_blocking(go, False)
            become(USER)
            tried = had = 0
            while True:
                had += attack()
                tried += 1
                if tried % 64 == 0:
                    with suppress(BlockingIOError):
                        if not os.read(go, 1):
                            break
            os.write(writer, f"{tried} {had}".encode())
        finally:
            os._exit(0)
    os.close(go)
    os.close(writer)
    ended = False

    def end() -> tuple[int, int]:
        nonlocal ended
        ended = True
        os.close(stop)
        tried, had = os.read(reader, 100).split()
        return int(tried), int(had)

    try:
        yield end
    finally:
        if not ended:
            os.close(stop)
        os.waitpid(pid, 0)
        os.close(reader)


def succeeds(call: Callable[[], object]) -> int:
    """Say whether a call is permitted."""
    try:
        call()
    except PermissionError:
        return 0
    except ProcessLookupError:
        return 0
    return 1


def start_many(agent: Agent, space: SpaceRig, ranks: int = 60) -> None:
    for number in range(3):
        job = f"1.{number + 1}"
        agent.send(space.launch(job, b"true", uid=USER, gid=USER, ranks=ranks, stdin=b""))
        assert agent.wait_over(job) == dict.fromkeys(range(ranks), 0)


def test_bpinit_is_out_of_reach_of_the_user_whose_processes_it_starts(space: SpaceRig) -> None:
    agent = space.agent()
    pid = space.pid
    numbers = [0, signal.SIGUSR1, signal.SIGHUP, signal.SIGSTOP, signal.SIGKILL]

    def attack() -> int:
        return (
            sum(succeeds(partial(os.kill, pid, number)) for number in numbers)
            + succeeds(lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
            + succeeds(lambda: os.sched_setaffinity(pid, [0]))
            + succeeds(lambda: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0)))
            + succeeds(lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (10, 10)))
            + succeeds(lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY)))
            + succeeds(lambda: os.close(os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY)))
        )

    with attacker(attack) as end:
        start_many(agent, space)
        # What else is done with the user's rights: a file is opened, a command is not found.
        agent.run("1.7", b"echo", b"x", uid=USER, gid=USER, stdout=os.fsencode(space.work) + b"/out")
        agent.send(space.launch("1.8", b"no-such-command", uid=USER, gid=USER))
        agent.until(lambda: agent.failed("1.8"), "the failure")
        tried, had = end()
    assert tried > 100
    assert had == 0
    assert agent.run("1.9", b"echo", b"alive") == b"alive\n"


def test_nobody_inside_signals_bpinit_either(space: SpaceRig) -> None:
    agent = space.agent()
    script = b"n=0; while [ $n -lt 3000 ]; do kill -USR1 1 && echo had; n=$((n+1)); done"
    agent.send(space.launch("1.5", b"sh", b"-c", script, uid=USER, gid=USER, stderr=b"/dev/null"))
    start_many(agent, space, 30)
    agent.wait_over("1.5")
    assert agent.output.get(("1.5", 0, 1), b"") == b""


def test_a_user_s_long_queue_of_starts_keeps_nobody_else_waiting(space: SpaceRig) -> None:
    agent = space.agent()
    jobs, ranks = 3, 200
    queue = [space.launch(f"1.{n}", b"true", uid=USER, gid=USER, ranks=ranks, stdin=b"") for n in range(1, jobs + 1)]
    others = [space.launch(f"2.{uid}", b"echo", b"x", uid=uid, gid=uid) for uid in (THIRD, 0)]
    agent.send(*queue, *others)
    for uid in (0, THIRD):
        assert agent.wait_over(f"2.{uid}") == {0: 0}
        assert sum(len(agent.started(f"1.{n}")) for n in range(1, jobs + 1)) < jobs * ranks // 2
    for n in range(1, jobs + 1):
        assert agent.wait_over(f"1.{n}") == dict.fromkeys(range(ranks), 0)


def test_a_process_that_is_stopped_while_it_starts_keeps_nobody_waiting(space: SpaceRig) -> None:
    agent = space.agent()

    def attack() -> int:
        return succeeds(lambda: os.kill(-1, signal.SIGSTOP))

    with attacker(attack) as end:
        for number in range(4):
            agent.send(space.launch(f"1.{number + 1}", b"true", uid=USER, gid=USER, ranks=8, stdin=b""))
            assert agent.run(f"2.{number + 1}", b"echo", b"others") == b"others\n"
        tried, had = end()
    assert tried
    assert had
    # They count as started, and are stopped, as processes of theirs may be.
    agent.send(m.Query(1, None, None, None, signal.SIGKILL, False, USER))
    for number in range(4):
        agent.until(partial(agent.over, f"1.{number + 1}"), "the end")


def test_a_program_that_cannot_be_opened_yet_keeps_nobody_waiting(space: SpaceRig) -> None:
    """A lease on a file makes whoever opens it wait for up to 45 s, and any user may take one on their own files."""
    agent = space.agent()
    program = os.path.join(space.work, "program")
    shutil.copy("/bin/echo", program)
    os.chmod(program, 0o755)
    os.chown(program, USER, USER)
    fd = os.open(program, os.O_RDONLY)
    try:
        with ignored(signal.SIGIO):
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            agent.send(space.launch("1.1", os.fsencode(program), b"mine", uid=USER, gid=USER, ranks=40))
            agent.wait_started("1.1", 40)
            assert agent.run("1.2", b"echo", b"others") == b"others\n"
            assert agent.exited("1.1") == {}
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            assert agent.wait_over("1.1") == dict.fromkeys(range(40), 0)
    finally:
        os.close(fd)
    assert {bytes(agent.output[("1.1", rank, 1)]) for rank in range(40)} == {b"mine\n"}


@contextmanager
def ignored(number: signal.Signals) -> Iterator[None]:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


OPENS = [
    b"echo x > /dev/stdout",
    b"(echo x | tee /dev/stderr > /dev/null) 2>&1",
    b"echo x | dd of=/dev/stdout status=none",
    b"cat /dev/stdin",
    b"dd if=/dev/stdin status=none",
    b"cat < /proc/self/fd/0 > /proc/self/fd/1",
    b'/usr/bin/python3 -c \'open("/dev/stdout", "w").write(open("/dev/stdin").read())\'',
]


def test_a_process_can_open_its_own_streams(space: SpaceRig) -> None:
    agent = space.agent()
    for number, script in enumerate(OPENS):
        job = f"1.{number + 1}"
        words = [b"sh", b"-c", script + b"; echo err > /dev/stderr"]
        agent.send(space.launch(job, *words, uid=USER, gid=USER, stdin=b""), m.Stdin(job, None, 0, b"x\n", True))
        assert agent.wait_over(job) == {0: 0}, (script, agent.output)
        assert bytes(agent.output[(job, 0, 1)]) == b"x\n", script
        assert bytes(agent.output[(job, 0, 2)]) == b"err\n", script


def test_what_a_stream_is_redirected_to_is_opened_with_the_user_s_rights_alone(space: SpaceRig) -> None:
    agent = space.agent()
    refused: list[dict[str, bytes]] = [
        {"stdin": b"/etc/shadow"},
        {"stdin": b"/proc/1/environ"},
        {"stdin": b"/proc/1/maps"},
        {"stdin": b"/proc/1/root/etc/passwd"},
        {"stdin": b"/proc/1/fd/2"},
        {"stdout": b"/etc/heorot-planted"},
        {"stderr": b"/proc/1/mem"},
        {"stdout": b"/proc/sys/kernel/core_pattern"},
        {"directory": b"/root"},
    ]
    for number, fields in enumerate(refused):
        job = f"1.{number + 1}"
        agent.send(space.launch(job, b"cat", uid=USER, gid=USER, **({"directory": b"/"} | fields)))
        agent.until(partial(agent.failed, job), f"the failure with {fields}")
        assert "Permission denied" in agent.failed(job)[0].text, fields
    assert not os.path.lexists("/etc/heorot-planted")
    out = os.fsencode(space.work) + b"/out"
    before = space.file_descriptors()
    agent.run("2.1", b"sh", b"-c", b"echo mine; echo err >&2", uid=USER, gid=USER, umask=0o27, stdout=out, stderr=out)
    status = os.stat(out)
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (USER, USER, 0o640)
    assert agent.run("2.2", b"cat", uid=USER, gid=USER, stdin=out) == b"mine\nerr\n"
    assert space.file_descriptors() == before


def test_why_a_start_failed_tells_nothing_that_the_user_may_not_see(space: SpaceRig) -> None:
    agent = space.agent()
    hidden = os.path.join(space.work, "hidden")
    os.mkdir(hidden, 0o700)
    for name, content in (("script", "#!/no/such/secret\n"), ("other", "#!/bin/sh\n")):
        with open(os.path.join(hidden, name), "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(os.path.join(hidden, name), 0o755)
    for number, name in enumerate(("script", "other", "none")):
        job = f"1.{number + 1}"
        path = os.fsencode(os.path.join(hidden, name))
        agent.send(space.launch(job, path, uid=USER, gid=USER))
        agent.until(partial(agent.failed, job), "the failure")
        assert agent.failed(job)[0].text == f"cannot execute {os.fsdecode(path)}: Permission denied"


def test_a_terminal_belongs_to_the_user(space: SpaceRig) -> None:
    agent = space.agent()
    script = b"stat -Lc '%u %a' /dev/stdin; echo typed > /dev/tty; cat < /dev/tty"
    agent.send(space.launch("1.1", b"sh", b"-c", script, uid=USER, gid=USER, stdin=b"", terminal=[24, 80]))
    agent.send(m.Stdin("1.1", None, 0, b"x\n", True))
    assert agent.wait_over("1.1") == {0: 0}
    lines = set(bytes(agent.output[("1.1", 0, 1)]).split(b"\r\n"))
    assert lines & {b"%d 620" % USER, b"%d 600" % USER}
    assert {b"typed", b"x"} <= lines


@pytest.mark.parametrize("uid", [0xFFFF_FFFF, 1 << 32, (1 << 32) + USER], ids=["none", "large", "wrapped"])
def test_ids_that_nobody_has_are_refused(space: SpaceRig, uid: int) -> None:
    agent = space.agent()
    for number, fields in enumerate(({"uid": uid, "gid": USER}, {"uid": USER, "gid": uid})):
        job = f"1.{number + 1}"
        agent.send(space.launch(job, b"id", **fields))
        agent.until(partial(agent.failed, job), "the failure")
        assert "cannot become user" in agent.failed(job)[0].text


LIMITS = b"import resource; print([resource.getrlimit(number) for number in range(16)])"


def test_a_user_has_no_more_than_the_node_s_daemon_was_given(space: SpaceRig) -> None:
    """Where root may not raise limits (a container), the kernel sees to it as well."""
    agent = space.agent()
    given = [resource.getrlimit(number) for number in range(16)]
    command = b"/usr/bin/python3", b"-c", LIMITS
    everything = [word for number in range(16) for word in (number, -1, -1)]
    said = agent.run("1.1", *command, uid=USER, gid=USER, limits=everything)
    assert literal_eval(said.decode()) == [(hard, hard) for _, hard in given]
    # Who claims nothing has what the daemon was given, and not what it has taken for itself.
    said = agent.run("1.2", *command, uid=USER, gid=USER)
    assert literal_eval(said.decode()) == given
    # The group makes nobody root.
    said = agent.run("1.3", *command, uid=USER, gid=0, limits=everything)
    assert literal_eval(said.decode()) == [(hard, hard) for _, hard in given]


SECRET = b"heorot-test-secret"
KEYS = b"""
import ctypes, errno, sys
call, (keyctl, add_key), get, *rest = ctypes.CDLL(None, use_errno=True).syscall, %r, 0
words = lambda *all: [ctypes.c_long(word) if isinstance(word, int) else word for word in all]
def keys(*all):
    result = call(*words(*all))
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]
print(keys(keyctl, get, -3, 0), keys(keyctl, 10, -3, b"user", b"heorot-test-secret", 0))
""" % ((keys.KEYCTL, keys.ADD_KEY),)
FULL = (
    KEYS
    + b"""
number = 0
while (result := keys(add_key, b"user", b"key %d" % number, b"x", 1, -3)) != "EDQUOT":
    assert isinstance(result, int), result
    number += 1
print("full", flush=True)
sys.stdin.read()
"""
)
CLEAR = (
    KEYS
    + b"""
print("clear", keys(keyctl, 7, -3), keys(keyctl, 3, -3))
"""
)


@pytest.fixture
def keyed_space() -> Iterator[tuple[SpaceRig, bool]]:
    """A bpinit that is started with a key in the session keyring, and whether this kernel, or container, knows keys."""
    has_keys = keys.join_session_keyring()
    if has_keys:
        assert keys.add_key(SECRET)
    rig = SpaceRig("namespace")
    yield rig, has_keys
    rig.end()


def test_no_process_has_the_keys_of_whoever_started_the_node(keyed_space: tuple[SpaceRig, bool]) -> None:
    space, has_keys = keyed_space
    agent = space.agent()
    keyrings = []
    for number, uid in enumerate((USER, USER, THIRD, 0)):
        said = agent.run(f"1.{number + 1}", b"/usr/bin/python3", b"-c", KEYS, uid=uid, gid=uid)
        keyring, found = said.split()
        assert not found.isdigit()
        keyrings.append(keyring)
    assert SECRET not in agent.run("1.9", own_commands.GET, b"", b"/proc/keys", uid=USER, gid=USER)
    if has_keys:
        assert len(set(keyrings)) == len(keyrings)
        assert "keyring" not in space.log_text()
    else:
        assert space.log_text().count("keeps the session keyring") == 1


def test_who_is_out_of_quota_for_keys_shares_none_with_others(keyed_space: tuple[SpaceRig, bool]) -> None:
    space, has_keys = keyed_space
    agent = space.agent()
    if has_keys:
        agent.send(space.launch("1.1", b"/usr/bin/python3", b"-c", FULL, uid=USER, gid=USER))
        agent.until(lambda: b"full" in agent.output.get(("1.1", 0, 1), b""), "the quota's end")
    said = agent.run("1.2", b"/usr/bin/python3", b"-c", CLEAR, uid=USER, gid=USER)
    assert (said.splitlines()[-1] == b"clear EACCES EACCES") == has_keys
    agent.send(m.Query(1, None, None, None, signal.SIGKILL, False, USER))
    if has_keys:
        agent.until(partial(agent.over, "1.1"), "the end")
