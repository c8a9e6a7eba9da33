"""Measuring: medians over interleaved rounds, their noise, and what other processes did meanwhile."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nagraph.backends.host import busy_seconds

#: Calls of a round, at least.
FEWEST = 3
#: With fewer rounds than this quartiles say little.
FEW_ROUNDS = 5


def median_seconds(call: Callable[[], Any], seconds: float) -> float:
    """The median time of calls one after another, which go on for `seconds`."""
    found: list[float] = []
    begin = time.perf_counter()
    while len(found) < FEWEST or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


@dataclass(frozen=True)
class Row:
    """A row is a benchmark in one column ("nagraph", or a peer): seconds of a call in each round, and operations of a call."""

    name: str
    column: str
    rounds: tuple[float, ...]
    flops: float = 0.0

    @property
    def seconds(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.rounds)

    @property
    def noise(self) -> float:
        """Half of the distance between the quartiles of the rounds, relative to the median; of all rounds, where they are few."""
        if len(self.rounds) < 2:
            return math.inf
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        if len(self.rounds) < FEW_ROUNDS:
            low, high = min(self.rounds), max(self.rounds)
        return (high - low) / 2 / self.seconds


def measure(runs: Mapping[tuple[str, str], Callable[[float], float]], rounds: int, seconds: float, flops: Mapping[str, float],
            after: Callable[[], None] = lambda: None) -> list[Row]:
    """Rows for {(name, column): run}; run(seconds) is a round's median. In every second round the order is reversed.

    So a disturbance of some seconds meets one round of everything, not all rounds of one. `after` is called after each run.
    """
    found: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for n in range(rounds):
        for key in list(runs)[::-1 if n % 2 else 1]:
            found[key].append(runs[key](seconds))
            after()
    return [Row(name, column, tuple(times), flops.get(name, 0.0)) for (name, column), times in found.items()]


class Others:
    """Others are the processes beside ours: `share` is the part of the cores that they used during watched runs, None if not known."""

    def __init__(self) -> None:
        self._seconds = self._available = 0.0

    def watched(self, run: Callable[[float], float]) -> Callable[[float], float]:
        """run, with what others do in the meantime added up."""
        def watch(seconds: float) -> float:
            busy, own, start = busy_seconds(), time.process_time(), time.perf_counter()
            found = run(seconds)
            after = busy_seconds()
            if busy is not None and after is not None:
                self._seconds += after - busy - (time.process_time() - own)
                self._available += (time.perf_counter() - start) * (os.cpu_count() or 1)
            return found

        return watch

    @property
    def share(self) -> float | None:
        return min(1.0, max(0.0, self._seconds / self._available)) if self._available else None
