"""The verifier checks what every kernel keeps to: instructions in order, axes in scope, tiles written before they are read, stores
inside.
"""

from __future__ import annotations

from collections.abc import Iterable

from nagraph.errors import VerifyError
from nagraph.ir.types import SHORT_NAMES, DType
from nagraph.kernel.affine import Affine, bounds
from nagraph.kernel.form import Apply, Consecutive, Interleaved, Kernel, Load, Position, Read, Running, Stage, Within
from nagraph.ops.base import NARROW_FLOATS, Primitive


def verify_kernel(kernel: Kernel, sizes: dict[int, int] | None = None) -> None:
    """Raise VerifyError where a kernel is malformed. `sizes`: elements of operands, as far as they are known."""
    written: set[int] = set()
    for number, stage in enumerate(kernel.stages):
        _stage(kernel, stage, number, written, sizes or {})


def _stage(kernel: Kernel, stage: Stage, number: int, written: set[int], sizes: dict[int, int]) -> None:
    where = f"stage {number}"
    axes = {*range(kernel.grid), *stage.loops}
    if len(set(stage.loops)) != len(stage.loops) or any(not kernel.grid <= a < len(kernel.axes) for a in stage.loops):
        raise VerifyError(f"{where}: loops {stage.loops} are not distinct axes from {kernel.grid} to {len(kernel.axes) - 1}")
    if not 0 <= stage.reduced <= len(stage.loops):
        raise VerifyError(f"{where}: reduces {stage.reduced} of {len(stage.loops)} loops")
    for n, i in enumerate(stage.body):
        needed = list(i.arguments) if isinstance(i, Apply) else []
        needed += [m for m in (getattr(i, "mask", None), getattr(i, "also", None)) if m is not None]
        if any(not 0 <= v < n for v in needed):
            raise VerifyError(f"{where}: v{n} uses {[v for v in needed if v >= n]}, which come later")
        if isinstance(i, (Load, Read, Position, Within)):
            _index(kernel, i.index, axes, n, f"{where}: v{n}")
        if isinstance(i, Load) and not 0 <= i.operand < len(kernel.operands):
            raise VerifyError(f"{where}: v{n} loads operand {i.operand} of {len(kernel.operands)}")
        if isinstance(i, Read) and i.tile not in written:
            raise VerifyError(f"{where}: v{n} reads tile {i.tile} before it is written")
        if isinstance(i, Apply) and isinstance(i.op, Primitive) and i.op.widens:
            _wide([i.dtype, *(stage.body[v].dtype for v in i.arguments)], f"{where}: v{n} = {i}")
        if isinstance(i, Running) and not 0 <= i.fold < len(stage.folds):
            raise VerifyError(f"{where}: v{n} runs along fold {i.fold} of {len(stage.folds)}")
    kept = {*range(kernel.grid), *stage.kept}
    inputs = len(kernel.operands) - kernel.outputs
    for fold in stage.folds:
        if any(not 0 <= v < len(stage.body) for v in fold.values):
            raise VerifyError(f"{where}: a fold combines {fold.values} of {len(stage.body)} values")
        _wide([stage.body[v].dtype for v in fold.values], f"{where}: fold {fold}")
        if fold.tile >= 0:
            kept_in, made = kernel.tiles[fold.tile].dtype, stage.body[fold.values[-1]].dtype
            if kept_in != made:
                raise VerifyError(f"{where}: a fold makes {SHORT_NAMES[made]}, but tile {fold.tile} holds {SHORT_NAMES[kept_in]}")
            _index(kernel, fold.index, kept, 0, f"{where}: fold into tile {fold.tile}", kernel.tiles[fold.tile].size)
            written.add(fold.tile)
    _orders(kernel, stage, where)
    for w in stage.writes:
        if stage.body[w.value].dtype != kernel.tiles[w.tile].dtype:
            made, kept_in = stage.body[w.value].dtype, kernel.tiles[w.tile].dtype
            raise VerifyError(f"{where}: writes a {SHORT_NAMES[made]}, v{w.value}, into tile {w.tile} of {SHORT_NAMES[kept_in]}")
        _index(kernel, w.index, axes, 0, f"{where}: write into tile {w.tile}", kernel.tiles[w.tile].size)
        written.add(w.tile)
    for s in stage.stores:
        if not inputs <= s.operand < len(kernel.operands):
            raise VerifyError(f"{where}: stores into operand {s.operand}; outputs are {inputs} to {len(kernel.operands) - 1}")
        if s.row_sum and (s.combine is None or any(n > 1 and not s.index.coefficient(a)
                                                   for a, n in enumerate(kernel.axes[:kernel.grid - kernel.sequential]))):
            raise VerifyError(f"{where}: a row sum combines, and leaves out the last axes of the grid; {s.index} leaves out others")
        dtype, expected = stage.body[s.value].dtype, kernel.operands[s.operand]
        if s.combine is not None:
            _wide([dtype], f"{where}: store {s}")
        elif dtype != expected:
            raise VerifyError(f"{where}: stores a {SHORT_NAMES[dtype]}, v{s.value}, into operand {s.operand} of {SHORT_NAMES[expected]}")
        dynamic = any(a < 0 for a, _ in s.index.terms)
        _index(kernel, s.index, axes, len(stage.body), f"{where}: store", None if dynamic else sizes.get(s.operand))


def _orders(kernel: Kernel, stage: Stage, where: str) -> None:
    """Checks that folds state one order, and that its chains cover what is reduced."""
    orders = {f.order for f in stage.folds}
    if len(orders) > 1 or None in orders:
        raise VerifyError(f"{where}: folds of a stage have one order of additions; these have {', '.join(map(str, orders)) or 'none'}")
    for order in orders:
        extents = [kernel.axes[a] for a in stage.loops[len(stage.kept):]]
        if isinstance(order, Interleaved):
            stops = [0, *(stop for stop, _ in order.parts)]
            if stops != sorted(set(stops)) or not extents or stops[-1] != extents[-1]:
                raise VerifyError(f"{where}: interleaved chains end at {stops[1:]}, the innermost reduced axis at {extents[-1:]}")
            if any(chains < 1 or chains & (chains - 1) for _, chains in order.parts):
                raise VerifyError(f"{where}: interleaved chains are as many as a power of two; these are {[c for _, c in order.parts]}")
        elif isinstance(order, Consecutive) and (order.length < 0 or (order.length and not all(f.is_contraction for f in stage.folds))):
            raise VerifyError(f"{where}: only sums of products add up in chains of a length; this is {order}")
        if isinstance(order, Interleaved) and any(isinstance(i, Running) for i in stage.body):
            raise VerifyError(f"{where}: a running fold goes in order, not {order}")


def _wide(dtypes: Iterable[DType], what: str) -> None:
    """Checks that nothing is computed in 16-bit floats: they are converted before, and the result is."""
    narrow = [SHORT_NAMES[d] for d in dtypes if d in NARROW_FLOATS]
    if narrow:
        raise VerifyError(f"{what} computes in {narrow[0]}; kernels convert 16-bit floats to f32, and what is computed of them back")


def _index(kernel: Kernel, index: Affine, axes: set[int], before: int, what: str, size: int | None = None) -> None:
    """Checks that an index runs over axes in scope and earlier instructions, and stays inside what it indexes."""
    for a, _ in index.terms:
        if (a >= 0 and a not in axes) or (a < 0 and -1 - a >= before):
            raise VerifyError(f"{what}: index {index} uses {'axis' if a >= 0 else 'value'} {a if a >= 0 else -1 - a}, which it can't see")
    if size is not None and all(kernel.axes[a] for a, _ in index.terms):
        low, high = bounds(index, dict(enumerate(kernel.axes)))
        if low < 0 or high >= size:
            raise VerifyError(f"{what}: index {index} runs from {low} to {high}, but there are {size} elements")
