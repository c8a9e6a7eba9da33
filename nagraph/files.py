"""Files that others wrote: opened only if they are regular files, read up to a limit, refused in one sentence."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from typing import IO

from nagraph.errors import NagraphError

#: The most that a file of settings, such as config.json, a tokenizer or a recipe, may hold.
SETTINGS_NBYTES = 1 << 28
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
    """The contents of a regular file of at most so many bytes. OSError says why there are none."""
    with open_regular(path) as file:
        if most is None:
            return file.read()
        found = file.read(most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"it holds more than the {most >> 20} MB that such a file may have", str(path))
    return found


def read_settings(path: str | pathlib.Path, error: type[NagraphError], missing: str = "") -> str:
    """The text of a file of settings, UTF-8. The error, in a sentence: `missing` if there is no such file, else what is wrong with it."""
    try:
        return read_bytes(path, SETTINGS_NBYTES).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise error(missing or f"{path} does not exist") from None
    except OSError as problem:
        raise error(f"{path} can't be read: {problem.strerror or problem}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path} is no UTF-8 text: byte {problem.start} is 0x{problem.object[problem.start]:02x}") from None
