"""The GPU's order of additions: in how many chains a fold adds up its points. It follows from the kernel alone.

A fold's points, row-major over all that it reduces, are dealt out to `chains` chains in runs of `run` neighbours, one run after another:
point r belongs to chain r / run modulo chains. Each chain adds its points consecutively, from nothing on. Of each 32 chains, which are the
lanes of a warp, the second half is then combined into the first, the second quarter into the first, and so on, until one is left; and then
likewise what the warps have. Of a running fold, whose state is wanted at every point, each chain takes one run, and begins with what the
chains before it give, combined one after another.

No target and no schedule reaches this: whatever GPU runs a kernel, its sums have the same bits. They are not those of a CPU, whose chains
are as long as vectors like them (`nagraph.kernel.order`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from nagraph.kernel.form import Interleaved, Kernel, Load, Running, Stage
from nagraph.kernel.vector_axis import along_grid

#: Chains of a warp; the most of a block.
WARP, MOST = 32, 1024
#: Points of a run, where memory is walked along what is summed: those of one access of 16 bytes, of 4 bytes each.
RUN = 4
#: Points of a fold from which more than a warp shares it, and how many points a chain then has at least.
LONG, SHARE = 2048, 8
#: Folds that keep a GPU busy with a thread for each, and with a warp for each.
MANY, MANY_WARPS = 4096, 2048


class FoldOrder(NamedTuple):
    """The order in which the folds of a stage add up: in how many chains, powers of two, and in runs of how many points."""

    chains: int = 1
    run: int = 1


def fold_order(kernel: Kernel, stage: Stage) -> FoldOrder:
    """The order of the folds of a stage; one chain where it has none, or goes in order."""
    reduced = math.prod(kernel.axes[a] for a in stage.loops[len(stage.kept):])
    if not stage.folds or reduced < 2:
        return FoldOrder()
    folds = math.prod(kernel.axes[a] for a in (*range(kernel.grid - kernel.sequential), *stage.kept))
    along = _walks(stage, stage.loops[-1:])
    if runs(stage):
        return _running(kernel, reduced, folds)
    if not isinstance(stage.folds[0].order, Interleaved):  # memory may be walked along what is kept: then neighbours have their own folds
        if folds >= MANY or reduced < WARP or _walks(stage, stage.kept[-1:]) > along:
            return FoldOrder()
        if along_grid(kernel):
            return FoldOrder(max(1, min(WARP, _below(reduced // SHARE), _below(SHARE * MANY // folds))))
    whole = along and reduced >= RUN * WARP // 2 and kernel.axes[stage.loops[-1]] % RUN == 0 and not any(s.contracts for s in kernel.stages)
    run = RUN if whole else 1
    if reduced >= LONG or (folds < MANY_WARPS and reduced >= LONG // 4):
        return FoldOrder(min(MOST, _below(reduced // SHARE)), run)
    return FoldOrder(min(WARP, _below(2 * (reduced // run) - 1)), run)


def runs(stage: Stage) -> bool:
    """Whether a stage wants the state of its fold at every point."""
    return any(isinstance(i, Running) for i in stage.body)


def _running(kernel: Kernel, reduced: int, folds: int) -> FoldOrder:
    """The order of a running fold: several chains where it is long, and where there are not enough folds to keep a GPU busy."""
    if reduced < 2 * WARP or folds >= MANY or along_grid(kernel):
        return FoldOrder()
    count = min(WARP if folds >= WARP else MOST, _below(reduced // SHARE))
    return FoldOrder(count, -(-reduced // count))


def chains(kernel: Kernel, stage: Stage) -> int:
    """How many chains the folds of a stage have in a kernel with matrix products, where no chain takes neighbours in runs."""
    order = fold_order(kernel, stage)
    assert order.run == 1, "only a kernel without products adds up in runs"
    return order.chains


def _walks(stage: Stage, axes: tuple[int, ...]) -> int:
    """The loads that walk along an axis with unit stride."""
    return sum(abs(i.index.coefficient(a)) == 1 for a in axes for i in stage.body if isinstance(i, Load))


def _below(n: int) -> int:
    """The largest power of two that does not exceed n."""
    return 1 << n.bit_length() - 1
