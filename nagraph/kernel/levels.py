"""Levels: in how many loops of a stage each of its instructions stands, and which of them wait for a running fold."""

from __future__ import annotations

from collections.abc import Mapping

from nagraph.kernel.form import Apply, Load, Number, Read, Running, Stage, Within


def levels(stage: Stage, depth: Mapping[int, int], innermost: int) -> list[int]:
    """For each instruction the number of loops that it stands in: the outermost that allow it.

    depth: how many loops are open where an axis has a place; 0 for axes that are not in it. innermost: where running folds are.
    """
    found: list[int] = []
    for i in stage.body:
        if isinstance(i, Apply):
            found.append(max((found[a] for a in i.arguments), default=0))
        elif isinstance(i, Number):
            found.append(0)
        elif isinstance(i, Running):
            found.append(innermost)
        else:
            level = max((depth.get(a, 0) if a >= 0 else found[-1 - a] for a, _ in i.index.terms), default=0)
            also = i.mask if isinstance(i, (Load, Read)) else i.also if isinstance(i, Within) else None
            found.append(max(level, found[also]) if also is not None else level)
    return found


def waiting(stage: Stage) -> list[bool]:
    """For each instruction whether it needs the state of a running fold."""
    found: list[bool] = []
    for i in stage.body:
        found.append(isinstance(i, Running) or (isinstance(i, Apply) and any(found[a] for a in i.arguments)))
    return found
