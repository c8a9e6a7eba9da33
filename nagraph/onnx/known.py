"""Known values: the numbers that follow from a model alone, which shapes, axes and conditions are made of.

Everything is emitted as nodes first. Whoever needs numbers asks here: the nodes behind a value are computed by their references, if
none of them depends on an input and none is large. What only shapes were made of is dropped from the graph in the end.

Sizes that are known later (`ng.Dim`) stand in arrays of objects: sums, products and floor quotients of them are expressions, and what
moves whole numbers moves them too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.analysis.constants import affordable
from nagraph.ir.constant import Constant
from nagraph.ir.emitter import active_stack
from nagraph.ir.graph import Node, Value
from nagraph.ops.base import Primitive
from nagraph.ops.size_numbers import SizeNumber

#: The most bytes of one value that is computed, and of all of them.
MOST_NBYTES, MOST_TOTAL_NBYTES = 1 << 20, 1 << 25
#: What can be done with sizes that are known later: arithmetic of whole numbers, and movement.
_OF_SIZES = {"add", "subtract", "multiply", "floor_divide", "negative", "cast", "reshape", "broadcast", "transpose", "slice", "concatenate",
             "stack", "gather", "identity"}


class KnownValues:
    """The numbers of values of the traces that are open now."""

    def __init__(self) -> None:
        self._arrays: dict[Value, np.ndarray[Any, Any] | None] = {}
        self._producers: dict[Value, Node] = {}
        #: What stands for a value of an outer trace within an inner one.
        self._outer: dict[Value, Value] = {}
        #: How many nodes and captured values of each trace are listed here.
        self._listed: dict[Any, tuple[int, int]] = {}
        self._nbytes = 0

    def of(self, value: Value) -> np.ndarray[Any, Any] | None:
        """The numbers of a value; None if they depend on an input, or take much to compute."""
        self._list()
        pending = [value]
        while pending:
            v = pending[-1]
            if v in self._arrays:
                pending.pop()
                continue
            needed = self._needed(v)
            missing = [] if needed is None else [o for o in needed if o not in self._arrays]
            if missing:
                pending += missing
                continue
            pending.pop()
            self._arrays.setdefault(v, None)
            if needed is not None:
                self._compute(v, [self._arrays[o] for o in needed])
        return self._arrays[value]

    def depends_on(self, value: Value) -> list[Value]:
        """The values without a node that a value follows from."""
        self._list()
        found, seen, pending = [], {value}, [value]
        while pending:
            v = pending.pop()
            behind = [self._outer[v]] if v in self._outer else list(self._producers[v].operands) if v in self._producers else None
            if behind is None:
                found.append(v)
            for o in behind or ():
                if o not in seen:
                    seen.add(o)
                    pending.append(o)
        return found

    def _list(self) -> None:
        for trace in active_stack():
            nodes, captured = self._listed.get(trace, (0, 0))
            for node in trace.nodes[nodes:]:
                for r in node.results:
                    self._producers[r] = node
            known = list(getattr(trace, "captured", {}).items())
            self._outer.update((inner, outer) for outer, inner in known[captured:])
            self._listed[trace] = len(trace.nodes), len(known)

    def _needed(self, v: Value) -> tuple[Value, ...] | None:
        """What must be known first; None if nothing helps."""
        if v in self._outer:
            return (self._outer[v],)
        node = self._producers.get(v)
        if node is None:
            return None
        op = node.op
        if isinstance(op, Constant):
            return ()
        if (not isinstance(op, Primitive) or op.effect or op.can_fail or op.on_host or op.regions
                or any(r.type.nbytes > MOST_NBYTES for r in node.results) or not affordable(node)):
            return None
        return node.operands

    def _compute(self, v: Value, operands: list[np.ndarray[Any, Any] | None]) -> None:
        """Fill in the value, and the other results of its node."""
        if v in self._outer:
            self._arrays[v] = operands[0]
            return
        node = self._producers[v]
        if isinstance(node.op, Constant):
            self._arrays[v] = node.op.array
            return
        nbytes = sum(r.type.nbytes for r in node.results)
        arrays = [a for a in operands if a is not None]
        if len(arrays) < len(operands) or self._nbytes + nbytes > MOST_TOTAL_NBYTES:
            return
        self._nbytes += nbytes
        found = _evaluated(node.op, arrays)
        if found is None:
            return
        self._arrays.update(zip(node.results, found if isinstance(found, tuple) else (found,)))


def _evaluated(op: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    """What an op computes of known operands; None of sizes that are known later, if it is beyond these."""
    if isinstance(op, SizeNumber) and op.dims:
        return _array(op.size)
    if not any(a.dtype == object for a in arrays):
        return op.evaluate(*arrays)
    if op.name not in _OF_SIZES or op.name == "cast" and op.dtype.kind not in "iu":
        return None
    found = arrays[0] if op.name == "cast" else op.reference(*arrays)
    return found if isinstance(found, np.ndarray) else _array(found)


def _array(size: Any) -> np.ndarray[Any, Any]:
    """An array of rank 0 that holds a size."""
    found = np.empty((), object)
    found[()] = size
    return found
