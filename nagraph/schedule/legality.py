"""What a kernel allows beside what its own room says: what is transposed in tiles, what can be asked for ahead of time."""

from __future__ import annotations

from nagraph.ir.types import BOOL
from nagraph.kernel.form import Apply, Kernel, Load, Number, Read, Running, Stage, Store, Within


def varying(stage: Stage, axis: int) -> list[bool]:
    """For each instruction of a stage whether it may differ from place to place along an axis of the grid."""
    found: list[bool] = []
    for i in stage.body:
        if isinstance(i, Apply):
            found.append(any(found[a] for a in i.arguments))
        elif isinstance(i, (Number, Running, Read)):
            found.append(not isinstance(i, Number))
        else:
            also = i.mask if isinstance(i, Load) else i.also if isinstance(i, Within) else None
            own = any(a == axis or (a < 0 and found[-1 - a]) for a, _ in i.index.terms)
            found.append(own or (also is not None and found[also]))
    return found


def transposed_loads(kernel: Kernel) -> dict[int, list[int]]:
    """For axes of the grid but the last, the loads that walk along them with unit stride, and that the last axis takes elsewhere.

    None but in a kernel of one stage without loops, whose stores have unit stride along the last axis.
    """
    if kernel.grid < 2 or kernel.sequential or len(kernel.stages) != 1 or kernel.stages[0].loops or kernel.stages[0].folds:
        return {}
    (stage,), last = kernel.stages, kernel.grid - 1
    if any(s.index.coefficient(last) != 1 for s in stage.stores):
        return {}
    strided = [n for n, i in enumerate(stage.body) if isinstance(i, Load) and i.dtype != BOOL
               and i.index.coefficient(last) not in (0, 1) and all(a >= 0 for a, _ in i.index.terms)]
    found = {axis: [n for n in strided if stage.body[n].index.coefficient(axis) == 1] for axis in range(last)}  # type: ignore[union-attr]
    return {axis: loads for axis, loads in found.items() if loads}


def ahead(kernel: Kernel, x: Load | Store) -> bool:
    """Whether an access can be asked for before it is made: its places are no data, and differ from point to point of the grid."""
    terms = [a for a, _ in x.index.terms]
    return min(terms, default=0) >= 0 and any(a < kernel.grid for a in terms)
