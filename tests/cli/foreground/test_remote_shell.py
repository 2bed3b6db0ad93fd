"""With what a login on a node begins."""

from __future__ import annotations

import os

import pytest

from heorot.cli.foreground.remote_shell import Login, become, login_environment, own_login
from heorot.core.errors import RequestError
from tests.support.other_user import as_other

LOCAL = [b"PATH=/venv/bin", b"HOME=/x", b"LANG=C.UTF-8", b"LC_TIME=C", b"TERM=xterm", b"TOKEN=secret"]
LOCAL += [b"GIT_A=1", b"GIT_B=2"]
ALICE = Login("alice", 1000, "/home/alice", "/bin/zsh")
LOGIN = {
    b"HOME": b"/home/alice",
    b"LOGNAME": b"alice",
    b"PATH": b"/usr/local/bin:/usr/bin:/bin",
    b"SHELL": b"/bin/zsh",
    b"USER": b"alice",
    b"LANG": b"C.UTF-8",
    b"LC_TIME": b"C",
}


def made(*send: str, assignments: tuple[str, ...] = (), terminal: bool = False) -> dict[bytes, bytes]:
    entries = login_environment(ALICE, LOCAL, send, assignments, terminal)
    assert len(entries) == len({entry.partition(b"=")[0] for entry in entries})
    return {name: value for name, _, value in (entry.partition(b"=") for entry in entries)}


def test_of_the_callers_own_only_the_language_goes_along() -> None:
    assert made() == LOGIN
    assert made(terminal=True) == {**LOGIN, b"TERM": b"xterm"}


def test_what_the_caller_names_goes_along_but_nothing_replaces_the_login() -> None:
    assert made("GIT_A", "HOME", "PATH") == {**LOGIN, b"GIT_A": b"1"}
    assert made("GIT_*", "NONE") == made("G?T_?") == {**LOGIN, b"GIT_A": b"1", b"GIT_B": b"2"}
    assert made("[GT]*") == LOGIN
    assert made(assignments=("PATH=/opt/bin", "A=b=c", "LANG=")) == {
        **LOGIN,
        b"PATH": b"/opt/bin",
        b"A": b"b=c",
        b"LANG": b"",
    }


def test_root_finds_programs_of_administrators() -> None:
    assert b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in login_environment(
        Login("root", 0), [], [], [], False
    )


def test_an_account_without_home_and_shell_has_those_that_every_node_has() -> None:
    account = Login("x", 7, "", "")
    assert (account.home, account.shell) == ("/", "/bin/sh")


def test_a_user_whom_the_host_does_not_know_has_a_number_for_a_name() -> None:
    uid, name, home, shell = as_other(lambda: _shown(own_login()))
    assert (name, home, shell) == (str(uid), "/", "/bin/sh")


def _shown(account: Login) -> list[object]:
    return [account.uid, account.name, account.home, account.shell]


def test_nobody_but_root_becomes_somebody_else() -> None:
    def tried() -> str:
        try:
            become("root")
        except RequestError as error:
            return f"{error.code}: {error}, {os.geteuid() != 0}"
        return "root"

    said = as_other(tried)
    assert said.startswith("permission: you are ")
    assert said.endswith("only root may be 'root' there, True")


@pytest.mark.parametrize("name", ["no-such-user", "", "\udcff", "a\0b"])
def test_a_user_who_is_not_there_is_said(name: str) -> None:
    with pytest.raises(RequestError, match="this host knows no user"):
        become(name)
