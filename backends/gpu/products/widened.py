"""Widened tiles: tiles that hold 16-bit floats of memory as float32 are read where they come from.

Such are the operands of attention, which is computed in float32 throughout. Read from memory they are what they are: 16-bit floats, which
tensor cores multiply, and which take half the room.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from nagraph.backends.gpu.products.stage_product import HALVES
from nagraph.kernel.affine import Affine, atom, total
from nagraph.kernel.form import Apply, Instruction, Kernel, Load, Read, Stage, Within, Write
from nagraph.ops.base import Cast


class Source(NamedTuple):
    """What a widened tile holds: the load, the cast, and where the load's stage writes it."""

    load: Load
    cast: Apply
    index: Affine


def read_at_their_sources(kernel: Kernel) -> Kernel:
    """The kernel without its widened tiles, as far as all who read them can read their sources."""
    sources = {w.tile: s for stage in kernel.stages for w in stage.writes if (s := _source(kernel, stage, w)) is not None}
    for stage in kernel.stages:
        for i in stage.body:
            if isinstance(i, Read) and i.tile in sources and (i.mask is not None or _moved(kernel, sources[i.tile], i.index) is None):
                del sources[i.tile]
    stages = (_rewritten(kernel, s, sources) for s in kernel.stages)
    return dataclasses.replace(kernel, stages=tuple(s for s in stages if s.folds or s.writes or s.stores)) if sources else kernel


def _source(kernel: Kernel, stage: Stage, write: Write) -> Source | None:
    i = stage.body[write.value]
    if stage.folds or stage.reduced or not isinstance(i, Apply) or not isinstance(i.op, Cast):
        return None
    load = stage.body[i.arguments[0]]
    plain = isinstance(load, Load) and load.dtype in HALVES and load.mask is None and all(a >= 0 for a, _ in load.index.terms)
    once = sum(w.tile == write.tile for s in kernel.stages for w in (*s.writes, *s.folds)) == 1
    assert not plain or isinstance(load, Load)
    return Source(load, i, write.index) if plain and once and not write.index.offset else None  # type: ignore[arg-type]


def _moved(kernel: Kernel, source: Source, index: Affine) -> Affine | None:
    """The index in memory of what stands at an index of the tile; None if their axes do not go with one another."""
    if index.offset or any(a < 0 for a, _ in index.terms):
        return None
    axes = {c: a for a, c in source.index.terms}
    place: dict[int, int] = {}
    for b, c in index.terms:
        if c not in axes or axes[c] in place or kernel.axes[b] > kernel.axes[axes[c]]:
            return None
        place[axes[c]] = b
    if len(axes) != len(source.index.terms):
        return None
    own = {a for a, _ in source.index.terms}
    kept = [(atom(place.get(a, a)), c) for a, c in source.load.index.terms if a < kernel.grid or a in place]
    return None if any(a >= kernel.grid and a not in own for a, _ in source.load.index.terms) else total(kept, source.load.index.offset)


def _rewritten(kernel: Kernel, stage: Stage, sources: dict[int, Source]) -> Stage:
    body: list[Instruction] = []
    number: dict[int, int] = {}

    def moved(index: Affine) -> Affine:
        return Affine(index.offset, tuple(sorted((a if a >= 0 else -1 - number[-1 - a], c) for a, c in index.terms)))

    for n, i in enumerate(stage.body):
        match i:
            case Read(tile=tile, index=index) if tile in sources:
                where = _moved(kernel, sources[tile], index)
                assert where is not None
                body.append(dataclasses.replace(sources[tile].load, index=where))
                i = dataclasses.replace(sources[tile].cast, arguments=(len(body) - 1,))
            case Apply(arguments=arguments):
                i = dataclasses.replace(i, arguments=tuple(number[a] for a in arguments))
            case Load(index=index, mask=mask) | Read(index=index, mask=mask):
                i = dataclasses.replace(i, index=moved(index), mask=None if mask is None else number[mask])
            case Within(index=index, also=also):
                i = dataclasses.replace(i, index=moved(index), also=None if also is None else number[also])
        body.append(i)
        number[n] = len(body) - 1
    return dataclasses.replace(
        stage, body=tuple(body), folds=tuple(dataclasses.replace(f, values=tuple(number[v] for v in f.values)) for f in stage.folds),
        writes=tuple(dataclasses.replace(w, value=number[w.value]) for w in stage.writes if w.tile not in sources),
        stores=tuple(dataclasses.replace(s, value=number[s.value]) for s in stage.stores))
