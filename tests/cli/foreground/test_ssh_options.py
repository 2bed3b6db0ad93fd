"""The command line of `bprsh`: what ssh and rsh take is taken, and what cannot be done is refused by name."""

from __future__ import annotations

import pytest

from heorot.cli.foreground import ssh_options
from heorot.cli.foreground.ssh_options import SshOptions
from heorot.cli.options import Option, UsageError

OPENSSH = "46AaCfGgKkMNnqsTtVvXxYy"
OPENSSH_WITH_A_VALUE = "BbcDEeFIiJLlmOoPpQRSWw"
"""The letters of ssh(1) of OpenSSH 9.9."""


def options_by_letter() -> dict[str, Option]:
    listed = [option for _, options in ssh_options.SECTIONS for option in options]
    return {name[1:]: option for option in listed for name in option.names if not name.startswith("--")}


def test_every_option_of_ssh_is_known_and_takes_a_value_if_it_does_there() -> None:
    known = options_by_letter()
    assert {letter for letter in OPENSSH if letter in known and not known[letter].value} == set(OPENSSH)
    assert {letter for letter in OPENSSH_WITH_A_VALUE if letter in known and known[letter].value} == set(
        OPENSSH_WITH_A_VALUE
    )


@pytest.mark.parametrize(
    "line",
    [
        "-x -l me -n n3 uptime -n",
        "n3 -x -l me -n uptime -n",
        "-xnl me -p 22 -oBatchMode=yes -o Port=3 -F none -i key -- n3 uptime -n",
        "-4 -C -oControlMaster=auto -c aes me@n3 -n -- uptime -n",
        "-l me -oUser=other -oStdinNull=yes other@n3 uptime -n",
        "-oHostName=n3 -o User=me -n n7 uptime -n",
        "-8 -d -K -n n3 -l me uptime -n",
    ],
)
def test_options_stand_before_and_after_the_host(line: str) -> None:
    options = SshOptions(line.split())
    assert (options.user, options.host, options.command, options.stdin) == ("me", "n3", "uptime -n", False)


def test_after_a_double_dash_and_the_host_all_words_are_the_commands() -> None:
    assert SshOptions(["--", "n3", "-n", "--", "x"]).command == "-n -- x"


def test_the_words_of_the_command_are_joined_with_blanks() -> None:
    assert SshOptions(["n3", "a b", "", "'c'", "d\n"]).command == "a b  'c' d\n"
    assert SshOptions(["n3"]).command == SshOptions(["n3", ""]).command == ""


@pytest.mark.parametrize(
    ("line", "at_a_terminal", "elsewhere"),
    [
        ("n3", True, False),
        ("n3 vi", False, False),
        ("-t n3 vi", True, False),
        ("-tt n3 vi", True, True),
        ("-t -t n3 vi", True, True),
        ("-T n3", False, False),
        ("-tT n3 vi", False, False),
        ("-n n3", False, False),
        ("-oRequestTTY=force n3 vi", True, True),
        ("-oRequestTTY=yes n3 vi", True, False),
        ("-oRequestTTY=no n3", False, False),
        ("-t -oRequestTTY=no n3 vi", True, False),
        ("-s n3 sftp", False, False),
    ],
)
def test_who_gets_a_terminal(line: str, at_a_terminal: bool, elsewhere: bool) -> None:
    options = SshOptions(line.split())
    assert (options.wants_terminal(True), options.wants_terminal(False)) == (at_a_terminal, elsewhere)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no host given"),
        (["-n"], "no host given"),
        (["-L", "1:a:2", "n3", "true"], "-L is refused: no ports are forwarded"),
        (["n3", "-R1:a:2", "true"], "-R is refused"),
        (["-D", "1", "n3"], "-D is refused"),
        (["-W", "a:1", "n3"], "-W is refused"),
        (["-w", "0", "n3"], "-w is refused"),
        (["-N", "n3"], "-N is refused"),
        (["-f", "n3", "true"], "-f is refused: nothing goes to the background; 'bpsh --detach'"),
        (["-O", "check", "n3"], "-O is refused: there is no connection that several calls share"),
        (["-Q", "cipher"], "-Q is refused"),
        (["-oLocalForward=1 a:2", "n3", "true"], "-L is refused"),
        (["-oForkAfterAuthentication=yes", "n3", "true"], "-f is refused"),
        (["-oSessionType=none", "n3"], "-N is refused"),
        (["-oRemoteCommand=id", "n3"], "RemoteCommand is refused"),
        (["-o", "ControlPersist", "n3"], "-o takes NAME=VALUE"),
        (["-o", "=x", "n3"], "-o takes NAME=VALUE"),
        (["-oSetEnv=A", "n3"], "SetEnv takes NAME=VALUE, and not 'A'"),
        (['-oSetEnv="A=1', "n3"], "SetEnv: No closing quotation"),
        (["--", "-oProxyCommand=id", "true"], "begins with a dash"),
        (["-", "true"], "begins with a dash"),
        (["me@-oProxyCommand=id", "true"], "begins with a dash"),
        (["-oHostName=-x", "n3", "true"], "begins with a dash"),
        (["", "true"], "the name of the host is empty"),
        (["me@", "true"], "the name of the host is empty"),
        (["@n3", "true"], "no user stands before the @"),
        (["n[0-3]", "true"], "is a list of nodes, and a host is one"),
        (["n0,n1", "true"], "is a list of nodes, and a host is one"),
        (["all!n1", "true"], "is a list of nodes, and a host is one"),
        (["-s", "n3", "netconf"], "there is no subsystem 'netconf'"),
        (["-s", "n3"], "there is no subsystem ''"),
        (["-z", "n3"], "unknown option -z"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(words: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        SshOptions(words)
    assert says in str(caught.value)


def test_what_scp_and_sftp_switch_off_is_no_reason_to_refuse() -> None:
    line = "-x -oPermitLocalCommand=no -oClearAllForwardings=yes -oRemoteCommand=none -oRequestTTY=no -oForwardAgent=no"
    options = SshOptions([*line.split(), "-oForwardX11 no", "-oTunnel no", "-l", "me", "-s", "--", "n3", "sftp"])
    assert (options.subsystem, options.user, options.left_out) == (True, "me", [])


def test_settings_are_read_as_ssh_config_has_them() -> None:
    words = ["-o", 'User="me"', "-o", "sendenv A  B*", "-oSendEnv = C", "-o", 'SetEnv=X=1 "Y=2 3"', "-oLogLevel=QUIET"]
    options = SshOptions([*words, "n3"])
    assert (options.user, options.send, options.set) == ("me", ["A", "B*", "C"], ["X=1", "Y=2 3"])
    assert options.quiet


def test_the_escape_character_is_the_first_that_was_said() -> None:
    assert SshOptions(["n3"]).escape == ""
    assert SshOptions(["-e", "none", "-oEscapeChar=%", "n3"]).escape == "none"
    assert SshOptions(["-oEscapeChar=^]", "n3"]).escape == "^]"


def test_what_is_left_out_is_known() -> None:
    assert SshOptions(["-A", "n3"]).left_out == ["-A"]
    assert SshOptions(["-o", "ForwardAgent=yes", "n3"]).left_out == ["-o forwardagent"]
    assert SshOptions(["-x", "-a", "n3"]).left_out == []


@pytest.mark.parametrize(
    ("host", "plainly"), [("n3", True), ("3", True), ("n", False), ("", False), ("up", False), ("n3x", False)]
)
def test_what_is_plainly_a_node(host: str, plainly: bool) -> None:
    assert ssh_options.is_node(host) is plainly


def test_the_help_is_short_enough_to_be_read() -> None:
    lines = ssh_options.ssh_help().splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 120
