"""A graph as a list of bound NumPy calls over numbered slots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph.errors import SignatureError
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.types import type_of
from nagraph.ops.base import NARROW_FLOATS, Primitive

#: The call, the slots it reads, the slots it writes, the slots that die with it.
Step = tuple[Callable[..., Any], tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class Executable:
    """exe(*arrays) -> tuple of fresh arrays: never aliases of arguments or of one another."""

    def __init__(self, graph: Graph):
        self.graph = graph
        slot: dict[Value, int] = {v: i for i, v in enumerate(graph.inputs)}
        last: dict[Value, int] = {}
        for i, node in enumerate(graph.nodes):
            for r in node.results:
                slot[r] = len(slot)
            for v in (*node.operands, *node.results):
                last[v] = i
        kept = set(graph.outputs)
        self._steps: list[Step] = []
        self._constants: list[tuple[int, Any]] = []
        for i, node in enumerate(graph.nodes):
            if isinstance(node.op, Constant):
                self._constants.append((slot[node.result], node.op.array))
                continue
            dying = {slot[v] for v in (*node.operands, *node.results) if last[v] == i and v not in kept}
            self._steps.append((_function(node), tuple(slot[v] for v in node.operands),
                                tuple(slot[v] for v in node.results), tuple(dying)))
        self._slots = len(slot)
        self._outputs = [slot[v] for v in graph.outputs]

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        inputs = self.graph.inputs
        if len(arrays) != len(inputs):
            raise SignatureError(f"{self.graph.name} takes {len(inputs)} arrays, got {len(arrays)}")
        given = [np.asarray(a) for a in arrays]
        for v, a in zip(inputs, given):
            if a.dtype != v.dtype or a.shape != v.shape:
                raise SignatureError(f"{self.graph.name}: input {v.name or '?'} is {v.type}, got {type_of(a)}")
        env: list[Any] = [*given, *[None] * (self._slots - len(given))]
        for i, array in self._constants:
            env[i] = array
        with np.errstate(all="ignore"):
            for function, reads, writes, dying in self._steps:
                results = function(*[env[i] for i in reads])
                if len(writes) == 1:
                    env[writes[0]] = results
                else:
                    for i, r in zip(writes, results):
                        env[i] = r
                for i in dying:
                    env[i] = None
        seen: set[int] = set()
        out = []
        for i in self._outputs:
            array = env[i]
            owned = array.flags.owndata and array.flags.writeable and i >= len(inputs) and i not in seen
            seen.add(i)
            out.append(array if owned and not _is_constant(i, self._constants) else np.array(array, order="C"))
        return tuple(out)


def _is_constant(slot: int, constants: list[tuple[int, Any]]) -> bool:
    return any(slot == i for i, _ in constants)


def _function(node: Node) -> Callable[..., Any]:
    """The node as a function of arrays that gives arrays of exactly its result types."""
    op = node.op
    narrow = any(v.dtype in NARROW_FLOATS for v in (*node.operands, *node.results))
    if narrow and isinstance(op, Primitive):
        return _tupled(op.evaluate, len(node.results))
    reference = op.reference
    if op.regions:
        return _tupled(reference, len(node.results))
    if len(node.results) == 1:
        dtype = node.result.dtype
        return lambda *xs: np.asarray(reference(*xs), dtype=dtype)
    dtypes = [r.dtype for r in node.results]
    return lambda *xs: tuple(np.asarray(r, dtype=d) for r, d in zip(reference(*xs), dtypes, strict=True))


def _tupled(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """A function of one result gives the array itself, whether or not the op wraps it in a tuple."""

    def call(*arrays: Any) -> Any:
        found = function(*arrays)
        return found[0] if count == 1 and isinstance(found, tuple) else found

    return call


def compile(graph: Graph) -> Executable:
    """An executable of the graph."""
    return Executable(graph)
