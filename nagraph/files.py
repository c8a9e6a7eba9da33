"""Files that others wrote: opened only if they are regular files, read up to a limit, refused in one sentence."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import IO, Any

from nagraph.errors import NagraphError

#: The most that a file of settings, such as config.json, a tokenizer or a recipe, may hold.
SETTINGS_NBYTES = 1 << 28
#: Characters of a file's name: what most systems take.
_NAME_LENGTH = 255
#: Characters of what a file says that a message shows.
_SHOWN = 200
#: Opening a pipe would otherwise wait for a writer, and a terminal become the process's own.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: str | pathlib.Path) -> IO[bytes]:
    """A regular file, open for reading; OSError for anything else (folders, pipes, devices, sockets), at once."""
    handle = os.open(path, os.O_RDONLY | _AT_ONCE)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a device, a pipe or a socket, not a file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: str | pathlib.Path, most: int | None = None) -> bytes:
    """The contents of a regular file of at most `most` bytes. OSError says why there are none."""
    with open_regular(path) as file:
        if most is None:
            return file.read()
        found = file.read(most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"it holds more than the {most >> 20} MB that such a file may have", str(path))
    return found


def read_text(path: str | pathlib.Path, error: type[NagraphError], most: int | None = SETTINGS_NBYTES) -> str:
    """A regular file as UTF-8; the error, in a sentence, for anything else."""
    content = _read(path, error, f"{path} does not exist", most)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{path} is no UTF-8 text: byte {problem.start} is 0x{problem.object[problem.start]:02x}") from None


def read_json(path: str | pathlib.Path, error: type[NagraphError], missing: str = "") -> dict[str, Any]:
    """The object in a JSON file; the error, in a sentence, for anything else: `missing` if there is no such file."""
    content = _read(path, error, missing or f"{path} does not exist", SETTINGS_NBYTES)
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is damaged: {problem}") from None
    if not isinstance(found, dict):
        raise error(f"{path} is damaged: it holds a {type(found).__name__} in place of an object with names")
    return found


def _read(path: str | pathlib.Path, error: type[NagraphError], missing: str, most: int | None) -> bytes:
    try:
        return read_bytes(path, most)
    except (FileNotFoundError, NotADirectoryError):
        raise error(missing) from None
    except OSError as problem:
        raise error(f"{path} can't be read: {problem.strerror or problem}") from None


def is_plain_name(name: Any) -> bool:
    """Whether it names a file in a folder: what a file says must not lead out of the folder in which it is."""
    return (isinstance(name, str) and 0 < len(name) <= _NAME_LENGTH and name.isprintable() and name not in (".", "..")
            and not set(name) & {"/", "\\"})


def short(found: Any) -> str:
    """What a file says, for a message: one line of printable characters, not too many of them."""
    text = str(found) if isinstance(found, str) else f"{found!r}"
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:_SHOWN])
    return shown + "..." * (len(text) > _SHOWN)


@contextlib.contextmanager
def locked(folder: pathlib.Path, error: type[NagraphError]) -> Iterator[None]:
    """A folder of one's own for the time: the error, naming the folder, if another process has it. It is made if it is not there.

    The system lets go of the lock when the process ends, however it ends. Where it has no such locks, nothing is locked.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except (FileExistsError, NotADirectoryError):
        raise error(f"{folder} can't be written: it is no folder") from None
    except OSError as problem:
        raise error(f"{folder} can't be written: {problem.strerror or problem}") from None
    try:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise error(f"another process is training in {folder}; wait for its end, or name another folder with --out") from None
        except (ImportError, OSError):
            pass
        yield
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            for place in made:  # those that are empty still
                place.rmdir()
