"""The verifier checks what every kernel keeps to: instructions in order, axes in scope, tiles written before they are read, stores
inside.
"""

from __future__ import annotations

from nagraph.errors import VerifyError
from nagraph.kernel.affine import Affine, bounds
from nagraph.kernel.form import Apply, Kernel, Load, Position, Read, Running, Stage, Within


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
        if isinstance(i, Running) and not 0 <= i.fold < len(stage.folds):
            raise VerifyError(f"{where}: v{n} runs along fold {i.fold} of {len(stage.folds)}")
    kept = {*range(kernel.grid), *stage.kept}
    inputs = len(kernel.operands) - kernel.outputs
    for fold in stage.folds:
        if any(not 0 <= v < len(stage.body) for v in fold.values):
            raise VerifyError(f"{where}: a fold combines {fold.values} of {len(stage.body)} values")
        if fold.tile >= 0:
            _index(kernel, fold.index, kept, 0, f"{where}: fold into tile {fold.tile}", kernel.tiles[fold.tile].size)
            written.add(fold.tile)
    for w in stage.writes:
        _index(kernel, w.index, axes, 0, f"{where}: write into tile {w.tile}", kernel.tiles[w.tile].size)
        written.add(w.tile)
    for s in stage.stores:
        if not inputs <= s.operand < len(kernel.operands):
            raise VerifyError(f"{where}: stores into operand {s.operand}; outputs are {inputs} to {len(kernel.operands) - 1}")
        if s.row_sum and (s.combine is None or any(n > 1 and not s.index.coefficient(a)
                                                   for a, n in enumerate(kernel.axes[:kernel.grid - kernel.sequential]))):
            raise VerifyError(f"{where}: a row sum combines, and leaves out the last axes of the grid; {s.index} leaves out others")
        dynamic = any(a < 0 for a, _ in s.index.terms)
        _index(kernel, s.index, axes, len(stage.body), f"{where}: store", None if dynamic else sizes.get(s.operand))


def _index(kernel: Kernel, index: Affine, axes: set[int], before: int, what: str, size: int | None = None) -> None:
    """Checks that an index runs over axes in scope and earlier instructions, and stays inside what it indexes."""
    for a, _ in index.terms:
        if (a >= 0 and a not in axes) or (a < 0 and -1 - a >= before):
            raise VerifyError(f"{what}: index {index} uses {'axis' if a >= 0 else 'value'} {a if a >= 0 else -1 - a}, which it can't see")
    if size is not None and all(kernel.axes[a] for a, _ in index.terms):
        low, high = bounds(index, dict(enumerate(kernel.axes)))
        if low < 0 or high >= size:
            raise VerifyError(f"{what}: index {index} runs from {low} to {high}, but there are {size} elements")
