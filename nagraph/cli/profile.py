"""`nagraph profile MODEL`: where the time and the memory of a model's step go."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import click
from rich.table import Table

from nagraph.cli.terminal import console
from nagraph.errors import DataError


@click.command(short_help="Tell where the time and the memory of a model's step go.")
@click.argument("model")
@click.option("--task", type=click.Choice(["train", "infer"]), default="train", show_default=True,
              help="The whole training step, or the forward pass.")
@click.option("--steps", type=click.IntRange(1), default=5, show_default=True,
              help="Recorded steps after one to warm up; the median is shown.")
@click.option("--threads", type=click.IntRange(1), help="Threads of a step.  [default: as many as there are cores]")
@click.option("--out", "place", type=click.Path(path_type=pathlib.Path),
              help="Folder for timeline and picture.  [default: runs/MODEL-TASK-profile]")
@click.option("--rows", type=click.IntRange(1), default=25, show_default=True, help="Kernels and buffers that the tables show.")
@click.option("--layers", type=click.IntRange(1), help="Transformer blocks.  [default: the model's own]")
def command(model: str, task: str, steps: int, threads: int | None, place: pathlib.Path | None, rows: int,
            layers: int | None) -> None:
    """Run the default step of MODEL (such as gpt2) and show its kernels by time and its memory by size.

    A timeline for https://ui.perfetto.dev (one track a thread) and a picture of the memory are left in the folder.
    """
    from nagraph.models.workloads import workload
    from nagraph.storage import write_atomically

    work = workload(model, task, layers)
    folder = place or pathlib.Path("runs") / f"{model}-{task}-profile"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise DataError(f"{folder} is a file; name a folder with --out") from None
    start = time.perf_counter()
    executable = work.lower("llvm", threads).executable
    seconds = time.perf_counter() - start
    profile = executable.profile(*work.arrays(), repeats=steps)
    rate = f", {work.items / profile.seconds / 1e3:.1f}k {work.unit}/s" if work.items else ""
    out = console()
    out.print(f"{model} {task}: {profile.seconds * 1e3:.2f} ms a step{rate}, {len(executable.launches)} kernel launches, "
              f"compiled in {seconds:.1f} s")
    out.print(time_table(profile, rows))
    out.print(f"{profile.machine}", soft_wrap=True)
    memory = executable.memory
    out.print(f"\n{memory.table(rows)}\n", soft_wrap=True)
    timeline = folder / "timeline.json"
    write_atomically(timeline, json.dumps(profile.timeline(f"{model} {task}")).encode())
    out.print(f"timeline  {timeline} (open it in https://ui.perfetto.dev)", soft_wrap=True)
    picture = draw_memory(memory, f"{model} {task}", folder / "memory.png")
    missing = "not drawn: it needs matplotlib (pip install 'nagraph[plot]')"
    out.print(f"memory    {picture or missing}", soft_wrap=True)


def time_table(profile: Any, rows: int) -> Table:
    """A profile's rows as a table for the terminal; where that is narrow, names and lines are cut, numbers are not."""
    from nagraph.backends.llvm.measuring.profile import COLUMNS

    table = Table(box=None, pad_edge=False)
    shown = profile.cells(rows)
    for (name, right), texts in zip(COLUMNS.items(), zip(*shown)):
        least = None if name in ("kernel", "lines") else max(len(name), *map(len, texts))
        table.add_column(name, justify="right" if right else "left", no_wrap=True, min_width=least)
    for cells in shown:
        table.add_row(*cells, style="bold" if cells[8] == "the call" else "")
    return table


def draw_memory(memory: Any, title: str, path: pathlib.Path) -> pathlib.Path | None:
    """Draw the arena: buffers as boxes, offsets over steps, colours by op; None if matplotlib is not installed."""
    import io

    from nagraph.storage import write_atomically

    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch, Rectangle
    except ImportError:
        return None
    unit, name = (2**20, "MB") if memory.arena_bytes >= 2**20 else (2**10, "KB")
    by_op: dict[str, int] = {}
    for b in memory.buffers:
        by_op[b.op] = by_op.get(b.op, 0) + b.nbytes * (b.last - b.first + 1)
    largest = sorted(by_op, key=lambda op: -by_op[op])[:9]
    colours = dict(zip(largest, colormaps["tab10"].colors))  # type: ignore[attr-defined]
    other = colormaps["tab10"].colors[9]  # type: ignore[attr-defined]
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    places, amounts = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    for b in memory.buffers:
        box = Rectangle((b.first, b.offset / unit), b.last - b.first + 1, b.nbytes / unit, facecolor=colours.get(b.op, other),
                        edgecolor="white", linewidth=0.3)
        places.add_patch(box)
    steps = len(memory.steps)
    places.set(xlim=(0, max(steps, 1)), ylim=(0, max(memory.arena_bytes / unit, 1e-9)), ylabel=f"offset ({name})",
               title=f"{title}: arena of {memory.arena_bytes / unit:.1f} {name}, {len(memory.buffers)} buffers")
    shown = [Patch(color=colours[op], label=op if len(op) < 40 else f"{op[:37]}...") for op in largest]
    places.legend(handles=[*shown, *([Patch(color=other, label="others")] if len(by_op) > len(largest) else [])], fontsize=7,
                  loc="upper left", bbox_to_anchor=(1.0, 1.0))
    amounts.step(range(steps), [n / unit for n in memory.live_bytes()], where="post", color="0.3", label="live")
    amounts.axhline(memory.arena_bytes / unit, color="C3", linewidth=0.8, label="arena")
    amounts.axvline(memory.peak, color="0.7", linewidth=0.8, linestyle="--", label="peak")
    amounts.set(xlabel="step", ylabel=f"taken ({name})", ylim=(0, None))
    amounts.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    write_atomically(path, data.getvalue())
    return path
