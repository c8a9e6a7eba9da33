"""The cache on disk: compiled programs and kernels, so that a second process need not make them again.

A file is named by a digest of all that its content follows from: what was asked for, the machine, the versions, and the sources
of what made it. It is written to a draft and moved into place, so that no reader sees a part of it. It begins with a digest of
its own name and of its content: a file that is damaged, or came under another's name (a sync, a restored backup), is removed
and made anew, never trusted. Whatever else stands in the folder, such as a pipe, is neither waited for nor read.
The folder is the user's own; where there is none, as in a container without a home, nothing is kept.
NAGRAPH_CACHE=off in the environment turns the cache off.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import pathlib
import platform
import struct
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nagraph.files import open_regular

_MAGIC = b"nagraph cache 3\n"
#: What a file begins with: the magic, the bytes that follow, and the digest of name and content.
_HEAD = struct.Struct("<16sQ32s")
#: The kinds of files, which are their suffixes, and the parts of the package that decide over what is in them: native programs, kernels,
#: schedules that won, parts of the runtime; programs for GPUs, and their kernels, for devices and for runs on this CPU, whose names have
#: their whole text.
_OF_KERNELS = ("nagraph.ir", "nagraph.elementary", "nagraph.ops", "nagraph.regions", "nagraph.kernel", "nagraph.schedule",
               "nagraph.backends.llvm")
_ALL = ("nagraph", "nagraph.passes", "nagraph.backends")
KINDS = {"program": _ALL, "kernel": _OF_KERNELS, "winner": _OF_KERNELS,
         "routine": ("nagraph.kernel", "nagraph.schedule", "nagraph.backends.llvm"), "cuda": _ALL, "cubin": (), "on_cpu": ()}


def is_on() -> bool:
    """Whether there is a cache at all."""
    return os.environ.get("NAGRAPH_CACHE", "on").lower() not in ("off", "0", "no")


@functools.cache
def folder() -> pathlib.Path | None:
    """Where the cache stands: the user's cache folder. None for a user without a home."""
    if sys.platform == "linux":
        given = os.environ.get("XDG_CACHE_HOME", "")
        base = pathlib.Path(given) if os.path.isabs(given) else _home(".cache")
    elif sys.platform == "win32":
        given = os.environ.get("LOCALAPPDATA", "")
        base = pathlib.Path(given) if given else _home()
    else:
        base = _home("Library", "Caches") if sys.platform == "darwin" else _home(".cache")
    return base / "nagraph" / "compiled" if base is not None and base.is_absolute() else None


def _home(*parts: str) -> pathlib.Path | None:
    """A folder of the user's home; None if neither HOME nor the system's list of users names a home."""
    try:
        return pathlib.Path.home().joinpath(*parts)
    except RuntimeError:
        return None


@functools.cache
def maker(packages: Sequence[str]) -> str:
    """A digest of what makes files for which these packages decide: sources, versions."""
    found = hashlib.sha256()
    for package in packages:
        spec = importlib.util.find_spec(package)
        for place in spec.submodule_search_locations or () if spec else ():
            for file in sorted(pathlib.Path(place).rglob("*.py")):
                found.update(file.read_bytes())
    found.update(repr((np.__version__, platform.python_version())).encode())
    return found.hexdigest()


def digest(kind: str, key: str) -> str:
    """The name of the file of this kind for a key, which says what machine it is for."""
    return hashlib.sha256(f"{maker(KINDS[kind])} {kind} {key}".encode()).hexdigest()


def _place(kind: str, name: str) -> pathlib.Path | None:
    """The file of this name; None where nothing is kept."""
    root = folder() if is_on() else None
    return root and root / f"{name}.{kind}"


def load(kind: str, name: str) -> tuple[Any, bytes] | None:
    """What the file of this name says of its bytes, and the bytes; None if there is none, or none that is whole and its own."""
    place = _place(kind, name)
    if place is None:
        return None
    try:
        with open_regular(place) as file:
            head = file.read(_HEAD.size)
            magic, nbytes, digest = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, b"")
            # Its size first, so that no more is read than was written.
            whole = magic == _MAGIC and os.fstat(file.fileno()).st_size == _HEAD.size + nbytes
            body = memoryview(file.read() if whole else b"")
    except (OSError, MemoryError):
        return None
    if not whole or _digest(place, [body]) != digest:
        with contextlib.suppress(OSError):
            place.unlink()
        return None
    size = int.from_bytes(body[:8], "little")
    return json.loads(bytes(body[8:8 + size])), bytes(body[8 + size:])


def _digest(place: pathlib.Path, parts: Iterable[bytes | memoryview]) -> bytes:
    """Of a file's name and its content."""
    found = hashlib.sha256(place.name.encode())
    for part in parts:
        found.update(part)
    return found.digest()


def store(kind: str, name: str, about: Any, parts: Sequence[bytes]) -> None:
    """Keep bytes, and something about them that JSON can say.

    Where that is not possible (no home, no space, no permission) nothing is kept, and nothing is wrong.
    """
    place = _place(kind, name)
    if place is None:
        return
    told = json.dumps(about).encode()
    body = [len(told).to_bytes(8, "little"), told, *parts]
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, draft = tempfile.mkstemp(dir=place.parent, suffix=".draft")
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines([_HEAD.pack(_MAGIC, sum(map(len, body)), _digest(place, body)), *body])
            os.replace(draft, place)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError:
        return


def entries(*kinds: str) -> list[pathlib.Path]:
    """The files of these kinds; of all kinds, drafts that were left behind included, if none is named."""
    root, suffixes = folder(), tuple(f".{k}" for k in kinds or (*KINDS, "draft"))
    try:
        return sorted(f for f in root.iterdir() if f.suffix in suffixes and f.is_file()) if root is not None else []
    except OSError:
        return []


def clear() -> int:
    """Remove all of it, as far as the system lets one; how many files that were."""
    removed = 0
    for file in entries():
        with contextlib.suppress(OSError):
            file.unlink()
            removed += 1
    return removed
