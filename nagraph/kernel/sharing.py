"""Sharing tells whether an operand and a result of a kernel may be the same bytes."""

from __future__ import annotations

from collections.abc import Iterator

from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Kernel, Load, Stage
from nagraph.kernel.row_blocks import row_blocks


def may_share(kernel: Kernel, operand: int, output: int) -> bool:
    """Whether output number `output` may be written over an operand: no point reads there what another point wrote.

    So it is where every element is read before it is written, and by the grid point that writes it: in the stage that
    stores, at the stored index alone; in earlier stages anywhere in the point's own row; later not at all.
    """
    if row_blocks(kernel) is not None:  # a stage runs on one block before the stages before it are done with the others
        return False
    target = len(kernel.operands) - kernel.outputs + output
    stores = [(n, s.index) for n, stage in enumerate(kernel.stages) for s in stage.stores if s.operand == target and not s.row_sum]
    if len(stores) != 1:
        return False
    (at, index), = stores
    for n, stage in enumerate(kernel.stages):
        for load in _loads(stage, operand):
            if stage.contracts:  # contractions may write their result where it ends up
                return False
            if n > at or (n == at and load != index) or (n < at and not _same_row(kernel, load, index)):
                return False
    return True


def reads(kernel: Kernel, operand: int) -> bool:
    """Whether a kernel loads from an operand. (What a store combines with is read of the result.)"""
    return any(True for stage in kernel.stages for _ in _loads(stage, operand))


def _loads(stage: Stage, operand: int) -> Iterator[Affine]:
    return (i.index for i in stage.body if isinstance(i, Load) and i.operand == operand)


def _same_row(kernel: Kernel, load: Affine, store: Affine) -> bool:
    """Whether two indices cover the same elements for each point of the grid."""

    def parts(index: Affine) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        grid = [(a, c) for a, c in index.terms if 0 <= a < kernel.grid]
        inner = sorted((c, kernel.axes[a]) for a, c in index.terms if a >= kernel.grid)
        return grid, inner

    fixed = all(a >= 0 for a, _ in (*load.terms, *store.terms))
    return fixed and load.offset == store.offset and parts(load) == parts(store)
