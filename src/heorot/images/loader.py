"""What a program's own dynamic loader says of the libraries that it would load (``LOADER --list PROGRAM``).

Nobody else knows as well what it will open, with its cache, its search paths and the caller's environment.
"""

from __future__ import annotations

import os

from heorot.images.identity import ImageError, shown

MAX_LIST_BYTES = 1024 * 1024


def libraries_of(path: bytes, loader: bytes, variables: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the shared libraries that the loader would load: their names, and where they are, as it says that.

    Parameters
    ----------
    path:
        Of the program or library, without links: the loader takes ``$ORIGIN`` from it.
    variables:
        The environment in which it will run.

    Raises
    ------
    ImageError
        If one is missing, or the loader cannot tell.
    """
    status, text = _ask(path, [loader, b"--list", path], variables)
    if status != 0:
        raise _failure(path, loader, variables, status, text)
    # The kernel's own has no path.
    return [(name, place) for name, place in _listed(text) if not (place and b"/" not in place) and place != loader]


def is_of_the_system(loader: bytes) -> bool:
    """Say whether this is a loader, by its name, and only root and we can have put it there.

    To ask a loader is to run it, and whoever has made a file says which: of files that are only sent that is anybody.
    """
    from heorot.core.errors import SecurityError
    from heorot.linux.trusted_path import check_file

    name = os.path.basename(loader)
    if not name.startswith(b"ld") or b".so" not in name:
        return False
    try:
        check_file(os.fsdecode(loader))
    except (SecurityError, OSError):
        return False
    return True


def is_glibc(loader: bytes) -> bool:
    """Say whether this loader is that of the GNU C library."""
    return os.path.basename(loader).startswith((b"ld-linux", b"ld64"))


def _listed(text: bytes) -> list[tuple[bytes, bytes]]:
    """Return what the loader lists: names, and where they are; empty: nowhere, or it does not say.

    Each begins a line with a tab. A path may hold line breaks itself.
    """
    listed: list[tuple[bytes, bytes]] = []
    for item in (b"\n" + text).split(b"\n\t")[1:]:
        place, found, _address = item.rpartition(b" (0x")
        if found:
            name, arrow, where = place.partition(b" => ")
            listed.append((name, where if arrow else name))
        else:
            listed.append((item.partition(b" => ")[0], b""))
    return listed


def _failure(path: bytes, loader: bytes, variables: dict[bytes, bytes], status: int, text: bytes) -> ImageError:
    """Return why the loader cannot list the libraries."""
    if status < 0:
        from heorot.linux.signal_names import signal_name

        return ImageError(
            f"{shown(path)} cannot be loaded here: {signal_name(-status)} ended its loader {shown(loader)};"
            " the program or one of its libraries is damaged"
        )
    missing = _missing(path, loader, variables, text)
    if missing:
        return ImageError(f"{shown(path)} needs libraries that are missing here: {', '.join(map(shown, missing))}")
    said = text.strip().removeprefix(path + b": ").splitlines()
    reason = shown(said[-1]) if said else f"its loader {shown(loader)} ends with status {status}"
    return ImageError(f"{shown(path)} cannot be loaded here: {reason}")


def _missing(path: bytes, loader: bytes, variables: dict[bytes, bytes], text: bytes) -> list[bytes]:
    """Return the names of all libraries that are missing, if any is."""
    if b"Error loading shared library " in text:  # musl names them all
        parts = text.split(b"Error loading shared library ")[1:]
        return list(dict.fromkeys(part.partition(b": ")[0] for part in parts))
    if not is_glibc(loader) or b"cannot open shared object file" not in text:
        return []
    # To --list it names only the first. So it is asked as ldd(1) does: a loader that did not understand that would run
    # the program, if one of its libraries were not missing.
    status, text = _ask(path, [loader, path], {**variables, b"LD_TRACE_LOADED_OBJECTS": b"1"})
    return [name for name, place in _listed(text) if not place] if status == 0 else []


def _ask(path: bytes, argv: list[bytes], variables: dict[bytes, bytes]) -> tuple[int, bytes]:
    """Return the exit status of the program's loader, negative if a signal ended it, and all that it says."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    text = b""
    try:
        try:
            pid = os.posix_spawn(
                argv[0],
                argv,
                variables,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, writer, 1),
                    (os.POSIX_SPAWN_DUP2, writer, 2),
                ],
            )
        except OSError as error:
            raise ImageError(
                f"{shown(path)} needs the loader {shown(argv[0])}, which cannot be run: {error.strerror or error}"
            ) from error
        finally:
            os.close(writer)
        while len(text) < MAX_LIST_BYTES and (part := os.read(reader, 65536)):
            text += part
    finally:
        os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if len(text) >= MAX_LIST_BYTES:
        loader = shown(argv[0])
        raise ImageError(f"{shown(path)} cannot be sent: its loader {loader} says more than {MAX_LIST_BYTES} bytes")
    return status, text
