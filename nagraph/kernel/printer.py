"""The text of a kernel."""

from __future__ import annotations

from collections.abc import Iterator

from nagraph.ir.types import SHORT_NAMES
from nagraph.kernel.form import Apply, Instruction, Kernel, Load, Number, Position, Read, Running, Stage, Within


def format_kernel(kernel: Kernel) -> str:
    """for every grid point: stages; loads and stores with their affine indices."""
    inputs = len(kernel.operands) - kernel.outputs
    listed = ", ".join(f"{'in' if i < inputs else 'out'} p{i}: {SHORT_NAMES[d]}" for i, d in enumerate(kernel.operands))
    lines = [f"kernel ({listed}) {{"]
    lines += [f"  tile t{i}: {SHORT_NAMES[t.dtype]}[{t.size}]" for i, t in enumerate(kernel.tiles)]
    if kernel.grid:
        lines.append(f"  parallel {_ranges(kernel, tuple(range(kernel.grid)))}:")
    for stage in kernel.stages:
        lines += [f"    {line}" for line in _stage(kernel, stage)]
    return "\n".join([*lines, "}"])


def _ranges(kernel: Kernel, axes: tuple[int, ...]) -> str:
    return ", ".join(f"a{a} < {kernel.axes[a]}" for a in axes)


def _stage(kernel: Kernel, stage: Stage) -> Iterator[str]:
    kept, reduced = stage.kept, stage.loops[len(stage.kept):]
    heads = [f"for {_ranges(kernel, kept)}"] if kept else []
    heads += [f"reduce {_ranges(kernel, reduced)}"] if reduced else []
    yield f"stage {', '.join(heads)}:"
    for i, instruction in enumerate(stage.body):
        yield f"  v{i}: {SHORT_NAMES[instruction.dtype]} = {_instruction(instruction)}"
    for fold in stage.folds:
        how = fold.op.name if fold.op is not None else "dot"
        yield f"  t{fold.tile}[{fold.index}] = {how}({', '.join(f'v{v}' for v in fold.values)})"
    for write in stage.writes:
        yield f"  t{write.tile}[{write.index}] = v{write.value}"
    for store in stage.stores:
        how = f"{'row ' if store.row_sum else ''}{store.combine.name} " if store.combine is not None else ""
        yield f"  p{store.operand}[{store.index}] {how}= v{store.value}"


def _instruction(i: Instruction) -> str:
    match i:
        case Number():
            return str(i.value)
        case Position(index=index):
            return f"position({index})"
        case Within(index=index, size=size, step=step, also=also):
            every = f", every {step}" if step > 1 else ""
            return f"0 <= {index} < {size}{every}{f' and v{also}' if also is not None else ''}"
        case Load(operand=operand, index=index, mask=mask):
            return f"p{operand}[{index}]{f' if v{mask}' if mask is not None else ''}"
        case Read(tile=tile, index=index, mask=mask):
            return f"t{tile}[{index}]{f' if v{mask}' if mask is not None else ''}"
        case Apply(op=op, arguments=arguments):
            return f"{op}({', '.join(f'v{a}' for a in arguments)})"
        case Running(fold=fold):
            return f"running fold {fold}"
