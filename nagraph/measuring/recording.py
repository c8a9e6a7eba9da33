"""Recordings: when each chunk of a call ran, on which thread, and which units of which launch it was."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

#: One chunk: the launch's number, begin and end (nanoseconds), units [start, stop), the thread; eight words.
EVENT = np.dtype([(name, np.int64) for name in ("launch", "begin", "end", "start", "stop", "thread", "unused1", "unused2")])


class Recording(NamedTuple):
    """One call: when it began and ended (nanoseconds), its chunks, and the names of the threads that did them.

    events: `launch` is a number in the list of the program's launches, `start` and `stop` are its units.
    """

    begin: int
    end: int
    events: np.ndarray[Any, Any]
    threads: dict[int, str]

    @property
    def seconds(self) -> float:
        return (self.end - self.begin) / 1e9
