"""The verifier of block schedules: what is legal is said here alone, rule by rule, and each error names the rule that is broken."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nagraph.backends.gpu.order import chains
from nagraph.backends.gpu.products.block_form import BlockForm, block_form
from nagraph.backends.gpu.products.emission.kernel import BlockText, emit_blocks
from nagraph.backends.gpu.products.emission.stage_loops import fold_elements
from nagraph.backends.gpu.products.form import WARP, BlockLoops, BlockSchedule, ProductTile
from nagraph.backends.gpu.products.tiles import wrong
from nagraph.backends.gpu.target import GpuTarget
from nagraph.kernel.form import Kernel, Load, Read
from nagraph.kernel.sharing import may_share
from nagraph.kernel.stage_split import needed

#: States of folds that a thread has at most.
MOST_STATES = 96


@dataclass(frozen=True)
class Case:
    """A schedule, a target, the kernel, and its block form."""

    own: Kernel
    form: BlockForm
    schedule: BlockSchedule
    target: GpuTarget


def problem_of(kernel: Kernel, schedule: BlockSchedule, target: GpuTarget) -> str:
    """The rule that a schedule breaks, and how; "" if it is legal."""
    form = block_form(kernel)
    if form is None:
        return "rule 'form': it has no matrix products that a block of threads computes"
    for name, rule in RULES.items():
        problem = rule(Case(kernel, form, schedule, target))
        if problem:
            return f"rule {name!r}: {problem}"
    return ""


@functools.lru_cache(256)
def trial(kernel: Kernel, schedule: BlockSchedule) -> BlockText:
    """The text of a kernel whose name does not matter."""
    form = block_form(kernel)
    assert form is not None
    return emit_blocks(form, schedule, "kernel")


def _threads(case: Case) -> str:
    """A block is whole warps, and no larger than the GPU allows."""
    threads = case.schedule.threads
    if threads < WARP or threads % WARP or threads > case.target.block_threads:
        return f"a block is whole warps, up to {case.target.block_threads} threads; not {threads}"
    return ""


def _units(case: Case) -> str:
    """A unit has rows, and of columns all, or a part where no stage needs another column of what an earlier one made."""
    form, schedule = case.form, case.schedule
    if schedule.rows < 1:
        return "a block has 1 row or more"
    if schedule.columns < 0 or (schedule.columns and not form.split_columns):
        return "a stage needs all columns of what an earlier one made"
    return ""


def _stages(case: Case) -> str:
    """A product has a tile that its block can compute, any other stage loops."""
    form, schedule = case.form, case.schedule
    if len(schedule.stages) != len(form.kernel.stages):
        return f"it has {len(form.kernel.stages)} stages, numbered from 0"
    for n, how in enumerate(schedule.stages):
        if (n in form.products) != isinstance(how, ProductTile):
            return f"stage {n} is {'a matrix product' if n in form.products else 'no matrix product'}"
        if isinstance(how, ProductTile) and (found := wrong(how, form.products[n], schedule.threads)):
            return f"stage {n}: {found}"
        if not isinstance(how, (ProductTile, BlockLoops)):
            return f"stage {n} has a kind of other schedules"
    return ""


def _kept(case: Case) -> str:
    """What a stage reads at other columns than its own is whole in shared memory."""
    form, kept = case.form, set(case.schedule.kept)
    made = {t for t, x in form.tiles.items() if x.writer in form.products or any(w.tile == t for w in form.kernel.stages[x.writer].writes)}
    if not kept <= made:
        return f"t{min(kept - made)} is no result of a product, nor written element by element"
    if kept and (not form.rows or case.schedule.columns):
        return "tiles are kept of blocks of whole rows of the grid"
    missing = (form.whole & made) - kept
    return f"t{min(missing)} is read at other columns than it is made at: it is kept whole" if missing else ""


def _step(case: Case) -> str:
    """A product that goes through its terms in steps keeps to its chains."""
    form, step = case.form, case.schedule.step
    for n, product in form.products.items():
        read = {i.tile for i in product.stage.body if isinstance(i, Read)} - set(case.schedule.kept)
        if not read:
            continue
        length, terms = product.chains.length, product.terms
        if step < 1:
            return f"stage {n} reads t{min(read)} in steps: it has 1 column or more"
        if step >= terms:
            continue
        if product.chains.run < terms or (product.chains.count(terms) > 1 and length % step and step % length):
            return f"stage {n} adds up in chains of {length}, which steps of {step} do not keep to"
        if product.chains.backwards and step % length:
            return f"stage {n} adds its chains of {length} from the last one on: a step is one or several of them"
    return ""


def _folds(case: Case) -> str:
    """What the folds of a stage have of a block of rows stays in registers."""
    form, schedule = case.form, case.schedule
    rows = schedule.rows if form.rows else max(schedule.rows, schedule.step)
    for n, stage in enumerate(form.kernel.stages):
        if n in form.products or not any(f.tile >= 0 for f in stage.folds):
            continue
        chained = chains(form.kernel, stage)
        elements = min(rows, form.extent(form.dims[n].rows)) * (schedule.columns or form.extent(form.dims[n].columns))
        states = sum(1 if f.is_contraction else len(f.values) for f in stage.folds if f.tile >= 0)
        registers = fold_elements(chained, elements, schedule.threads) * -(-chained // WARP) * states
        if registers > MOST_STATES:
            return f"a thread would have {registers} states of folds in stage {n}; {MOST_STATES} at most"
    return ""


def _aliases(case: Case) -> str:
    """What may lie in the bytes of a result is read before, or at the very element, and not computed again later."""
    kernel, inputs = case.form.kernel, len(case.form.kernel.operands) - case.form.kernel.outputs
    for output in range(kernel.outputs):
        for operand in range(inputs):
            if not may_share(case.own, operand, output):
                continue
            if not case.form.rows:
                return f"p{operand} may lie where p{inputs + output} is stored, which other blocks read"
            for n, stage in enumerate(kernel.stages):
                again: Iterable[int] = needed(stage, [w.value for w in stage.writes if w.tile not in case.schedule.kept])
                if n in case.form.products:
                    again = range(len(stage.body))
                if any(isinstance(stage.body[v], Load) and stage.body[v].operand == operand for v in again):  # type: ignore[union-attr]
                    return f"p{operand} may lie where p{inputs + output} is stored, and stage {n} reads it where its results are drawn"
    return ""


def _memory(case: Case) -> str:
    """A block's shared memory is no more than the GPU has."""
    nbytes = trial(case.own, case.schedule).shared_nbytes
    return f"a block wants {nbytes:,} bytes of shared memory, {case.target.name} has {case.target.shared_nbytes:,}" if (
        nbytes > case.target.shared_nbytes) else ""


#: The rules by name, in the order in which they are asked.
RULES: dict[str, Callable[[Case], str]] = {
    "threads": _threads, "units": _units, "stages": _stages, "kept": _kept, "step": _step, "folds": _folds, "aliases": _aliases,
    "memory": _memory,
}
