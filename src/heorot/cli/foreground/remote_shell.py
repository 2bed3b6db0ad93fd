"""What stands in for sshd(8) on a node: whose shell, in which environment, and the lines of sh that hand over to it."""

from __future__ import annotations

import os
import sys

from heorot.core.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BEGIN = b"BPRSH_BEGIN"
"""The variable with the lines that begin: so the command, and not they, is what tables of jobs show."""
ARGV = ["/bin/sh", "-c", f'eval "${BEGIN.decode()}"', "bprsh"]
"""Carries them out; the command follows as one word."""

# Every node has a /bin/sh; whether it has the user's home and shell shows there only.
_ENTER = b"""\
unset BPRSH_BEGIN
cd 2>/dev/null || echo "bprsh: there is no directory $HOME on this node: the command runs in /" >&2
unset OLDPWD
[ -x "$SHELL" ] || SHELL=/bin/sh
"""
_RUN = _ENTER + b'exec "$SHELL" -c "$1"\n'
_LOG_IN = _ENTER + b'exec "$SHELL" -l\n'
_SFTP = (
    _ENTER
    + b"""\
for place in lib/openssh libexec/openssh lib/ssh lib/misc libexec lib local/libexec; do
    [ -x /usr/$place/sftp-server ] && exec /usr/$place/sftp-server
done
command -v sftp-server >/dev/null && exec sftp-server
echo "bprsh: no sftp-server on this node: install Debian's openssh-sftp-server there, or copy with bpcp" >&2
exit 255
"""
)

_PATH = b"/usr/local/bin:/usr/bin:/bin"
_PATH_OF_ROOT = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ALWAYS_SENT = (b"LANG", b"LC_*")
"""What distributions have ssh send and sshd take."""


class Login:
    """Who logs in: name, uid, home and shell as the user database of this host has them."""

    __slots__ = ("home", "name", "shell", "uid")

    def __init__(self, name: str, uid: int, home: str = "/", shell: str = "/bin/sh") -> None:
        self.name = name
        self.uid = uid
        self.home = home or "/"
        self.shell = shell or "/bin/sh"


def own_login() -> Login:
    """Return the account of this process; of a user without one the name is the number."""
    import pwd

    uid = os.geteuid()
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        return Login(str(uid), uid)
    return Login(found.pw_name, uid, found.pw_dir, found.pw_shell)


def become(name: str) -> None:
    """Be this user from now on, for good: whoever is root here need not prove it.

    Raises
    ------
    RequestError
        Code ``no-user`` if this host has none of this name, ``permission`` if we are neither that user nor root, or the
        user may not read this program.
    """
    import pwd

    try:
        account = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise RequestError("no-user", f"this host knows no user '{name}'") from None
    if account.pw_uid == os.geteuid():
        return
    if os.geteuid() != 0:
        raise RequestError(
            "permission", f"you are {own_login().name}, here and on the nodes; only root may be '{name}' there"
        )
    os.initgroups(name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    # What is loaded later than this must be there for that user, too.
    for path in (os.__file__, sys.modules["heorot"].__file__ or ""):
        if not os.access(path, os.R_OK):
            raise RequestError("permission", f"'{name}' may not read {path}, and cannot run this program")


def begin_with(command: str, subsystem: bool) -> bytes:
    """Return the lines that hand over to the command; to a login shell if it is empty, or to the node's sftp-server."""
    if subsystem:
        return _SFTP
    return _RUN if command else _LOG_IN


def login_environment(
    account: Login, local: Iterable[bytes], send: Iterable[str], assignments: Iterable[str], terminal: bool
) -> list[bytes]:
    """Return ``NAME=value`` for each variable that a login of this account begins with.

    Parameters
    ----------
    local:
        The caller's own variables, of which a few go along: `send` has patterns of their names.
    assignments:
        Others, as ``NAME=value``; they come last.
    terminal:
        There is a terminal: its name goes along.
    """
    variables = {
        b"HOME": os.fsencode(account.home),
        b"LOGNAME": os.fsencode(account.name),
        b"PATH": _PATH if account.uid else _PATH_OF_ROOT,
        b"SHELL": os.fsencode(account.shell),
        b"USER": os.fsencode(account.name),
    }
    own = set(variables)
    wanted = _matcher([*_ALWAYS_SENT, *((b"TERM",) if terminal else ()), *map(os.fsencode, send)])
    for entry in local:
        name, _, value = entry.partition(b"=")
        if name not in own and wanted(name):
            variables[name] = value
    for word in assignments:
        name, _, value = os.fsencode(word).partition(b"=")
        variables[name] = value
    return [name + b"=" + value for name, value in variables.items()]


def _matcher(patterns: list[bytes]) -> Callable[[bytes], bool]:
    """Return what says of a name whether one of these patterns fits; most are a name, or the beginning of one."""
    names = {pattern for pattern in patterns if not _is_pattern(pattern)}
    beginnings = tuple(pattern[:-1] for pattern in patterns if pattern.endswith(b"*") and not _is_pattern(pattern[:-1]))
    others = [pattern for pattern in patterns if _is_pattern(pattern) and pattern[:-1] not in beginnings]
    if not others:
        return lambda name: name in names or name.startswith(beginnings)
    from fnmatch import fnmatchcase

    return lambda name: (
        name in names or name.startswith(beginnings) or any(fnmatchcase(name, other) for other in others)
    )


def _is_pattern(text: bytes) -> bool:
    return b"*" in text or b"?" in text
