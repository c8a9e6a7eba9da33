"""`nagraph tune TARGET`: measures other schedules of costly kernels, and keeps the faster ones."""

from __future__ import annotations

import pathlib
import statistics
import time
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nagraph.cli.targets import resolve
from nagraph.cli.terminal import console
from nagraph.errors import DataError
from nagraph.files import write_atomically
from nagraph.schedule.form import Schedule
from nagraph.schedule.tuning import Tuning

#: Calls that are timed before and after, in turn.
CALLS = 9


def run(target: str, task: str | None, threads: int | None, layers: int | None, place: pathlib.Path | None) -> None:
    title, work = resolve(target, task, layers, usual_step="train")
    before, arrays, out = work.executable("llvm", threads), work.arrays(), console()
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=out, disable=not out.is_terminal) as progress:
        bar = progress.add_task("measuring", total=None)
        found = before.tune(*arrays, listener=lambda done, total, what: progress.update(bar, completed=done, total=total))
    after = work.executable("llvm", threads)
    pairs = [(_seconds(before, arrays), _seconds(after, arrays)) for _ in range(CALLS)]
    old, new = (1e3 * statistics.median(times) for times in zip(*pairs))
    out.print(table(found), soft_wrap=True)
    out.print(f"{title}: {old:.2f} ms a call before, {new:.2f} ms after. By the time of threads all kernels are {found.gain:.2f} times as "
              f"fast; {sum(t.tried for t in found.kernels)} schedules were measured", soft_wrap=True)
    for t in found.kernels:
        for schedule in t.wrong:
            out.print(f"a schedule of {t.name} gave other bits, and was not kept. This is a fault of nagraph: please report it, with")
            out.print(str(schedule))
    if place is not None:
        write_atomically(place, f"// {title}\n{after.source('schedule')}\n".encode(), DataError)
        out.print(f"schedules  {place}", soft_wrap=True)


def table(found: Tuning) -> Table:
    """What was found, kernel by kernel."""
    made = Table(box=None, pad_edge=False)
    for name in ("ms", "share", "after", "gain", "tried"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("kernel", no_wrap=True)
    made.add_column("what changed")
    for t in found.kernels:
        made.add_row(f"{t.before_ns / 1e6:.3f}", f"{100 * t.share:.0f} %", f"{t.after_ns / 1e6:.3f}", f"{t.gain:.2f}",
                     str(t.tried), t.name, changes(t.before, t.after) or "it stays")
    return made


def changes(before: Schedule, after: Schedule) -> str:
    """The lines of a schedule that are new, and those that are gone; chunks follow from the others."""
    old, new = ({line.strip().partition(": ")[0]: line.strip() for line in str(s).splitlines()[1:-1]} for s in (before, after))
    found = [line for key, line in new.items() if old.get(key) != line and key != "chunk"]
    return "; ".join([*found, *(f"without {key}" for key in old.keys() - new.keys() if not key.startswith("stage"))])


def _seconds(executable: Any, arrays: Any) -> float:
    start = time.perf_counter()
    executable(*arrays)
    return time.perf_counter() - start
