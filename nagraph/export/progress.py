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


class Pieces:
    """Pieces are the bytes of arrays, to be written one after another; whoever listens is told of each when the next one is asked for."""

    def __init__(self, what: str, nbytes: int):
        """what: what is written, in a word; nbytes: of all arrays together."""
        self.what, self.nbytes, self.done = what, nbytes, 0
        self._tell = _LISTENER.get()

    def of(self, array: np.ndarray[Any, Any]) -> Iterator[memoryview]:
        """Those of an array, row-major. One that is row-major is not copied, so what is mapped goes through memory piece by piece."""
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for at in range(0, flat.size, _STEP):
            piece = flat[at:at + _STEP]
            yield piece.data
            self.done += piece.size
            if self._tell is not None:
                self._tell(self.what, self.done, self.nbytes)
