"""Ansible's connection to the nodes of a Heorot cluster: commands by `bprsh`, files by `bpcp`.

Ansible loads it from a directory that ``connection_plugins`` of its configuration, or of its environment, names.
"""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
from typing import IO, Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

DOCUMENTATION = """
name: heorot
short_description: run tasks on the nodes of a Heorot cluster
description:
  - Runs commands on nodes by C(bprsh) and copies files by C(bpcp), without sshd, keys and shared connections.
  - Ansible runs where these commands do, on the host of a head.
author: Heorot
version_added: historical
extends_documentation_fragment:
  - connection_pipelining
options:
  host:
    description: The node, C(n3) or C(3).
    type: string
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: ansible_heorot_host
  remote_user:
    description:
      - Who to be on the node. Whoever runs Ansible, unless it is named; only root may be somebody else.
    type: string
    vars:
      - name: ansible_user
      - name: ansible_heorot_user
    env:
      - name: ANSIBLE_REMOTE_USER
    ini:
      - section: defaults
        key: remote_user
    cli:
      - name: user
    keyword:
      - name: remote_user
  directory:
    description: The directory of the cluster, unless C(HEOROT_DIR) names it.
    type: string
    vars:
      - name: ansible_heorot_dir
  programs:
    description: The directory of C(bprsh) and C(bpcp), if they are not in C(PATH).
    type: string
    default: ''
    vars:
      - name: ansible_heorot_bin
"""

EXIT_TROUBLE = 255
"""Of `bprsh`: the command has not run, or what became of it is not known."""
display = Display()


class Connection(ConnectionBase):  # type: ignore[misc]  # Ansible has no types
    """One node; nothing is kept open between commands."""

    transport = "heorot"
    has_pipelining = True

    def _connect(self) -> Connection:
        """There is nothing to connect: each command finds the head that leads by itself."""
        self._connected = True
        return self

    def close(self) -> None:
        """There is nothing to close."""
        self._connected = False

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a line of a shell on the node; return its status and what it has written to stdout and stderr.

        Raises
        ------
        AnsibleConnectionFailure
            If it did not run, or what became of it is not known: the host is unreachable then.
        AnsibleError
            If a password would have to be typed.
        """
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if sudoable and self.become and self.become.expect_prompt():
            raise AnsibleError(
                "the heorot connection types no passwords: let become work without one, or use the connection 'ssh'"
                " with ansible_ssh_executable=bprsh"
            )
        display.vvv(f"EXEC {cmd}", host=self._host())
        return self._executed(cmd, in_data)

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of this host to the node. Raises as `exec_command`, or AnsibleError if it cannot be copied."""
        super().put_file(in_path, out_path)
        source = os.path.abspath(in_path)
        if not os.path.exists(source):
            raise AnsibleFileNotFound(f"there is no file {in_path}")
        display.vvv(f"PUT {in_path} TO {out_path}", host=self._host())
        if self._may_copy(out_path):
            self._copy(source, f"{self._host()}:{out_path}")
            return
        with open(source, "rb") as file:
            self._piped(f"cat > {shlex.quote(out_path)}", stdin=file)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the node to this host. Raises as `put_file`."""
        super().fetch_file(in_path, out_path)
        display.vvv(f"FETCH {in_path} TO {out_path}", host=self._host())
        if self._may_copy(in_path):
            self._copy(f"{self._host()}:{in_path}", os.path.abspath(out_path))
            return
        with open(out_path, "wb") as file:
            self._piped(f"cat < {shlex.quote(in_path)}", stdout=file)

    # ------------------------------------------------------------------ the commands

    def _host(self) -> str:
        return str(self.get_option("host"))

    def _user(self) -> str:
        """Return who to be on the node, if that is somebody else than here; else the empty string."""
        user = self.get_option("remote_user")
        own = pwd.getpwuid(os.geteuid()).pw_name
        return "" if user in (None, "", own) else str(user)

    def _program(self, name: str) -> list[str]:
        """Return the first words of a command of Heorot."""
        directory = self.get_option("directory")
        program = os.path.join(self.get_option("programs"), name)
        return [program, "--dir", str(directory)] if directory else [program]

    def _bprsh_words(self, cmd: str) -> list[str]:
        user = self._user()
        return [*self._program("bprsh"), "-q", *(["-l", user] if user else []), "--", self._host(), cmd]

    def _executed(self, cmd: str, in_data: bytes | None) -> tuple[int, bytes, bytes]:
        done = self._run(self._bprsh_words(cmd), input=in_data or b"")
        if done.returncode == EXIT_TROUBLE:
            raise AnsibleConnectionFailure(done.stderr.decode(errors="replace").strip() or "bprsh ended with 255")
        return done.returncode, done.stdout, done.stderr

    def _may_copy(self, path: str) -> bool:
        """Say whether `bpcp` takes this path of the node: it copies as its caller, and knows no home."""
        return path.startswith("/") and not self._user()

    def _copy(self, source: str, target: str) -> None:
        # From a directory that every node has: bpcp enters that of its caller there.
        self._must(self._run([*self._program("bpcp"), "-q", source, target], input=b"", cwd="/"), source, target)

    def _piped(self, cmd: str, stdin: IO[bytes] | int = subprocess.DEVNULL, stdout: IO[bytes] | int = -1) -> None:
        self._must(self._run(self._bprsh_words(cmd), stdin=stdin, stdout=stdout), cmd, self._host())

    def _must(self, done: subprocess.CompletedProcess[bytes], source: str, target: str) -> None:
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip()
            raise AnsibleError(f"cannot copy {source} to {target}: {words or f'status {done.returncode}'}")

    def _run(self, words: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        try:
            return subprocess.run(words, check=False, **options)
        except FileNotFoundError as error:
            raise AnsibleError(
                f"there is no {words[0]}: put Heorot's commands into PATH, or their directory into ansible_heorot_bin"
            ) from error
