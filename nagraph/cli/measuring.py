"""Measuring: medians over interleaved rounds, results as JSON, and what is slower than before beyond the noise."""

from __future__ import annotations

import json
import math
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nagraph.errors import DataError
from nagraph.files import read_json

FORMAT = "nagraph bench 1"
#: Calls of a round, at least.
FEWEST = 3
#: With fewer rounds than this quartiles say little.
FEW_ROUNDS = 5
#: Changes below this are never told: layouts of memory and clocks do that much from process to process.
LEAST_CHANGE = 0.03


def median_seconds(call: Callable[[], Any], seconds: float) -> float:
    """The median time of calls one after another, for so many seconds."""
    found: list[float] = []
    begin = time.perf_counter()
    while len(found) < FEWEST or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


@dataclass(frozen=True)
class Row:
    """A benchmark in one column ("nagraph", or a peer): seconds of a call in each round, and operations of a call."""

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
    """What other processes do meanwhile: `share` is the part of the cores that they used during watched runs, None if not known."""

    def __init__(self) -> None:
        self._seconds = self._available = 0.0

    def watched(self, run: Callable[[float], float]) -> Callable[[float], float]:
        """run, with what others do in the meantime added up."""
        from nagraph.backends.host import busy_seconds

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


def save(path: pathlib.Path, about: Mapping[str, Any], rows: list[Row]) -> None:
    """Write results: what they were measured with, and the rows."""
    from nagraph.storage import write_atomically

    shown = [{**asdict(r), "median_seconds": r.seconds, "noise": None if math.isinf(r.noise) else r.noise} for r in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{json.dumps({'format': FORMAT, **about, 'rows': shown}, indent=1)}\n".encode())


def load(path: pathlib.Path) -> tuple[dict[str, Any], list[Row]]:
    """Results that `save` wrote. DataError if the file is something else."""
    found = read_json(path, DataError)
    try:
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}, not {FORMAT!r}")
        rows = [Row(r["name"], r["column"], tuple(map(float, r["rounds"])), float(r["flops"])) for r in found.pop("rows")]
        if not all(r.rounds and all(t > 0 for t in r.rounds) for r in rows):
            raise ValueError("a row has no times")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else error
        raise DataError(f"{path} holds no results of nagraph bench: {what}") from None
    return found, rows


@dataclass(frozen=True)
class Change:
    """A row before and now. ratio: time now / time before. `limit`: changes up to this are noise."""

    before: Row
    now: Row

    @property
    def ratio(self) -> float:
        return self.now.seconds / self.before.seconds

    @property
    def limit(self) -> float:
        return max(LEAST_CHANGE, 2 * math.hypot(self.before.noise, self.now.noise))

    @property
    def verdict(self) -> Literal["slower", "faster", "same"]:
        """Symmetric: a ratio of 1 + limit is as much as one of 1 / (1 + limit)."""
        return "slower" if self.ratio > 1 + self.limit else "faster" if self.ratio < 1 / (1 + self.limit) else "same"


def changes(before: list[Row], now: list[Row]) -> list[Change]:
    """The rows that both have, in the order of those of now."""
    known = {(r.name, r.column): r for r in before}
    return [Change(known[r.name, r.column], r) for r in now if (r.name, r.column) in known]
