"""Progress of writing much: whoever wants to see it listens, and writers tell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

#: Told of what is written, the bytes that are done, and those in all.
Listener = Callable[[str, int, int], None]
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)
#: Bytes between two reports.
_STEP = 1 << 24


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell this listener of what is written inside."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def pieces(what: str, arrays: list[np.ndarray[Any, Any]]) -> Iterator[memoryview]:
    """The bytes of arrays, row-major, in pieces to be written one after another; each is reported when the next one is asked for.

    Nothing is copied of arrays that are row-major, so what is mapped from a file goes through memory piece by piece.
    """
    tell, total, done = _LISTENER.get(), sum(a.nbytes for a in arrays), 0
    for array in arrays:
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for at in range(0, flat.size, _STEP):
            piece = flat[at:at + _STEP]
            yield piece.data
            done += piece.size
            if tell is not None:
                tell(what, done, total)
