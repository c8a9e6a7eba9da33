"""Stage split, also known as loop fission: a stage whose results share no computation becomes several stages."""

from __future__ import annotations

import dataclasses

from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Apply, Instruction, Load, Position, Read, Stage, Store, Within, Write


def split_stage(stage: Stage) -> list[Stage]:
    """Stages for the groups of writes and stores that share no value and no tile that is read; loads may be made twice."""
    outputs: list[Write | Store] = [*stage.writes, *stage.stores]
    if stage.folds or len(outputs) < 2:
        return [stage]
    groups: list[tuple[set[object], list[Write | Store]]] = []
    for x in outputs:
        marks: set[object] = {x.value} | {("tile", i.tile) for n in needed(stage, [x.value]) if isinstance(i := stage.body[n], Read)}
        members = [x]
        for group in [g for g in groups if g[0] & marks]:
            groups.remove(group)
            marks, members = marks | group[0], [*group[1], *members]
        groups.append((marks, members))
    return [_only(stage, members) for _, members in groups] if len(groups) > 1 else [stage]


def needed(stage: Stage, values: list[int]) -> list[int]:
    """The instructions that these values are made of, in order."""
    found: set[int] = set()
    stack = list(values)
    while stack:
        n = stack.pop()
        if n in found:
            continue
        found.add(n)
        i = stage.body[n]
        match i:
            case Apply(arguments=arguments):
                stack += arguments
            case Load(mask=also) | Read(mask=also) | Within(also=also):
                stack += [also] if also is not None else []
        if isinstance(i, (Load, Position, Read, Within)):
            stack += [-1 - a for a, _ in i.index.terms if a < 0]
    return sorted(found)


def _only(stage: Stage, outputs: list[Write | Store]) -> Stage:
    """The stage with these outputs alone, and what they need."""
    kept = needed(stage, [x.value for x in outputs])
    number = {n: m for m, n in enumerate(kept)}

    def moved(index: Affine) -> Affine:
        return Affine(index.offset, tuple(sorted((a if a >= 0 else -1 - number[-1 - a], c) for a, c in index.terms)))

    def changed(i: Instruction) -> Instruction:
        match i:
            case Apply(arguments=arguments):
                return dataclasses.replace(i, arguments=tuple(number[a] for a in arguments))
            case Load(mask=mask) | Read(mask=mask):
                return dataclasses.replace(i, index=moved(i.index), mask=None if mask is None else number[mask])
            case Within(also=also):
                return dataclasses.replace(i, index=moved(i.index), also=None if also is None else number[also])
            case Position():
                return dataclasses.replace(i, index=moved(i.index))
        return i

    def renumbered(x: Write | Store) -> Write | Store:
        return dataclasses.replace(x, value=number[x.value], index=moved(x.index))

    made = [renumbered(x) for x in outputs]
    return Stage(stage.loops, stage.reduced, tuple(changed(stage.body[n]) for n in kept), (),
                 tuple(x for x in made if isinstance(x, Write)), tuple(x for x in made if isinstance(x, Store)))
