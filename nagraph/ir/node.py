"""Values and nodes: what graphs are made of."""

from __future__ import annotations

from collections.abc import Callable

from nagraph.ir.location import Location
from nagraph.ir.op import Op
from nagraph.ir.operators import Operators
from nagraph.ir.types import DType, TensorType


class Value(Operators):
    """One tensor of a graph: its type, and a name that the printer prefers for inputs."""

    __slots__ = ("type", "name", "__weakref__")

    #: Whether the value stands for a Python scalar, which takes the dtype of what it meets (tracers only).
    weak = False

    def __init__(self, type: TensorType, name: str = ""):
        self.type = type
        self.name = name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    @property
    def size(self) -> int:
        return self.type.size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or hex(id(self))}: {self.type}>"


class Node:
    """An op applied to operands, giving results; `location` is the user's line and no part of equality."""

    __slots__ = ("op", "operands", "results", "location")

    def __init__(self, op: Op, operands: tuple[Value, ...], results: tuple[Value, ...], location: Location | None = None):
        self.op = op
        self.operands = operands
        self.results = results
        self.location = location

    @classmethod
    def create(cls, op: Op, operands: tuple[Value, ...], location: Location | None = None,
               value_class: Callable[[TensorType], Value] = Value) -> Node:
        """A node whose result types follow from the op's type rule."""
        types = op.result_types(*(v.type for v in operands))
        return cls(op, operands, tuple(map(value_class, types)), location)

    @property
    def result(self) -> Value:
        """The single result."""
        if len(self.results) != 1:
            raise ValueError(f"{self.op.name} has {len(self.results)} results")
        return self.results[0]

    def with_operands(self, operands: tuple[Value, ...]) -> Node:
        """The same op on other operands: itself if nothing changed; new results only if a type changed."""
        if len(operands) == len(self.operands) and all(a is b for a, b in zip(operands, self.operands)):
            return self
        if all(a.type == b.type for a, b in zip(operands, self.operands)) and len(operands) == len(self.operands):
            return Node(self.op, operands, self.results, self.location)
        return Node.create(self.op, operands, self.location)

    def with_op(self, op: Op) -> Node:
        """The same operands and results under another op of the same type rule."""
        return self if op is self.op else Node(op, self.operands, self.results, self.location)

    def __repr__(self) -> str:
        return f"<Node {self.op.name} -> {', '.join(str(r.type) for r in self.results)}>"
