"""Executables of the LLVM backend: one native program, its arena, and calls from Python."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from nagraph.backends.llvm.code import Module
from nagraph.backends.llvm.emit import Emitted, emit
from nagraph.backends.llvm.native import Library, object_code
from nagraph.backends.llvm.sorting import emit_sort
from nagraph.errors import MissingRuleError, SignatureError
from nagraph.ir.builder import Builder
from nagraph.ir.graph import Graph, Value
from nagraph.ir.types import type_of
from nagraph.kernel.form import Kernel
from nagraph.kernel.lower import lower as lower_kernel
from nagraph.kernel.lower import row_major
from nagraph.ops.sorting import Argsort, Sort
from nagraph.plan.kernels import KernelLowering, KernelStep
from nagraph.plan.plan import ALIGNMENT, Plan

Array = np.ndarray[Any, Any]


class Memory(NamedTuple):
    """Bytes of the arena, and the least that any assignment of offsets needs: the largest sum of live bytes."""

    arena_bytes: int
    lower_bound: int


class Compiled(NamedTuple):
    """A kernel's function: where it stands, its units, its scratch, its text."""

    address: int
    emitted: Emitted
    text: str
    library: Library


_COMPILED: dict[str, Compiled] = {}
_COMPILING = threading.Lock()


def compiled(key: str, write: Callable[[Module, str], Emitted]) -> Compiled:
    """The machine code of what `write` emits; equal keys are compiled once."""
    with _COMPILING:
        if key not in _COMPILED:
            name = f"k{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            module = Module()
            emitted = write(module, name)
            text = str(module)
            library = Library(object_code(text))
            _COMPILED[key] = Compiled(library.address(name), emitted, text, library)
        return _COMPILED[key]


class Launch(NamedTuple):
    """A kernel on slots: the numbers of its operands in the program's table of pointers."""

    kernel: Kernel | None
    code: Compiled
    slots: tuple[int, ...]
    origin: Any


class Executable:
    """exe(*arrays) -> tuple of arrays: fresh ones, never aliases of arguments, of one another or of the arena."""

    def __init__(self, graph: Graph, donations: Mapping[int, int], threads: int | None = None):
        self.graph = graph
        self.threads = threads
        self._lowering = KernelLowering(graph, donations)
        self.plan: Plan = self._lowering.plan()
        self.launches: list[Launch] = []
        self._constants: list[Array] = []
        self._table: list[tuple[str, int]] = []
        self._places: dict[tuple[str, int], int] = {}
        for step in self.plan.steps:
            if not step.view:
                self._lower_step(step)
        for j, (slot, copied) in enumerate(self.plan.results):
            if copied:
                self._copy_out(j, slot)
        self._scratch_nbytes = max((x.code.emitted.scratch_nbytes for x in self.launches), default=0)
        self._lock = threading.Lock()
        self._arena: Array | None = None

    @property
    def memory(self) -> Memory:
        return Memory(self.plan.arena_bytes, self.plan.lower_bound)

    @property
    def kernels(self) -> list[Kernel]:
        return [x.kernel for x in self.launches if x.kernel is not None]

    # -- lowering -----------------------------------------------------------------------------------------------

    def _place(self, kind: str, number: int) -> int:
        """The number of a pointer in the table: of the arena at an offset, an input, an output, a constant."""
        key = (kind, number)
        if key not in self._places:
            self._places[key] = len(self._table)
            self._table.append(key)
        return self._places[key]

    def _constant(self, array: Array) -> int:
        self._constants.append(np.ascontiguousarray(array))
        return self._place("constant", len(self._constants) - 1)

    def _slot(self, slot: int) -> int:
        """The pointer of a whole value's slot."""
        b = self.plan.buffers[self.plan.slots[slot].buffer]
        if b.kind == "constant":
            return self._constant(self.plan.constants[slot])
        return self._place(b.kind, b.offset if b.kind == "arena" else b.index)

    def _lower_step(self, step: Any) -> None:
        found = self._lowering.step_of(step.node)
        if found is None:
            self._lower_template(step)
            return
        slots = [self._slot(self._lowering.slot_of[v]) for v in found.reads]
        slots += [self._constant(c) for c in found.constants]
        slots += [self._slot(s) for s in step.results]
        self._launch(found, tuple(slots), step.node)

    def _lower_template(self, step: Any) -> None:
        """A step whose code is written by hand."""
        op = step.node.op
        if not isinstance(op, (Sort, Argsort)):
            raise MissingRuleError(f"op {op.name} has no native code")
        (x,) = step.node.operands
        layout = self._lowering.layouts.get(x, row_major(x.shape))
        key = f"{op.name} {x.type} {layout} {op.axis}"
        code = compiled(key, lambda m, n: emit_sort(m, n, x.dtype, x.shape, layout, op.axis, isinstance(op, Argsort)))
        if x.type.size:
            source = self._slot(self._lowering.slot_of[self._lowering.roots[x]])
            self.launches.append(Launch(None, code, (source, self._slot(step.results[0])), step.node))

    def _launch(self, step: KernelStep, slots: tuple[int, ...], origin: Any) -> None:
        kernel = step.kernel
        code = compiled(str(kernel), lambda module, name: emit(module, kernel, name))
        if code.emitted.units:
            self.launches.append(Launch(kernel, code, slots, origin))

    def _copy_out(self, output: int, slot: int) -> None:
        """The output as a copy of what the slot shows."""
        v = self.graph.outputs[output]
        root = self._lowering.roots[v]
        known = self._lowering.constants.get(v)
        with Builder() as builder:
            graph = builder.graph("copy", [builder.input(v.type)])
        layout = [self._lowering.layouts[v]] if v in self._lowering.layouts and known is None else None
        kernel = lower_kernel(graph, layout)
        source = self._constant(known) if known is not None else self._slot(self._lowering.slot_of[root])
        self._launch(KernelStep(kernel, (root,), ()), (source, self._place("output", output)), None)

    # -- calls ------------------------------------------------------------------------------------------------------

    def __call__(self, *arrays: Any) -> tuple[Array, ...]:
        inputs = self.graph.inputs
        if len(arrays) != len(inputs):
            raise SignatureError(f"{self.graph.name} takes {len(inputs)} arrays, got {len(arrays)}")
        given = [np.asarray(a) for a in arrays]
        for v, a in zip(inputs, given):
            if a.dtype.newbyteorder("=") != v.dtype or a.shape != v.shape:
                shown = type_of(a) if a.dtype.kind in "biuf" else f"{a.dtype}{list(a.shape)}"
                raise SignatureError(f"{self.graph.name}: input {v.name or '?'} is {v.type}, got {shown}")
        return self.run([np.asarray(a, dtype=v.dtype, order="C") for v, a in zip(inputs, given)], {})

    def run(self, arrays: list[Array], donated: Mapping[int, Array]) -> tuple[Array, ...]:
        """The outputs for row-major arrays of the inputs' types; output j goes into the array donated[j] if there is one."""
        later = [j for j in donated if self.plan.results[j][1]]  # what is copied out must not meet what is still read
        outputs = [donated[j] if j in donated and j not in later else np.empty(v.shape, v.dtype)
                   for j, v in enumerate(self.graph.outputs)]
        arena = np.empty(self.plan.arena_bytes + ALIGNMENT, np.uint8)
        scratch = np.empty(self._scratch_nbytes + ALIGNMENT, np.uint8)
        base = -(-arena.ctypes.data // ALIGNMENT) * ALIGNMENT
        kinds: dict[str, Any] = {"arena": lambda o: base + o, "input": lambda i: arrays[i].ctypes.data,
                                 "output": lambda j: outputs[j].ctypes.data, "constant": lambda c: self._constants[c].ctypes.data}
        table = np.array([kinds[kind](number) for kind, number in self._table], np.int64)
        for launch in self.launches:
            args = np.array(launch.slots, np.int64)
            _FUNCTION(launch.code.address)(table.ctypes.data, args.ctypes.data, 0, launch.code.emitted.units,
                                           -(-scratch.ctypes.data // ALIGNMENT) * ALIGNMENT)
        for j in later:
            np.copyto(donated[j], outputs[j])
        return tuple(donated[j] if j in donated else a for j, a in enumerate(outputs))


import ctypes  # noqa: E402

_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def compile(graph: Graph, donations: Mapping[int, int] | None = None, threads: int | None = None) -> Executable:
    """An executable of the graph. `donations`: output number -> number of the input whose array it may take."""
    return Executable(graph, donations or {}, threads)


__all__ = ["Executable", "Value", "compile", "math"]
