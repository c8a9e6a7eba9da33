"""Profiles: where the time of a call goes, kernel by kernel, beside what the machine could do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nagraph.measuring.recording import Recording
from nagraph.measuring.roofline import Machine
from nagraph.measuring.timeline import amounts, trace_events
from nagraph.measuring.work import Work, work_of
from nagraph.program.instructions import Launch

Array = np.ndarray[Any, Any]
#: Columns of the table, and whether they hold numbers.
COLUMNS = {"ms": True, "share": True, "calls": True, "threads": True, "GFLOP/s": True, "GB/s": True, "roof": True, "bound": False,
           "kernel": False, "lines": False}
#: Kernels that the table shows, and source lines of each.
ROWS, LINES = 25, 3


class Row(NamedTuple):
    """One kernel, all its launches of the call together.

    seconds: time of the call; where several kernels run at once, each has its share of that time.
    busy_seconds: the same summed over threads. least_seconds: what the machine needs at least, and `bound` why.
    """

    name: str
    calls: int
    seconds: float
    busy_seconds: float
    flops: float
    nbytes: int
    least_seconds: float
    bound: str
    lines: tuple[str, ...]

    @property
    def threads(self) -> float:
        """Threads at work on it, on average."""
        return self.busy_seconds / self.seconds if self.seconds else 0.0

    @property
    def roof(self) -> float:
        """The share of the roofline that it reaches: 1 where the machine can't do it faster."""
        return self.least_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """A call: its kernels by time, and the time in which none ran. All rows together are the time of the call.

    between_seconds: from the first kernel's begin to the last one's end, while no thread was in a kernel: handing out,
    waiting, and ops that Python computes, whose names are `host`. outside_seconds: before and after, in Python and in waking threads.
    """

    rows: tuple[Row, ...]
    between_seconds: float
    outside_seconds: float
    machine: Machine
    recording: Recording
    works: tuple[Work, ...]
    host: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The time of the call."""
        return self.recording.seconds

    @property
    def flops(self) -> float:
        return sum(r.flops for r in self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, most: int | None = ROWS) -> list[tuple[str, ...]]:
        """The table's rows as texts, one for each of COLUMNS: so many kernels (None: all), the others together, and the sums."""
        total = self.seconds or 1.0

        def line(seconds: float, name: str, *rest: str, lines: str = "") -> tuple[str, ...]:
            return (f"{seconds * 1e3:.3f}", f"{seconds / total:.1%}", *(rest or [""] * 6), name, lines)

        found = []
        for r in self.rows[:most]:
            rates = (f"{n / r.seconds / 1e9:.1f}" if n and r.seconds else "" for n in (r.flops, r.nbytes))
            lines = ", ".join(r.lines[:LINES]) + (", ..." if len(r.lines) > LINES else "")
            found.append(line(r.seconds, r.name, f"{r.calls}", f"{r.threads:.1f}", *rates, f"{r.roof:.0%}", r.bound, lines=lines))
        rest = self.rows[len(found):]
        if rest:
            calls = f"{sum(r.calls for r in rest)}"
            found.append(line(sum(r.seconds for r in rest), f"{len(rest)} more kernels", calls, *[""] * 5))
        python = f", Python: {', '.join(self.host)}" if self.host else ""
        found.append(line(self.between_seconds, f"between kernels: handing out, waiting{python}"))
        found.append(line(self.outside_seconds, "outside of them: Python, waking threads"))
        rate = f"{self.flops / total / 1e9:.1f}"
        found.append(line(self.seconds, "the call", f"{sum(r.calls for r in self.rows)}", "", rate, "", "", ""))
        return found

    def table(self, most: int | None = ROWS) -> str:
        """The table as text, with the machine's peaks below."""
        table = [tuple(COLUMNS), *self.cells(most)]
        widths = [max(map(len, column)) for column in zip(*table)]
        sides = [">" if right else "<" for right in COLUMNS.values()]
        lines = ["  ".join(f"{c:{side}{w}}" for c, w, side in zip(row, widths, sides)) for row in table]
        return "\n".join([*(line.rstrip() for line in lines), str(self.machine)])

    def timeline(self, name: str = "call") -> dict[str, Any]:
        """The call as Chrome trace events, to be written as JSON: one track a thread (`nagraph.measuring.timeline`)."""
        recording = self.recording
        call = {"machine": str(self.machine), "launches": sum(r.calls for r in self),
                **amounts(self.flops, sum(r.nbytes for r in self), recording.end - recording.begin),
                "ms between kernels": round(self.between_seconds * 1e3, 3), "ms outside of them": round(self.outside_seconds * 1e3, 3)}
        return trace_events(name, recording, self.works, call)

    def __str__(self) -> str:
        return self.table()


def summary(recording: Recording, launches: Sequence[Launch], keys: Sequence[str], units: Sequence[int], sizes: Sequence[int | None],
            machine: Machine, host: Sequence[str] = ()) -> Profile:
    """The recording by kernels.

    keys: of each launch's kernel; equal ones are one row. units: into how many it was cut. sizes: bytes behind each pointer of the
    program's table, None where not known. host: names of the ops that Python computes.
    """
    works = tuple(work_of(x, count, sizes) for x, count in zip(launches, units, strict=True))
    events = recording.events
    shared, between = _shares(events["begin"], events["end"])
    count = len(launches)
    number = events["launch"]
    seconds, busy, done = (np.bincount(number, weights=w, minlength=count) for w in (
        shared / 1e9, (events["end"] - events["begin"]) / 1e9, events["stop"] - events["start"]))
    groups: dict[tuple[str, str], list[int]] = {}
    for n, (key, work) in enumerate(zip(keys, works, strict=True)):
        groups.setdefault((key, work.name), []).append(n)
    rows = []
    for members in groups.values():
        calls = [round(done[n] / works[n].units) for n in members]
        bounds = [machine.bound(works[n].flops, works[n].nbytes, works[n].dtype) for n in members]
        flops, nbytes, least = (sum(c * x for c, x in zip(calls, of)) for of in (
            [works[n].flops for n in members], [works[n].nbytes for n in members], [b[1] for b in bounds]))
        lines = dict.fromkeys(itertools.chain.from_iterable(works[n].lines for n in members))
        if sum(calls):
            rows.append(Row(works[members[0]].name, sum(calls), float(sum(seconds[n] for n in members)),
                            float(sum(busy[n] for n in members)), flops, int(nbytes), least, bounds[0][0], tuple(lines)))
    ordered = tuple(sorted(rows, key=lambda r: -r.seconds))
    inside = sum(r.seconds for r in ordered)
    return Profile(ordered, between, recording.seconds - inside - between, machine, recording, works, tuple(host))


def _shares(begins: Array, ends: Array) -> tuple[Array, float]:
    """For each chunk its share of the time, in ns: a moment in which k chunks run is divided by k. And the seconds of gaps."""
    if not len(begins):
        return np.zeros(0), 0.0
    times = np.concatenate([begins, ends])
    order = np.argsort(times, kind="stable")
    running = np.cumsum(np.concatenate([np.ones(len(begins)), -np.ones(len(ends))])[order])[:-1]
    steps = np.diff(times[order])
    passed = np.concatenate([[0.0], np.cumsum(np.where(running > 0, steps / np.maximum(running, 1), 0))])
    at = np.empty(len(times))
    at[order] = passed
    return at[len(begins):] - at[:len(begins)], float(steps[running == 0].sum()) / 1e9
