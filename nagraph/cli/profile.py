"""`nagraph profile TARGET`: shows where the time and the memory of a call go."""

from __future__ import annotations

import json
import pathlib
import re
import time
from typing import Any

from rich.table import Table

from nagraph.cli.memory_picture import draw_memory
from nagraph.cli.targets import resolve
from nagraph.cli.terminal import console
from nagraph.errors import DataError
from nagraph.files import write_atomically
from nagraph.measuring.profile import COLUMNS


def run(target: str, task: str | None, steps: int, backend: str, threads: int | None, place: pathlib.Path | None, rows: int,
        layers: int | None) -> None:
    title, work = resolve(target, task, layers, usual_step="train")
    folder = place or pathlib.Path("runs") / f"{re.sub(r'[^A-Za-z0-9_.]+', '-', title)}-profile"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise DataError(f"{folder} is a file; name a folder with --out") from None
    start = time.perf_counter()
    executable = work.executable(backend, threads)
    seconds = time.perf_counter() - start
    profile = executable.profile(*work.arrays(), repeats=steps)
    rate = f", {work.items / profile.seconds / 1e3:.1f}k {work.unit}/s" if work.items else ""
    out = console()
    out.print(f"{title}: {profile.seconds * 1e3:.2f} ms a step{rate}, {len(executable.launches)} kernel launches, "
              f"compiled in {seconds:.1f} s")
    out.print(time_table(profile, rows))
    out.print(f"{profile.machine}", soft_wrap=True)
    memory = executable.memory
    out.print(f"\n{memory.table(rows)}\n", soft_wrap=True)
    timeline = folder / "timeline.json"
    write_atomically(timeline, json.dumps(profile.timeline(title)).encode(), DataError)
    out.print(f"timeline  {timeline} (open it in https://ui.perfetto.dev)", soft_wrap=True)
    picture = draw_memory(memory, title, folder / "memory.png")
    missing = "not drawn: it needs matplotlib (pip install 'nagraph[plot]')"
    out.print(f"memory    {picture or missing}", soft_wrap=True)


def time_table(profile: Any, rows: int) -> Table:
    """A profile's rows as a table for the terminal; where that is narrow, names and lines are cut, numbers are not."""
    table = Table(box=None, pad_edge=False)
    shown = profile.cells(rows)
    for (name, right), texts in zip(COLUMNS.items(), zip(*shown)):
        least = None if name in ("kernel", "lines") else max(len(name), *map(len, texts))
        table.add_column(name, justify="right" if right else "left", no_wrap=True, min_width=least)
    for cells in shown:
        table.add_row(*cells, style="bold" if cells[8] == "the call" else "")
    return table
