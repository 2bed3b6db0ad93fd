"""Completion in bash, by running bash: words, node names and job ids of a live cluster, and nothing without one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.cli.heorot import COMMANDS
from tests.cluster.harness import ROOT, Cluster, cluster, command, stopped

SCRIPT = """
# A second is for people; how long a busy machine takes is no mistake.
timeout() { command timeout "${LIMIT_S:-$1}" "${@:2}"; }
source "$1"
shift
compopt() { :; }
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
"_$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[Cluster]:
    """Two nodes."""
    with cluster(2) as made:
        yield made


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the commands under their names, as it stands in a user's PATH."""
    directory = tmp_path_factory.mktemp("bin")
    for name in ("bpstat", "bpps", "bpkill", "bpjob"):
        script = directory / name
        script.write_text(f'#!/bin/sh\nexec {" ".join(command(name))} "$@"\n')
        script.chmod(0o755)
    return directory


def complete(where: Cluster, commands: Path, *words: str, limit_s: str = "60") -> list[str]:
    """Return what is offered for the last of these words. `limit_s`: for each question; empty: as people have it."""
    environment = {**where.environment, "PATH": f"{commands}:{os.environ['PATH']}", "LIMIT_S": limit_s}
    finished = subprocess.run(
        ["bash", "--norc", "-c", SCRIPT, "bash", str(ROOT / "completions/bash/heorot"), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert finished.stderr == ""
    return finished.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("bpsh", "n"), ["n0", "n1"]),
        (("bpsh", "n1,n"), ["n1,n0", "n1,n1"]),
        (("bpsh", "a"), ["all"]),
        (("bpsh", "-a", "--g"), ["--gather"]),
        (("bpsh", "-b", "9", "n1"), ["n1"]),
        (("bprsh", "-p", "22", "n"), ["n0", "n1"]),
        (("bprsh", "-o", "Send"), ["SendEnv="]),
        (("bpstat", "--sort-s"), ["--sort-status"]),
        (("bpstat", "-l", "n"), ["n0", "n1"]),
        (("bpps", "--nodes", "n"), ["n0", "n1"]),
        (("bpps", "-n", "n0,n1"), ["n0,n1"]),
        (("bpps", "-k", "pid,mem"), ["pid,memory"]),
        (("bpkill", "-KIL"), ["-KILL"]),
        (("bpkill", "-s", "USR"), ["USR1", "USR2"]),
        (("bpjob", "a"), ["attach"]),
        (("bpcp", "-r", "n"), ["n0:", "n1:"]),
        (("bpcp", "--pre"), ["--preserve"]),
        (("bpcp", "x", "n0", ":", "/proc/self/statu"), ["/proc/self/status"]),
        (("heorot", "s"), ["status"]),
        (("heorot", "token", "c"), ["create"]),
        (("heorot", "node", "stop", "n"), ["n0", "n1"]),
        (("heorot", "up", "--fa"), ["--fanout"]),
        (("bpjob", "kill", "-TER"), ["-TERM"]),
        (("bpjob", "list", "-s", "launching,run"), ["launching,running"]),
    ],
    ids=" ".join,
)
def test_words_are_completed(pair: Cluster, commands: Path, words: tuple[str, ...], expected: list[str]) -> None:
    assert complete(pair, commands, *words) == expected


def test_jobs_and_processes_are_completed(pair: Cluster, commands: Path) -> None:
    job = pair.detach("n1", "sleep", "1000")
    shown = pair.await_job(job, lambda found: bool(found["running"]), "a running job")
    try:
        for words in (("bpjob", "show", ""), ("bpjob", "wait", ""), ("bpps", "-j", "")):
            assert job in complete(pair, commands, *words)
        assert {job, str(shown["pids"]["0"])} <= set(complete(pair, commands, "bpkill", ""))
    finally:
        pair.check("bpkill", "-9", job)
        pair.run("bpjob", "wait", job)


def test_the_command_after_the_nodes_is_completed_as_a_command(pair: Cluster, commands: Path) -> None:
    assert "true" in complete(pair, commands, "bpsh", "-a", "tru")


def test_the_cluster_of_the_command_line_is_asked(pair: Cluster, commands: Path, tmp_path: Path) -> None:
    elsewhere = Cluster(tmp_path)
    assert complete(elsewhere, commands, "bpstat", "--dir", str(pair.directory), "n") == ["n0", "n1"]


def test_a_head_that_does_not_answer_keeps_nobody_waiting(pair: Cluster, commands: Path) -> None:
    with stopped(pair.head_pid()):
        # Its keeper gives it ten seconds: were it waited for, the next head would give the nodes.
        assert complete(pair, commands, "bpsh", "", limit_s="") == ["all", "up", "down", "master"]


def test_without_a_cluster_only_fixed_words_are_offered(commands: Path, tmp_path: Path) -> None:
    nowhere = Cluster(tmp_path)
    assert complete(nowhere, commands, "bpsh", "") == ["all", "up", "down", "master"]
    assert complete(nowhere, commands, "bpjob", "show", "") == []


@pytest.mark.parametrize("file", ["bash/heorot", "zsh/_heorot", "fish/heorot.fish"])
def test_each_shell_knows_every_command(file: str) -> None:
    text = (ROOT / "completions" / file).read_text()
    for group in {words[0] for words in COMMANDS if len(words) == 2}:
        known = {words[1] for words in COMMANDS if words[0] == group}
        lists = [set(line.replace('"', " ").replace("'", " ").split()) for line in text.splitlines()]
        assert any(known <= line for line in lists), f"{file} does not complete all of {group}: {sorted(known)}"
