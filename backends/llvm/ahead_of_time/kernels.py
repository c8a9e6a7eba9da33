"""Kernels for a machine, as text: those of a library are compiled together."""

from __future__ import annotations

from typing import NamedTuple

from nagraph.backends.llvm.emission.emit import emit
from nagraph.backends.llvm.emission.kernel_function import Emitted
from nagraph.backends.llvm.emission.sorting import emit_sort
from nagraph.backends.llvm.gemm import gemm_module
from nagraph.backends.llvm.program.functions import schedule_of
from nagraph.backends.llvm.program.loading import routines_of
from nagraph.backends.llvm.text.builder import Module
from nagraph.backends.llvm.text.machines import Machine
from nagraph.kernel.form import Kernel
from nagraph.ops.sorting import Argsort
from nagraph.program.instructions import SortTask
from nagraph.schedule import overrides
from nagraph.schedule.strategy import choose


class Numbered(NamedTuple):
    """The code of a kernel: LLVM text that defines one function. Its address is not known yet: its number stands for it."""

    symbol: str
    text: str
    address: int


class WrittenKernel(NamedTuple):
    """What launches call: how to launch it, and its code."""

    emitted: Emitted
    code: Numbered


class KernelTexts:
    """The kernels that the programs of a library call, each distinct one once, in the order in which they were asked for."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.kernels: list[WrittenKernel] = []
        self._known: dict[str, WrittenKernel] = {}

    def made(self, work: Kernel | SortTask) -> WrittenKernel:
        """The kernel, or the sort, scheduled and written for the machine."""
        key = str(work) if isinstance(work, Kernel) else f"{work.op} {work.type} {work.layout}"
        if key not in self._known:
            self._known[key] = self._written(work)
            self.kernels.append(self._known[key])
        return self._known[key]

    def texts(self) -> list[str]:
        """LLVM text that defines all of them, and the matrix products that they call."""
        kernels = [k.code.text for k in self.kernels]
        routines = {name: (dtype, product) for text in kernels for name, dtype, product in routines_of(text)}
        return [*kernels, *(gemm_module(dtype, self.machine.target, product) for dtype, product in routines.values())]

    def _written(self, work: Kernel | SortTask) -> WrittenKernel:
        module = Module(self.machine.target, slot="ptr" if self.machine.pointer_nbytes == 8 else "i64", polls=False)
        number = len(self.kernels)
        symbol = f"kernel_{number}"
        if isinstance(work, SortTask):
            x, indices = work.type, isinstance(work.op, Argsort)
            emitted = emit_sort(module, symbol, x.dtype, x.shape, work.layout, work.op.axis, indices)
        elif self.machine.is_this:
            emitted = emit(module, work, symbol, schedule_of(work, str(work)).schedule)
        else:
            given = overrides.current().of(work, self.machine.target)
            emitted = emit(module, work, symbol, given or choose(work, self.machine.target))
        return WrittenKernel(emitted, Numbered(symbol, str(module), number))
