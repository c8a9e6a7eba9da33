"""Results of benchmarks: kept as JSON, read again, and what is slower than before beyond the noise."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nagraph.cli.measuring import Row
from nagraph.errors import DataError
from nagraph.files import read_json, write_atomically

FORMAT = "nagraph bench 1"
#: Changes below this are never told: layouts of memory and clocks do that much from process to process.
LEAST_CHANGE = 0.03


def save(path: pathlib.Path, about: Mapping[str, Any], rows: list[Row]) -> None:
    """Write results: what they were measured with, and the rows."""
    shown = [{**asdict(r), "median_seconds": r.seconds, "noise": None if math.isinf(r.noise) else r.noise} for r in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{json.dumps({'format': FORMAT, **about, 'rows': shown}, indent=1)}\n".encode(), DataError)


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
    """A change is a row before and now. ratio: time now / time before. `limit`: changes up to this are noise."""

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
