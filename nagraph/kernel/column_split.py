"""Column split makes the columns over which every stage loops a parallel axis of parts, and a shorter loop inside."""

from __future__ import annotations

import dataclasses
import math

from nagraph.kernel.affine import Affine, atom, strides, total
from nagraph.kernel.collapse import reindexed
from nagraph.kernel.form import Kernel, Read, Stage, Tile


def columns(kernel: Kernel) -> tuple[int, ...]:
    """The axes over which all stages keep their results, with tiles that are row-major in them; () if there are no such axes.

    Then no stage needs another column of what an earlier one made.
    """
    kept = kernel.stages[0].kept if kernel.stages else ()
    if not kept or any(s.kept != kept for s in kernel.stages):
        return ()
    sizes = [kernel.axes[a] for a in kept]
    every = total((atom(a), c) for a, c in zip(kept, strides(sizes)))
    tiles = all(t.size == math.prod(sizes) for t in kernel.tiles)
    return kept if tiles and all(index == every for s in kernel.stages for index in _tile_indices(s)) else ()


def _tile_indices(stage: Stage) -> list[Affine]:
    reads = [i.index for i in stage.body if isinstance(i, Read)]
    return [*reads, *(f.index for f in stage.folds), *(w.index for w in stage.writes)]


def with_row(kernel: Kernel) -> Kernel:
    """The kernel with an outermost grid axis of one row."""

    def index(x: Affine) -> Affine:
        return total(((atom(a + 1 if a >= 0 else a), c) for a, c in x.terms), x.offset)

    def loops(nest: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(a + 1 for a in nest)

    stages = tuple(reindexed(s, index, loops) for s in kernel.stages)
    return dataclasses.replace(kernel, axes=(1, *kernel.axes), grid=kernel.grid + 1, stages=stages)


def split_columns(kernel: Kernel, width: int) -> Kernel:
    """The kernel with the first axis of its columns in parts of `width`, which must divide it; the number of the part is grid axis 0."""
    wider, axis = with_row(kernel), columns(kernel)[0] + 1
    axes = list(wider.axes)
    axes[0], axes[axis] = axes[axis] // width, width

    def index(x: Affine) -> Affine:
        return total(((x, 1), (atom(0), x.coefficient(axis) * width)))

    stages = tuple(_own_part(reindexed(s, index, lambda nest: nest)) for s in wider.stages)
    tiles = tuple(Tile(t.dtype, t.size // axes[0]) for t in kernel.tiles)
    return dataclasses.replace(wider, axes=tuple(axes), tiles=tiles, stages=stages)


def _own_part(stage: Stage) -> Stage:
    """The stage with tiles that hold one part: their indices leave out its number."""

    def inside(index: Affine) -> Affine:
        return Affine(index.offset, tuple(t for t in index.terms if t[0] != 0))

    body = tuple(dataclasses.replace(i, index=inside(i.index)) if isinstance(i, Read) else i for i in stage.body)
    return dataclasses.replace(
        stage, body=body, folds=tuple(dataclasses.replace(f, index=inside(f.index)) for f in stage.folds),
        writes=tuple(dataclasses.replace(w, index=inside(w.index)) for w in stage.writes))
