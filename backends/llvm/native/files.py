"""The cache of native code: files whose names have the CPU in them, and the version of LLVM."""

from __future__ import annotations

import functools
from collections.abc import Callable

import llvmlite

from nagraph.backends import cache
from nagraph.backends.llvm.text.target import cpu, host


@functools.cache
def _machine() -> str:
    return repr((llvmlite.__version__, cpu(), host()))


def digest(kind: str, key: str) -> str:
    """The name of the file of this kind for a key on this machine."""
    return cache.digest(kind, f"{_machine()} {key}")


def routine(name: str, make: Callable[[], bytes]) -> bytes:
    """The object code of a part of the runtime, from the cache if it is there; `make` makes it."""
    file = digest("routine", name)
    found = cache.load("routine", file)
    if found is not None:
        return found[1]
    code = make()
    cache.store("routine", file, None, [code])
    return code
