"""Emitter: the one way to make nodes. Op functions emit into the innermost active one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from nagraph.errors import LeakedTracerError, NagraphError, TracerError
from nagraph.ir.constant import Constant
from nagraph.ir.location import Location, caller_location, located
from nagraph.ir.node import Node, Value
from nagraph.ir.op import Op
from nagraph.ir.types import DType, TensorType

if TYPE_CHECKING:
    from nagraph.ir.graph import Graph

LEAKED = ("is used outside the trace that made it; return it from the traced function, "
          "don't keep it in a global, an attribute or a list")

#: Emitters within one another, few enough that Python's own limit of recursion is not met first.
MOST_NESTED = 48


class _Active(threading.local):
    def __init__(self) -> None:
        self.stack: list[Emitter] = []


_active = _Active()


class Emitter:
    """Collects nodes. As a context manager it is where op functions emit."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._location: Location | None = None
        self._fixed = False

    def __enter__(self) -> Self:
        if len(_active.stack) >= MOST_NESTED:
            raise TracerError(f"traces are nested more than {MOST_NESTED} deep: a function that calls itself inside of cond, scan, grad or "
                              "the like; write the recursion as a loop")
        _active.stack.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _active.stack.remove(self)

    def make_value(self, type: TensorType) -> Value:
        return Value(type)

    def accept(self, value: Value) -> Value:
        """The value as this emitter knows it; traces capture or refuse foreign ones."""
        return value

    def accept_all(self, values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(values)

    def emit(self, op: Op, operands: Sequence[Any], types: tuple[TensorType, ...] | None = None,
             numbers: DType | None = None) -> tuple[Value, ...]:
        """Append `op` on `operands` and return its results; a type error names the user's line.

        types: those of the results, if they are known. numbers: the dtype of operands that are Python numbers.
        """
        location = self._location if self._fixed else caller_location()
        try:
            if numbers is not None:
                operands = [o if isinstance(o, Value) else self._number(o, numbers, location) for o in operands]
            values = self.accept_all(operands)
            if types is None:
                types = op.result_types(*[v.type for v in values])
        except NagraphError as error:
            raise located(error, location) from None
        results = (self.make_value(types[0]),) if len(types) == 1 else tuple(map(self.make_value, types))
        self.nodes.append(Node(op, values, results, location))
        return results

    def append(self, node: Node) -> None:
        self.nodes.append(node)

    def constant(self, array: Any) -> Value:
        return self.emit(Constant.of(array), ())[0]

    def number(self, value: bool | int | float, dtype: DType) -> Value:
        """A number as a constant of a dtype."""
        return self.emit(Constant.number(value, dtype), ())[0]

    def _number(self, value: bool | int | float, dtype: DType, location: Location | None) -> Value:
        made = self.make_value(TensorType(dtype, ()))
        self.nodes.append(Node(Constant.number(value, dtype), (), (made,), location))
        return made

    def at(self, location: Location | None) -> _At:
        """A context in which nodes carry `location` rather than the caller's line."""
        return _At(self, location)

    def stay_at(self, location: Location | None) -> None:
        """Nodes carry `location` from now on."""
        self._location, self._fixed = location, True

    def inline(self, graph: Graph, operands: Sequence[Value]) -> list[Value]:
        """Emit the nodes of `graph` on `operands`; the values of its outputs. Nodes without a line of their own get that of `at`."""
        env: dict[Value, Value] = dict(zip(graph.inputs, map(self.accept, operands), strict=True))
        exact = all(v.type == env[v].type for v in graph.inputs)
        for node in graph.nodes:
            inner, location = tuple(env[v] for v in node.operands), node.location or self._location
            if exact:
                copy = Node(node.op, inner, tuple(self.make_value(r.type) for r in node.results), location)
            else:
                copy = Node.create(node.op, inner, location, self.make_value)
            self.nodes.append(copy)
            env.update(zip(node.results, copy.results))
        return [env[v] for v in graph.outputs]


class _At:
    """An emitter's place for the nodes to come; a class, since passes enter one for every node."""

    __slots__ = ("emitter", "location", "before")

    def __init__(self, emitter: Emitter, location: Location | None):
        self.emitter, self.location = emitter, location

    def __enter__(self) -> None:
        self.before = self.emitter._location, self.emitter._fixed
        self.emitter._location, self.emitter._fixed = self.location, True

    def __exit__(self, *exc: object) -> None:
        self.emitter._location, self.emitter._fixed = self.before


def active() -> Emitter | None:
    """The innermost emitter of this thread, or None outside all of them."""
    stack = _active.stack
    return stack[-1] if stack else None


def active_stack() -> tuple[Emitter, ...]:
    """All emitters of this thread, outermost first."""
    return tuple(_active.stack)


def current() -> Emitter:
    """The innermost emitter of this thread; an error outside all of them."""
    stack = _active.stack
    if not stack:
        raise located(LeakedTracerError(f"no graph is being built here, so a traced value {LEAKED}"), caller_location())
    return stack[-1]


def emit(op: Op, *operands: Value) -> tuple[Value, ...]:
    """Emit into the active emitter."""
    return current().emit(op, operands)


def constant(array: Any) -> Value:
    """A constant in the active emitter."""
    return current().constant(array)
