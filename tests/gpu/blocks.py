"""Kernels with products on the machine of fibers: their text by any schedule, on arrays, in the bytes that a test likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph import backends
from nagraph.backends.gpu.on_cpu.kernels import Kernels
from nagraph.backends.gpu.on_cpu.memory import Allocation
from nagraph.backends.gpu.products.block_form import block_form
from nagraph.backends.gpu.products.emission.kernel import BlockText, emit_blocks
from nagraph.backends.gpu.products.form import BlockSchedule
from nagraph.ir.graph import Graph
from nagraph.kernel.affine import bounds
from nagraph.kernel.form import Kernel, Load
from nagraph.pipeline import Pipeline
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.program.lowering import lower
from nagraph.thresholds import setting

Array = np.ndarray[Any, Any]


class Text(NamedTuple):
    """A kernel's name and its text."""

    name: str
    text: str


class Blocks:
    """Texts of kernels, which are compiled together when the first one runs. check: as of the machine."""

    def __init__(self, check: str = "watch"):
        self.kernels = Kernels(check=check)
        self._made: dict[str, BlockText] = {}

    def add(self, kernel: Kernel, schedule: BlockSchedule) -> str:
        """The name of a kernel's text by a schedule."""
        form = block_form(kernel)
        assert form is not None
        name = f"k{len(self._made)}"
        self._made[name] = emit_blocks(form, schedule, name)
        self.kernels.add(Text(name, self._made[name].text))
        return name

    def run(self, name: str, operands: Sequence[Array], results: Sequence[tuple[Any, tuple[int, ...]]], seed: int = 0,
            over: Mapping[int, int] | None = None, shift: int = 0) -> list[Array]:
        """What a kernel stores, of these dtypes and shapes. over: result j lies in the bytes of operand over[j]. shift: elements by which
        operands begin behind a multiple of 256 bytes.
        """
        made, over = self._made[name], over or {}
        padded = [np.concatenate([np.zeros(shift, a.dtype), a.reshape(-1)]) if shift else a for a in operands]
        given = [Allocation.of(a, i in over.values()) for i, a in enumerate(padded)]
        nbytes = [int(np.dtype(d).itemsize * np.prod(s, dtype=int)) for d, s in results]
        outputs = [given[over[j]] if j in over else Allocation(n) for j, n in enumerate(nbytes)]
        places = [*(a.address + shift * x.itemsize for a, x in zip(given, operands)), *(a.address for a in outputs)]
        table = Allocation.of(np.array(places, np.uint64), False)
        self.kernels.seed = seed
        self.kernels.launch(name, (made.blocks, 1, 1), (made.threads, 1, 1), made.shared_nbytes, table.address, range(len(places)),
                            [a.range for a in (*given, *outputs, table)])
        for a in (*given, *outputs):
            a.check("an operand")
        return [a.array(d, s).copy() for a, (d, s) in zip(outputs, results)]


def kernels_of(graph: Graph) -> list[Kernel]:
    """The kernels of a graph as programs have them, with sums over rows of any size."""
    found: list[Any] = []
    passes = backends.find("llvm").pipeline.replace("split,", "split{shortest=1,rows=1},")
    with setting(lambda t: t.often if t.decision == "row_sums" else t.own):
        planner, plan = kernel_plan(Pipeline.parse(passes)(graph), {})
    lower(planner, plan, lambda work: found.append(work))
    return [k for k in found if isinstance(k, Kernel)]


def extents(kernel: Kernel) -> list[int]:
    """How many elements of each operand a kernel reaches; of one that it reads at places that are data, anything."""
    found = [1] * len(kernel.operands)
    axes = dict(enumerate(kernel.axes))
    for stage in kernel.stages:
        accesses = [(i.operand, i.index) for i in stage.body if isinstance(i, Load)] + [(s.operand, s.index) for s in stage.stores]
        for operand, index in accesses:
            if all(a >= 0 for a, _ in index.terms):
                found[operand] = max(found[operand], bounds(index, axes)[1] + 1)
    return found
