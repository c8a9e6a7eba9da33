"""Files: those that others wrote, opened only if they are regular, read up to a limit, refused in one sentence; and those that are written
here, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import pathlib
import secrets
import shutil
import stat
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

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


def mapped(descriptor: int, nbytes: int) -> np.ndarray[Any, Any]:
    """The bytes of an open file, as a read-only array of uint8: the system reads a page of it when it is first used."""
    if not nbytes:
        return np.frombuffer(b"", np.uint8)
    return np.frombuffer(mmap.mmap(descriptor, nbytes, access=mmap.ACCESS_READ), np.uint8)


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


# -- writing ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_file(path: str | pathlib.Path, error: type[NagraphError]) -> Iterator[IO[bytes]]:
    """A file to write into, under another name: flushed to disk and renamed at the end, so that a reader sees the old file or the new one.

    Missing folders are made. Whatever is raised inside leaves nothing behind; an OSError is told as the error.
    """
    target = pathlib.Path(path)
    with _draft(target, error) as draft:
        with open(draft, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)


@contextlib.contextmanager
def atomic_files(path: str | pathlib.Path, error: type[NagraphError]) -> Iterator[pathlib.Path]:
    """A path of the same name in a folder of its own, to write a file to, and others beside it: flushed to disk and moved at the end.

    The file itself is moved last. Missing folders are made. Whatever is raised inside leaves nothing behind; an OSError is told as
    the error.
    """
    target = pathlib.Path(os.path.abspath(path))
    with _draft(target, error) as draft:
        draft.mkdir()
        yield draft / target.name
        for name in sorted(os.listdir(draft), key=lambda name: name == target.name):
            _flush(draft / name)
            os.replace(draft / name, target.with_name(name))
        draft.rmdir()


def write_atomically(path: str | pathlib.Path, content: bytes, error: type[NagraphError]) -> None:
    """Write a file as `atomic_file` does: whole, or not at all."""
    with atomic_file(path, error) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_folder(path: str | pathlib.Path, error: type[NagraphError]) -> Iterator[pathlib.Path]:
    """A new folder to write files into, under another name: flushed to disk and renamed at the end.

    A folder that is there already is replaced if each of its files is written anew; one with other files in it is not ours to
    replace, and refused. Missing folders above are made. Whatever is raised inside leaves nothing behind; an OSError is told as the error.
    """
    target = pathlib.Path(os.path.abspath(path))  # of `.` the parent is another folder, and where links lead stays as it is
    with _draft(target, error) as draft:
        draft.mkdir()
        _check_replaceable(target, None, error)
        yield draft
        written = _contents(draft)
        for name in written:
            _flush(draft / name)
        _flush(draft)
        _check_replaceable(target, written, error)
        old = draft.with_name(f"{draft.name}.old")
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(draft, target)
        except BaseException:
            if old.exists():
                os.rename(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(target: pathlib.Path, written: set[str] | None, error: type[NagraphError]) -> None:
    """The error unless there is no such folder, or one in which nothing is that is not written anew; written: None before that is known."""
    if target.is_symlink() or target.exists() and not target.is_dir():
        raise error(f"{target} can't be written: it is no folder")
    strangers = sorted(_contents(target) - written) if written is not None and target.exists() else ()
    if strangers:
        raise error(f"{target} can't be replaced: it holds {short(strangers[0])}, which would be lost; name a new folder")


def _contents(folder: pathlib.Path) -> set[str]:
    """The paths of all files and folders below a folder."""
    return {os.path.relpath(os.path.join(root, name), folder) for root, folders, files in os.walk(folder) for name in (*folders, *files)}


@contextlib.contextmanager
def _draft(target: pathlib.Path, error: type[NagraphError]) -> Iterator[pathlib.Path]:
    """A name beside the target for what becomes the target. At the end the renaming is flushed; on failure, what was made is removed."""
    draft = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    made: list[pathlib.Path] = []
    try:
        for folder in reversed([p for p in (target.parent, *target.parent.parents) if not p.exists()]):
            folder.mkdir(exist_ok=True)
            made.append(folder)
        yield draft
    except BaseException as problem:
        with contextlib.suppress(OSError):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
        with contextlib.suppress(OSError):
            for folder in reversed(made):
                folder.rmdir()
        if isinstance(problem, OSError):
            raise error(f"{target} can't be written: {problem.strerror or problem}") from None
        raise
    _flush(target.parent)


def _flush(place: pathlib.Path) -> None:
    """Make what was written to a file, or a rename in a folder, outlive a power failure, where the system lets one flush it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
