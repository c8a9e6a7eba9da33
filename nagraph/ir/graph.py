"""Graph: pure, typed, immutable SSA over tensors.

A Value is made once, by a graph's input or by one node; equality of values is identity. A graph
never changes: a pass makes a new one, which shares all nodes and values that it kept.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from nagraph import choices
from nagraph.ir.cached import cached_property
from nagraph.ir.location import Location
from nagraph.ir.op import Op
from nagraph.ir.operators import Operators
from nagraph.ir.types import DType, TensorType

P = ParamSpec("P")
T = TypeVar("T")


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


#: What a visitor of `Graph.rebuild` answers: a node (this one, or an earlier one), its replacement values, or None.
Visit = Callable[[Node], "Node | Sequence[Value] | Value | None"]


class Graph:
    """Inputs, nodes in a deterministic topological order, outputs."""

    def __init__(self, name: str, inputs: Sequence[Value], nodes: Sequence[Node], outputs: Sequence[Value]):
        self.name = name
        self.inputs = tuple(inputs)
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)

    @property
    def input_types(self) -> tuple[TensorType, ...]:
        return tuple(v.type for v in self.inputs)

    @property
    def output_types(self) -> tuple[TensorType, ...]:
        return tuple(v.type for v in self.outputs)

    # -- analyses, computed when asked for and kept: the graph never changes ------------------

    @cached_property
    def producers(self) -> dict[Value, Node]:
        """The node that makes each value; inputs have none."""
        return {r: node for node in self.nodes for r in node.results}

    @cached_property
    def uses(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, once for every operand place."""
        uses: dict[Value, list[Node]] = {v: [] for v in self.inputs}
        for node in self.nodes:
            for r in node.results:
                uses[r] = []
            for v in node.operands:
                uses[v].append(node)
        return uses

    @cached_property
    def may_end_the_call(self) -> bool:
        """Whether a node can end the call with an error."""
        return any(node.op.may_end_the_call for node in self.nodes)

    @cached_property
    def structure(self) -> tuple[Any, ...]:
        """A hashable that is equal for graphs equal up to names of values and source locations."""
        return self.name, structure_of(self.inputs, self.nodes, self.outputs)

    @cached_property
    def _hash(self) -> int:
        return hash(self.structure)

    @cached_property
    def _token(self) -> _Token:
        """One object for all graphs of equal structure, so that regions are compared once, however often graphs hold them."""
        return _TOKENS.setdefault(self.structure, _Token())

    @cached_property
    def total_nodes(self) -> int:
        """Its nodes and those of regions, these as often as they are held."""
        return len(self.nodes) + sum(g.total_nodes for node in self.nodes for g in node.op.regions.values())

    @cached_property
    def derived(self) -> dict[Any, Any]:
        """What was made of the graph, by what made it: see `kept`."""
        return {}

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Graph):
            return self is other
        if self._token is other._token:
            return True
        return self._hash == other._hash and self.structure == other.structure  # two threads may have made a token each

    def __hash__(self) -> int:
        return self._hash

    # -- making other graphs ------------------------------------------------------------------

    def rebuild(self, visit: Visit) -> Graph:
        """The graph with each node replaced by what `visit` answers for it.

        `visit` gets each node in order, its operands already replaced, and answers with a node
        (the given one, or one answered before: its results take the place of this node's), with
        replacement values, or with None to keep the node. Op functions that `visit` calls emit
        their nodes before the visited one.
        """
        from nagraph.ir.builder import Builder

        replaced: dict[Value, Value] = {}
        changed = False
        with Builder() as builder:
            placed: set[int] = set()
            for old in self.nodes:
                node = old
                if replaced:
                    operands = tuple(replaced.get(v, v) for v in old.operands)
                    node = old.with_operands(operands)
                try:
                    with builder.at(old.location):
                        answer = visit(node)
                except Exception as error:
                    if not hasattr(error, "node"):  # so that whoever reports it can show the place
                        error.node, error.graph = old, self  # type: ignore[attr-defined]
                    raise
                if answer is None:
                    answer = node
                if isinstance(answer, Node):
                    if id(answer) not in placed:
                        placed.add(id(answer))
                        builder.append(answer)
                    results: Sequence[Value] = answer.results
                    changed |= answer is not old
                else:
                    results = (answer,) if isinstance(answer, Value) else answer
                    changed = True
                if results is not old.results:
                    for a, b in zip(old.results, results, strict=True):
                        if a is not b:
                            replaced[a] = b
        if not changed:
            return self
        return Graph(self.name, self.inputs, builder.nodes, [replaced.get(v, v) for v in self.outputs])

    def map_regions(self, change: Callable[[Graph], Graph], skip: Callable[[Op], bool] = lambda op: False) -> Graph:
        """The graph with `change` applied to the regions of its nodes (each distinct region once), but of ops to `skip`."""
        done: dict[int, Graph] = {}

        def visit(node: Node) -> Node:
            regions = node.op.regions
            if not regions or skip(node.op):
                return node
            for region in regions.values():
                if id(region) not in done:
                    done[id(region)] = change(region)
            changes = {k: done[id(r)] for k, r in regions.items() if done[id(r)] is not r}
            return node.with_op(node.op.with_attributes(**changes)) if changes else node

        return self.rebuild(visit)

    def with_nodes(self, nodes: Sequence[Node]) -> Graph:
        return Graph(self.name, self.inputs, nodes, self.outputs)

    def with_name(self, name: str) -> Graph:
        return Graph(name, self.inputs, self.nodes, self.outputs)

    def __str__(self) -> str:
        from nagraph.ir.printer import format_graph

        return str(format_graph(self))

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.inputs)} inputs, {len(self.nodes)} nodes, {len(self.outputs)} outputs>"


def structure_of(inputs: Sequence[Value], nodes: Sequence[Node], outputs: Sequence[Value]) -> tuple[Any, ...]:
    """The structure of a graph of these, but for its name."""
    number: dict[Value, int] = {v: i for i, v in enumerate(inputs)}
    numbered = number.__getitem__
    rows: list[Any] = []
    for node in nodes:
        rows += (node.op.key(), tuple(map(numbered, node.operands)))
        for r in node.results:
            rows.append(r.type)
            number[r] = len(number)
    return tuple([v.type for v in inputs]), tuple(rows), tuple(map(numbered, outputs))


class _Token:
    """Stands for a structure."""

    __slots__ = ("__weakref__",)


_TOKENS: weakref.WeakValueDictionary[tuple[Any, ...], _Token] = weakref.WeakValueDictionary()


def kept(make: Callable[Concatenate[Graph, P], T]) -> Callable[Concatenate[Graph, P], T]:
    """A function of a graph whose result is kept with it: what transforms make of a region that graphs hold often is made once.

    Its other arguments are hashable, or sequences of what is. Choices count as one of them.
    """

    @wraps(make)
    def made(graph: Graph, *args: P.args, **kwargs: P.kwargs) -> T:
        given = (tuple(a) if isinstance(a, (list, range)) else a for a in (*args, *kwargs.values()))
        key = (make, *given, *kwargs, choices.current())
        if key not in graph.derived:
            graph.derived[key] = make(graph, *args, **kwargs)
        return graph.derived[key]  # type: ignore[no-any-return]

    return made  # type: ignore[return-value]
