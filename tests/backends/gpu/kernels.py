"""Kernels that tests of GPU text share: each from a function, as a pipeline makes them; and one for every op."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.gpu.emit import DeviceFunction
from nagraph.backends.gpu.on_cpu.kernels import Kernels
from nagraph.backends.gpu.on_cpu.memory import Allocation
from nagraph.ir.graph import Graph
from nagraph.kernel.form import Kernel
from nagraph.kernel.lower import lower
from nagraph.ops.labels import CheckLabels
from nagraph.ops.sorting import Argsort, Sort
from nagraph.pipeline import Pipeline
from tests.ir.corpus import WITH_ATTRIBUTES
from tests.support import graph_of, own_ops

EXPANDED = Pipeline.parse("canonicalize,simplify,fold_constants,cse,dce,expand,canonicalize,simplify,fold_constants,cse,dce")


def graph(fn: Callable[..., Any], *types: Any) -> Graph:
    """The graph of a function, composites expanded. types: shapes of float32, or types."""
    return EXPANDED(ng.trace(fn, *(ng.spec(t, "float32") if isinstance(t, tuple) else t for t in types)))


def kernel(fn: Callable[..., Any], *types: Any) -> Kernel:
    """The one kernel of a function."""
    return lower(graph(fn, *types))


#: For tests that run text on this CPU.
COMPILES = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler")
Array = np.ndarray[Any, Any]
SOFTMAX = functools.partial(kernel, lambda x: ng.nn.functional.softmax(x))


def samples() -> list[tuple[str, Graph, list[np.ndarray]]]:
    """For every op that is a kernel by itself, graphs of that op alone, with operands; their names."""
    ops = [*(cls() for cls in own_ops().values() if not cls._fields()), *WITH_ATTRIBUTES]
    found = []
    for op in ops:
        if not isinstance(op, (Sort, Argsort, CheckLabels)):
            for i, operands in enumerate(op.samples(np.random.default_rng(0))):
                arrays = [np.asarray(o, order="C") for o in operands]
                found.append((f"{op}/{i}", graph_of(op, arrays), arrays))
    return found


def run(kernels: Kernels, function: DeviceFunction, inputs: list[Array], output: Array) -> Array:
    """Run a function on arrays, in guarded memory."""
    memory = [Allocation.of(x) for x in (*inputs, output)]
    if function.scratch_nbytes:
        memory.append(Allocation(function.scratch_nbytes))
    table = Allocation.of(np.array([m.address for m in memory], np.uint64))
    kernels.add(function)
    kernels.launch(function.name, function.grid, function.block, function.shared_nbytes, table.address, range(len(memory)),
                   [m.range for m in (*memory, table)])
    return memory[len(inputs)].array(output.dtype, output.shape).copy()
