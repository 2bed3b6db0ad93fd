"""The command line of `bprsh`: each option of ssh(1) and rsh(1) is obeyed, ignored, left out or refused on purpose."""

from __future__ import annotations

from heorot.cli.options import Option, OptionTable, Parsed, UsageError

USAGE = "usage: bprsh [options] [USER@]HOST [COMMAND [ARG...]]"
ABOUT = """\

Run a command on one node for a program that wants ssh or rsh. HOST is a node such as n3 or 3; options may also
follow it. All words of the command, with blanks between, are one line for your shell there; without a command it is
a login shell.
"""
NOTES = """
The exit status is the command's, 128+N if signal N killed it, and 255 for trouble on the way: no cluster, no such node,
node down or lost, not permitted, an option that is refused.
"""
SECTIONS = (
    ("Obeyed", (
        Option("-l", "be this user: yourself, or whoever root wants to be", "USER", key="user"),
        Option("-n", "stdin from /dev/null", key="no-stdin"),
        Option("-t", "a terminal there if stdin is one here; given twice: in any case", key="terminal"),
        Option("-T", "no terminal there", key="no-terminal"),
        Option("-e", "the escape character at a terminal: CHAR, ^CHAR or none (~)", "CHAR", key="escape"),
        Option("-s", "the command is a subsystem: sftp", key="subsystem"),
        Option(
            "-o",
            "as in ssh_config(5): EscapeChar, HostName, LogLevel, RequestTTY, SendEnv,\n"
            "SessionType, SetEnv, StdinNull, User; others are ignored, or refused",
            "NAME=VALUE",
            key="setting",
        ),
        Option("-q", "no word about what is left out", key="quiet"),
        Option("-G", "print host and user, and end", key="show"),
        Option("--dir", "the cluster's directory (HEOROT_DIR, /run/heorot)", "DIR"),
        Option("-h --help", "this text"),
        Option("-V --version", "the version"),
    )),
    ("Ignored (nothing here has to do with keys, addresses, ciphers or shared connections)", (
        Option("-4 -6 -8 -a -C -d -g -K -k -M -v -x -y", "", key="ignored"),
        Option("-B -b -c -E -F -I -i -J -m -P -p -S", "", "VALUE", key="ignored-value"),
    )),
    ("Left out, which is said (no agent and no windows are forwarded)", (
        Option("-A -X -Y", "", key="forwarding"),
    )),
    ("Refused (no ports are forwarded, no connection is kept, nothing runs on without you)", (
        Option("-f -N", "", key="refused"),
        Option("-D -L -O -Q -R -W -w", "", "VALUE", key="refused-value"),
    )),
)  # fmt: skip
_TABLE = OptionTable(option for _, options in SECTIONS for option in options)

NO_TERMINAL, TERMINAL_IF_HERE, TERMINAL = range(3)
_WHY_REFUSED = {
    "-f": "nothing goes to the background; 'bpsh --detach' starts a job that runs on alone",
    "-N": "there is nothing to do without a command: no ports are forwarded",
    "-D": "no ports are forwarded",
    "-L": "no ports are forwarded",
    "-O": "there is no connection that several calls share",
    "-Q": "there are no ciphers and keys to list",
    "-R": "no ports are forwarded",
    "-W": "no ports are forwarded",
    "-w": "there are no tunnels",
}
_REFUSED_SETTINGS = {
    "dynamicforward": "-D",
    "forkafterauthentication": "-f",
    "localforward": "-L",
    "remoteforward": "-R",
    "tunnel": "-w",
}
"""What of ssh_config(5) asks for what an option asks for that is refused."""
_TERMINALS = {"no": NO_TERMINAL, "yes": TERMINAL_IF_HERE, "force": TERMINAL}
_SIGNS_OF_LISTS = frozenset(",[]!@ \t\n")


def ssh_help() -> str:
    """Return what ``--help`` prints."""
    from heorot.cli.arguments import option_lines

    lines = [USAGE, ABOUT]
    for title, options in SECTIONS:
        lines += [f"{title}:", *(line.rstrip() for line in option_lines(options, 18) if line.strip())]
    return "\n".join(lines) + "\n" + NOTES


class SshOptions:
    """What the caller asked for.

    Attributes
    ----------
    user:
        Who to be on the node; empty: nobody was named.
    command:
        The line for the shell; empty: a login shell.
    terminal:
        `NO_TERMINAL`, `TERMINAL_IF_HERE` (if stdin is one), `TERMINAL`; None: it was not said.
    escape:
        What a key must be at a terminal so that the next one is for `bprsh`; empty: it was not said.
    send, set:
        Patterns of the names of variables that go along, and ``NAME=VALUE`` of others.
    left_out:
        Options that change nothing although their caller may count on them.
    """

    __slots__ = (
        "_host_name", "command", "directory", "escape", "help", "host", "left_out", "quiet", "send", "set", "show",
        "stdin", "subsystem", "terminal", "user", "version",
    )  # fmt: skip

    def __init__(self, words: list[str]) -> None:
        parsed = Parsed()
        self.host = self.command = ""
        index = _TABLE.take(words, 0, parsed)
        named = index < len(words)
        if named:
            self.host = words[index]
            index += 1
            if not parsed.ended:
                index = _TABLE.take(words, index, parsed)
            self.command = " ".join(words[index:])
        self.help, self.version = parsed.has("help"), parsed.has("version")
        if self.help or self.version:
            return
        for key in ("refused", "refused-value"):
            if parsed.has(key):
                raise _refusal(parsed.spellings[key])
        self._set(parsed)
        if not named:
            raise UsageError("no host given")
        self._set_host()
        if self.subsystem and self.command != "sftp":
            raise UsageError(f"there is no subsystem {self.command!r}; the only one is sftp")

    def wants_terminal(self, here: bool) -> bool:
        """Say whether the command gets a terminal, stdin being one `here` or not."""
        if self.terminal == TERMINAL:
            return True
        if self.terminal is None:
            return here and self.stdin and not self.command
        return self.terminal == TERMINAL_IF_HERE and here and self.stdin

    def _set(self, parsed: Parsed) -> None:
        self.directory = parsed.values.get("dir")
        self.quiet = parsed.has("quiet")
        self.show = parsed.has("show")
        self.stdin = not parsed.has("no-stdin")
        self.subsystem = parsed.has("subsystem")
        self.user = self._host_name = ""
        self.escape = parsed.get("escape")
        self.terminal: int | None = None
        self.send: list[str] = []
        self.set: list[str] = []
        self.left_out = [parsed.spellings["forwarding"]] if parsed.has("forwarding") else []
        for key, value in parsed.given:
            if key == "user":
                self.user = self.user or value
            elif key == "terminal":
                self.terminal = TERMINAL if self.terminal == TERMINAL_IF_HERE else TERMINAL_IF_HERE
            elif key == "no-terminal":
                self.terminal = NO_TERMINAL
            elif key == "setting":
                self._obey(*_name_and_value(value))

    def _obey(self, name: str, value: str) -> None:
        """Take a setting of ssh_config(5), of which the first counts."""
        said = value.lower()
        if name == "user":
            self.user = self.user or value
        elif name == "hostname":
            self._host_name = self._host_name or value
        elif name == "escapechar":
            self.escape = self.escape or value
        elif name == "requesttty":
            if self.terminal is None:
                self.terminal = _TERMINALS.get(said)
        elif name == "sendenv":
            self.send += value.split()
        elif name == "setenv":
            self.set += _assignments(value)
        elif name == "stdinnull":
            self.stdin = self.stdin and said != "yes"
        elif name == "sessiontype" and said == "none":
            raise _refusal("-N")
        elif name == "sessiontype":
            self.subsystem = self.subsystem or said == "subsystem"
        elif name == "loglevel":
            self.quiet = self.quiet or said == "quiet"
        elif said in ("no", "none"):
            pass
        elif name == "remotecommand":
            raise UsageError("RemoteCommand is refused: give the command as words after the host")
        elif name in _REFUSED_SETTINGS:
            raise _refusal(_REFUSED_SETTINGS[name])
        elif name in ("forwardagent", "forwardx11"):
            self.left_out.append(f"-o {name}")

    def _set_host(self) -> None:
        user, at, host = self.host.rpartition("@")
        if at and not user:
            raise UsageError(f"no user stands before the @ of {self.host!r}")
        self.user = self.user or user
        self.host = self._host_name or host
        for name in (host, self.host):
            if name.startswith("-"):
                raise UsageError(f"{name!r} begins with a dash, and is no host")
        if not self.host:
            raise UsageError("the name of the host is empty")
        if _SIGNS_OF_LISTS.intersection(self.host):
            raise UsageError(f"{self.host!r} is a list of nodes, and a host is one; 'bpsh' takes lists")


def is_node(host: str) -> bool:
    """Say whether this can be nothing but one node, n3 or 3; what else it may be, a head knows."""
    number = host.removeprefix("n")
    return number.isascii() and number.isdecimal()


def _refusal(option: str) -> UsageError:
    return UsageError(f"{option} is refused: {_WHY_REFUSED[option]}")


def _name_and_value(text: str) -> tuple[str, str]:
    """Return the parts of a setting: between them are blanks, or one equals sign; the name has small letters then."""
    name = text.strip()
    for index, character in enumerate(name):
        if character in "= \t":
            value = name[index:].strip().removeprefix("=").strip()
            name = name[:index]
            if name.lower() != "setenv" and len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            break
    else:
        value = ""
    if not name.isalnum() or not value:
        raise UsageError(f"-o takes NAME=VALUE, as ssh_config(5) has it, and not {text!r}")
    return name.lower(), value


def _assignments(text: str) -> list[str]:
    """Return the assignments of SetEnv, which stand with blanks between; quotes keep blanks together."""
    words = text.split()
    if '"' in text or "\\" in text:
        import shlex

        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"SetEnv: {error} in {text!r}") from error
    for word in words:
        if "=" not in word[1:]:
            raise UsageError(f"SetEnv takes NAME=VALUE, and not {word!r}")
    return words
