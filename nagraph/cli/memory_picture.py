"""The picture of a program's memory: its buffers in the arena, over the steps between which they live."""

from __future__ import annotations

import io
import pathlib
from typing import Any

from nagraph.errors import DataError
from nagraph.files import write_atomically


def draw_memory(memory: Any, title: str, path: pathlib.Path) -> pathlib.Path | None:
    """Draw the arena: buffers as boxes, offsets over steps, colours by op; None if matplotlib is not installed."""
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
    write_atomically(path, data.getvalue(), DataError)
    return path
