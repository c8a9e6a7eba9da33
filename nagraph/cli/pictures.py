"""Pictures of a run: the curve of losses and evaluations, a grid of predictions, a matrix of scores."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nagraph.errors import CheckpointError, DataError
from nagraph.files import write_atomically
from nagraph.models.training.task import Grid

#: Images in a row of a grid, and rows and columns of a matrix that are named.
ACROSS, NAMED = 8, 24


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise DataError("it needs matplotlib (pip install 'nagraph[plot]')") from None
    return Figure(figsize=(width, height), layout="constrained")


def _write(figure: Any, path: pathlib.Path) -> pathlib.Path:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150)
    write_atomically(path, data.getvalue(), CheckpointError)
    return path


def draw_all(run: Any, shown: list[Any], folder: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """What was drawn, and where. DataError if matplotlib is not installed."""
    yield "loss curve", draw_curve(run, folder / "loss.png")
    for x in shown:
        name = "predictions" if isinstance(x, Grid) else x.name
        yield name, (draw_grid if isinstance(x, Grid) else draw_matrix)(x, folder / f"{name}.png")


def draw_curve(run: Any, path: pathlib.Path) -> pathlib.Path:
    """The losses of all steps, and the metric where it was evaluated."""
    figure = _figure(7, 4)
    losses = np.asarray(run.losses)
    width = max(1, min(50, len(losses) // 10))
    axes = figure.subplots()
    axes.plot(np.arange(1, len(losses) + 1), losses, color="0.8", linewidth=0.8, label="each step")
    if len(losses):
        smooth = np.convolve(losses, np.ones(width) / width, "valid")
        axes.plot(np.arange(width, len(losses) + 1), smooth, color="C0", label=f"mean of {width} steps")
    axes.set(xlabel="step", ylabel=f"training loss ({run.task.unit})", title=f"{run.task.name} on {run.task.source}")
    axes.grid(alpha=0.3)
    lines = axes.get_lines()
    if run.scored:
        other = axes.twinx()
        lines += other.plot(*zip(*run.scored), color="C1", marker="o", markersize=3, label=f"{run.task.metric}, held out")
        other.set_ylabel(run.task.metric)
    axes.legend(handles=lines)
    return _write(figure, path)


def draw_grid(grid: Any, path: pathlib.Path) -> pathlib.Path:
    """Images with what the model says of them, in red where it is wrong."""
    count = len(grid.images)
    rows = -(-count // ACROSS)
    figure = _figure(1.3 * ACROSS, 1.5 * rows + 0.4)
    figure.suptitle(grid.title)
    for axes, i in zip(figure.subplots(rows, ACROSS, squeeze=False).flat, range(rows * ACROSS)):
        axes.axis("off")
        if i < count:
            axes.imshow(grid.images[i], cmap="gray", vmin=0, vmax=1)
            axes.set_title(grid.said[i], fontsize=7, color="black" if grid.right[i] else "red")
    return _write(figure, path)


def draw_matrix(matrix: Any, path: pathlib.Path) -> pathlib.Path:
    """Scores as shades, rows and columns named where there are few."""
    rows, columns = matrix.values.shape
    named = max(rows, columns) <= NAMED
    figure = _figure(9 if named else 6, 8 if named else 5.5)
    axes = figure.subplots()
    axes.set_title(matrix.title)
    image = axes.imshow(matrix.values, cmap="viridis")
    figure.colorbar(image)
    if named:
        axes.set_xticks(range(columns), matrix.columns, rotation=90, fontsize=6)
        axes.set_yticks(range(rows), matrix.rows, fontsize=6)
    return _write(figure, path)
