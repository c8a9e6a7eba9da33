"""Coverage: which nodes MLX computes by one call of its own, and which are made of several. docs/mps.md shows it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nagraph.analysis.origin import label_of
from nagraph.backends.mps.arrays import Array, library, mlx_dtype
from nagraph.backends.mps.program import Function, Program
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Node

#: Calls that compute nothing: other views of the same memory, or copies of it, and conversions, which MLX fuses.
FREE = frozenset(("reshape", "transpose", "broadcast_to", "astype", "view", "part", "flip", "as_strided", "contiguous", "depends", "zeros"))


class Coverage(NamedTuple):
    """How many nodes there are, constants apart, and which of their ops take more than a call each."""

    nodes: int
    native: int
    composed: tuple[str, ...]

    @property
    def share(self) -> float:
        """The share of native nodes."""
        return self.native / self.nodes if self.nodes else 1.0


class _Count:
    """What counts the calls of each node that compute something."""

    def __init__(self) -> None:
        self.found: list[tuple[Node, list[str]]] = []
        self._open: list[list[str]] = []

    def begin(self, node: Node) -> None:
        self._open.append([])
        self.found.append((node, self._open[-1]))

    def end(self) -> None:
        self._open.pop()

    def called(self, name: str, args: tuple[Any, ...], options: dict[str, Any], result: Any) -> None:
        if name not in FREE and self._open:
            self._open[-1].append(name)

    def constant(self, array: Array, value: np.ndarray[Any, Any]) -> None:
        pass


def coverage(program: Program) -> Coverage:
    """Of the nodes of a program and its regions, each as often as it is translated, but for constants and what only holds others."""
    count = _Count()
    for p in (program, *program.regions):
        for step in p.steps:
            if isinstance(step, Function):
                step.describe(count, [library().zeros(v.shape, dtype=mlx_dtype(v.dtype)) for v in step.inputs])
    kept = [(node, calls) for node, calls in count.found
            if not isinstance(node.op, Constant) and (calls or not node.op.regions)]
    composed = [label_of(node) for node, calls in kept if len(calls) > 1 and not any(c.startswith("fast.") for c in calls)]
    return Coverage(len(kept), len(kept) - len(composed), tuple(sorted(set(composed))))
