"""The kernel cache: object code on disk, so that a second process need not compile again.

A file is named by a digest of all that its code follows from: the kernel's text, the CPU, the versions, and the sources of
the generator itself. It is written to a draft and moved into place, so that no reader sees a part of it, and begins
with a digest of its content: a damaged file is compiled anew, never trusted. The folder is the user's own.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pathlib
import sys
import tempfile
from typing import NamedTuple

import llvmlite
import numpy as np

import nagraph.ir
import nagraph.kernel
import nagraph.ops
from nagraph.backends.llvm.emit import Emitted
from nagraph.backends.llvm.native import cpu

_MAGIC = b"nagraph kernel 1\n"


class Entry(NamedTuple):
    """What is kept of a kernel."""

    emitted: Emitted
    text: str
    code: bytes


@functools.cache
def folder() -> pathlib.Path:
    """Where the cache stands: the user's cache folder."""
    if sys.platform == "darwin":
        base = pathlib.Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = pathlib.Path(os.environ.get("LOCALAPPDATA", pathlib.Path.home()))
    else:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return base / "nagraph" / "kernels"


@functools.cache
def generator() -> str:
    """A digest of what makes kernels' code: this package's generator, the rules that it asks, versions, CPU."""
    places = [pathlib.Path(module.__file__ or "").parent for module in (nagraph.ir, nagraph.kernel, nagraph.ops)]
    found = hashlib.sha256()
    for place in (*places, pathlib.Path(__file__).parent):
        for file in sorted(place.rglob("*.py")):
            found.update(file.read_bytes())
    found.update(repr((llvmlite.__version__, np.__version__, cpu())).encode())
    return found.hexdigest()


def _file(key: str) -> pathlib.Path:
    return folder() / f"{hashlib.sha256(f'{generator()} {key}'.encode()).hexdigest()}.kernel"


def load(key: str) -> Entry | None:
    """What was stored under a key; None if there is nothing, or nothing whole."""
    try:
        content = _file(key).read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + 32
    body = content[head:]
    if not content.startswith(_MAGIC) or hashlib.sha256(body).digest() != content[len(_MAGIC):head]:
        return None
    size = int.from_bytes(body[:8], "little")
    about = json.loads(body[8:8 + size])
    return Entry(Emitted(*about["emitted"]), about["text"], body[8 + size:])


def store(key: str, entry: Entry) -> None:
    """Keep a kernel. Where that is not possible (no space, no permission) nothing is kept, and nothing is wrong."""
    about = json.dumps({"emitted": list(entry.emitted), "text": entry.text}).encode()
    body = len(about).to_bytes(8, "little") + about + entry.code
    place = _file(key)
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


def entries() -> list[pathlib.Path]:
    """The files of the cache, drafts that were left behind included."""
    place = folder()
    return sorted(f for f in place.iterdir() if f.suffix in (".kernel", ".draft")) if place.is_dir() else []


def clear() -> int:
    """Remove all of it; how many files there were."""
    found = entries()
    for file in found:
        file.unlink(missing_ok=True)
    return len(found)
