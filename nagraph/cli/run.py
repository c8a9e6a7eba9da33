"""`nagraph run TARGET`: compiles a graph, runs it once, and shows or keeps its results."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence
from typing import Any

import click
import numpy as np
from rich.table import Table

import nagraph as ng
from nagraph.cli.targets import Target, resolve
from nagraph.cli.terminal import console
from nagraph.errors import DataError
from nagraph.ir.types import is_float, type_of
from nagraph.storage import read_safetensors, write_safetensors


def run(target: str, drawn: bool, inputs: pathlib.Path | None, out: pathlib.Path | None, threads: int | None, backend: str) -> None:
    if drawn == (inputs is not None):
        raise click.UsageError("name the arrays to run on: --random, or a file of them with --inputs")
    found = resolve(target)
    graph = found.work.graph()
    names = getattr(graph, "input_names", tuple(v.name or f"input{i}" for i, v in enumerate(graph.inputs)))
    arrays = found.work.arrays() if inputs is None else _arrays(found, graph, names, inputs)
    start = time.perf_counter()
    executable = found.work.executable(backend, threads)
    compiled = time.perf_counter() - start
    start = time.perf_counter()
    results = [np.asarray(ng.to_numpy(r)) for r in executable(*ng.device_put(arrays, ng.backends.usable(backend).name))]
    seconds = time.perf_counter() - start
    labels = getattr(graph, "output_names", tuple(f"output{i}" for i in range(len(results))))
    terminal = console()
    terminal.print(table(names, arrays, labels, results))
    terminal.print(f"compiled in {compiled:.1f} s, ran in {seconds * 1e3:.2f} ms")
    if out is not None:
        write_safetensors(out, dict(zip(labels, results)))
        terminal.print(f"results   {out}", soft_wrap=True)


def _arrays(target: Target, graph: Any, names: Sequence[str], place: pathlib.Path) -> list[np.ndarray[Any, Any]]:
    """The arrays of a file, in the order of the inputs. DataError for one that is missing or of another type."""
    tensors, _ = read_safetensors(place)
    found = []
    for name, value in zip(names, graph.inputs, strict=True):
        if name not in tensors:
            raise DataError(f"{place} has no array {name!r}; {target.title} takes {', '.join(names)}")
        if type_of(tensors[name]) != value.type:
            raise DataError(f"{place}: {name!r} is {type_of(tensors[name])}, {target.title} takes {value.type}")
        found.append(tensors[name])
    return found


def table(names: Sequence[str], arrays: Sequence[Any], labels: Sequence[str], results: Sequence[Any]) -> Table:
    """Inputs and outputs with their types, and the smallest, mean and largest of their numbers."""
    made = Table(box=None, pad_edge=False)
    for title in ("", "type"):
        made.add_column(title, no_wrap=True)
    for title in ("smallest", "mean", "largest"):
        made.add_column(title, justify="right", no_wrap=True)
    for name, array in (*zip(names, arrays), *zip(labels, results)):
        wide = array.astype(np.float64) if is_float(array.dtype) else array
        shown = (wide.min(), wide.mean(), wide.max()) if array.size else ()
        made.add_row(name, str(type_of(array)), *(f"{x:.6g}" for x in shown))
    return made
