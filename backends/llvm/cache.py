"""The cache on disk: compiled programs and kernels, so that a second process need not make them again.

A file is named by a digest of all that its content follows from: what was asked for, the CPU, the versions, and the sources
of what made it. It is written to a draft and moved into place, so that no reader sees a part of it, and begins
with a digest of its content: a damaged file is made anew, never trusted. The folder is the user's own.
NAGRAPH_CACHE=off in the environment turns the cache off.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import llvmlite
import numpy as np

from nagraph.backends.llvm.native import cpu
from nagraph.ir.op import Op

_MAGIC = b"nagraph cache 2\n"
#: The kinds of files, which are their suffixes, and the parts of the package that decide over what is in them.
KINDS = {"program": ("nagraph", "nagraph.passes", "nagraph.backends"),
         "kernel": ("nagraph.ir", "nagraph.kernel", "nagraph.ops", "nagraph.backends.llvm"),
         "routine": ("nagraph.backends.llvm",)}


def is_on() -> bool:
    """Whether there is a cache at all."""
    return os.environ.get("NAGRAPH_CACHE", "on").lower() not in ("off", "0", "no")


@functools.cache
def folder() -> pathlib.Path:
    """Where the cache stands: the user's cache folder."""
    if sys.platform == "darwin":
        base = pathlib.Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = pathlib.Path(os.environ.get("LOCALAPPDATA", pathlib.Path.home()))
    else:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return base / "nagraph" / "compiled"


@functools.cache
def maker(kind: str) -> str:
    """A digest of what makes files of this kind: sources, versions, CPU."""
    found = hashlib.sha256()
    for package in KINDS[kind]:
        spec = importlib.util.find_spec(package)
        for place in spec.submodule_search_locations or () if spec else ():
            for file in sorted(pathlib.Path(place).rglob("*.py")):
                found.update(file.read_bytes())
    found.update(repr((llvmlite.__version__, np.__version__, platform.python_version(), cpu())).encode())
    return found.hexdigest()


def knows(op: Op) -> bool:
    """Whether an op's rules are among these sources: what users' own ops do may change while their names stay the same."""
    return type(op).__module__.partition(".")[0] == "nagraph"


def digest(kind: str, key: str) -> str:
    """The name of the file of this kind for a key."""
    return hashlib.sha256(f"{maker(kind)} {kind} {key}".encode()).hexdigest()


def load(kind: str, name: str) -> tuple[Any, bytes] | None:
    """What the file of this name says of its bytes, and the bytes; None if there is none, or none that is whole."""
    if not is_on():
        return None
    try:
        content = (folder() / f"{name}.{kind}").read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + 32
    body = memoryview(content)[head:]
    if not content.startswith(_MAGIC) or hashlib.sha256(body).digest() != content[len(_MAGIC):head]:
        return None
    size = int.from_bytes(body[:8], "little")
    return json.loads(bytes(body[8:8 + size])), bytes(body[8 + size:])


def store(kind: str, name: str, about: Any, parts: Iterable[bytes]) -> None:
    """Keep bytes, and something about them that JSON can say.

    Where that is not possible (no space, no permission) nothing is kept, and nothing is wrong.
    """
    if not is_on():
        return
    told = json.dumps(about).encode()
    body = b"".join([len(told).to_bytes(8, "little"), told, *parts])
    place = folder() / f"{name}.{kind}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, draft = tempfile.mkstemp(dir=place.parent, suffix=".draft")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(body).digest() + body)
            os.replace(draft, place)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError:
        return


def routine(name: str, make: Callable[[], bytes]) -> bytes:
    """The object code of a part of the runtime, from the cache if it is there; `make` makes it."""
    file = digest("routine", name)
    found = load("routine", file)
    if found is not None:
        return found[1]
    code = make()
    store("routine", file, None, [code])
    return code


def entries(*kinds: str) -> list[pathlib.Path]:
    """The files of these kinds; of all kinds, drafts that were left behind included, if none is named."""
    place, suffixes = folder(), tuple(f".{k}" for k in kinds or (*KINDS, "draft"))
    return sorted(f for f in place.iterdir() if f.suffix in suffixes) if place.is_dir() else []


def clear() -> int:
    """Remove all of it; how many files there were."""
    found = entries()
    for file in found:
        file.unlink(missing_ok=True)
    return len(found)
