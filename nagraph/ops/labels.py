"""Class labels that are checked when the graph runs: the one op that can end a call with an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.errors import LabelError, TypeRuleError
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.interpret import interpret
from nagraph.ir.op import Array, Cost, op
from nagraph.ir.types import INTEGERS, TensorType
from nagraph.ops.base import Primitive
from nagraph.ops.comparison import equal


@op
class CheckLabels(Primitive):
    """Class labels as they are, each from 0 to `classes` - 1, or equal to `ignore` if that is not None: y = x.

    Where one is neither, the call that computes y ends with LabelError, and no donated argument has been written.
    Shape: any, kept. Dtype: integer, kept. No derivative. Raises TypeRuleError for other dtypes, and where there are no classes.
    """

    view = True
    host = False
    can_fail = True
    classes: int
    ignore: int | None = None

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype not in INTEGERS:
            raise TypeRuleError(f"labels are class numbers of an integer dtype, got {x}; write labels.astype('int64')")
        if self.classes < 0 or (not self.classes and x.size != 0):
            raise TypeRuleError(f"labels {x} name classes, of which there are {self.classes}")
        return x

    def fine(self, x: Any) -> Any:
        """bool: whether each label is a class, or ignored."""
        limits = np.iinfo(x.dtype)
        fine = x >= 0
        if self.classes <= limits.max:
            fine = fine & (x < self.classes)
        if self.ignore is not None and limits.min <= self.ignore <= limits.max:
            fine = fine | equal(x, self.ignore)
        return fine

    def reference(self, x: Array) -> Array:
        fine = self.fine(x)
        if not fine.all():
            raise self._error(x, fine)
        return x

    def shown(self, x: Array) -> Array:
        return x

    def _error(self, x: Array, fine: Array) -> LabelError:
        at = tuple(map(int, np.unravel_index(np.argmin(fine), fine.shape)))
        place = f" at position {list(at)} of labels {list(x.shape)}" if at else ""
        others = int(fine.size - np.count_nonzero(fine)) - 1
        more = f" ({others} more {'is' if others == 1 else 'are'} as well)" if others else ""
        spared = "and nothing is ignored" if self.ignore is None else f"and not the ignored {self.ignore}"
        return LabelError(f"label {int(x[at])}{place} is none of the {self.classes} classes 0 to {self.classes - 1}, {spared}{more}; "
                          "give the positions that don't count the label ignore_index")

    def vjp(self, cotangents: Any, results: Any, operands: Any) -> tuple[None]:
        return (None,)

    def jvp(self, tangents: Any, results: Any, operands: Any) -> tuple[None]:
        return (None,)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*operands),)

    def cost(self, x: TensorType) -> Cost:
        return Cost(flops=2 * x.size)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.integers(0, self.classes, (2, 3)),)
        yield (np.zeros((0, 2), np.int32),)


def failure(graph: Graph, arrays: Sequence[Array]) -> LabelError:
    """The error with which a call of `graph` on these arrays ended, found with the references: what is needed for its checks is computed.

    Labels that the graph computes of floats can differ from the backend's; then the error can't name the label.
    """
    try:
        interpret(_checks(graph), arrays)
    except LabelError as error:
        return error
    return LabelError(f"a label that {graph.name} computes is none of its classes; computed again, op after op, it is one: "
                      "it follows from numbers that rounding decides")


def _checks(graph: Graph) -> Graph:
    """The nodes that can fail, and what they are computed from."""
    live: set[Value] = set()
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.op.may_end_the_call or any(r in live for r in node.results):
            kept.append(node)
            live.update(node.operands)
    return Graph(graph.name, graph.inputs, kept[::-1], ())
