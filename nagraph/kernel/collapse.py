"""Collapsing merges axes that every index walks through as one, so that loops are few and long."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Fold, Instruction, Kernel, Load, Position, Read, Stage, Store, Within, Write


def collapse(kernel: Kernel) -> Kernel:
    """The kernel with neighbouring axes merged where outer coefficient = inner coefficient * inner extent everywhere."""
    while (pair := _mergeable(kernel)) is not None:
        kernel = _merge(kernel, *pair)
    return kernel


def _nests(kernel: Kernel) -> Iterator[tuple[int, ...]]:
    """Runs of axes that are looped over one inside the other, in this order, and with one role."""
    yield tuple(range(kernel.grid))
    for stage in kernel.stages:
        yield stage.kept
        yield stage.loops[len(stage.kept):]


def _mergeable(kernel: Kernel) -> tuple[int, int] | None:
    indices = set(_indices(kernel))
    nests = [n for n in _nests(kernel) if n]
    for nest in nests:
        for outer, inner in zip(nest, nest[1:]):
            together = all((outer, inner) in zip(n, n[1:]) for n in nests if outer in n or inner in n)
            size = kernel.axes[inner]
            if together and all(x.coefficient(outer) == x.coefficient(inner) * size for x in indices):
                return outer, inner
    return None


def _indices(kernel: Kernel) -> Iterator[Affine]:
    for stage in kernel.stages:
        for part in (*stage.body, *stage.folds, *stage.writes, *stage.stores):
            if isinstance(part, (Load, Read, Position, Within, Fold, Write, Store)):
                yield part.index


def _merge(kernel: Kernel, outer: int, inner: int) -> Kernel:
    """Axis `outer` goes; `inner` becomes as long as both; later axes move up."""
    axes = list(kernel.axes)
    axes[inner] *= axes[outer]
    del axes[outer]
    moved = [a - (a > outer) for a in range(len(kernel.axes))]

    def index(x: Affine) -> Affine:
        return Affine(x.offset, tuple((moved[a] if a >= 0 else a, c) for a, c in x.terms if a != outer))

    def loops(nest: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(moved[a] for a in nest if a != outer)

    grid = kernel.grid - (outer < kernel.grid)
    return dataclasses.replace(kernel, axes=tuple(axes), grid=grid, stages=tuple(reindexed(s, index, loops) for s in kernel.stages))


def reindexed(stage: Stage, index: Callable[[Affine], Affine], loops: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Stage:
    """The stage with other axes: `index` changes its indices, `loops` its kept loops and its reduced ones."""
    kept, reduced = loops(stage.kept), loops(stage.loops[len(stage.kept):])

    def changed(i: Instruction) -> Instruction:
        if isinstance(i, (Load, Read, Position, Within)):
            return dataclasses.replace(i, index=index(i.index))
        return i

    return Stage(
        (*kept, *reduced), len(reduced), tuple(map(changed, stage.body)),
        tuple(dataclasses.replace(f, index=index(f.index)) for f in stage.folds),
        tuple(dataclasses.replace(w, index=index(w.index)) for w in stage.writes),
        tuple(dataclasses.replace(s, index=index(s.index)) for s in stage.stores))
