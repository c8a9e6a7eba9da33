"""Graph: pure, typed, immutable SSA over tensors.

A Value is made once, by a graph's input or by one node; equality of values is identity. A graph
never changes: a pass makes a new one, which shares all nodes and values that it kept.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from nagraph import choices
from nagraph.errors import NagraphError
from nagraph.ir.cached import cached_property
from nagraph.ir.emitter import Emitter
from nagraph.ir.location import located
from nagraph.ir.node import Node as Node
from nagraph.ir.node import Value as Value
from nagraph.ir.op import GraphAttribute, Op
from nagraph.ir.size_binding import chosen
from nagraph.ir.sizes import Dim, dims, substituted
from nagraph.ir.types import TensorType

P = ParamSpec("P")
T = TypeVar("T")


#: What a visitor of `Graph.rebuild` answers: a node (this one, or an earlier one), its replacement values, or None.
Visit = Callable[[Node], "Node | Sequence[Value] | Value | None"]


class Graph(GraphAttribute):
    """Inputs, nodes in a deterministic topological order, outputs. Its `str` is its text, which `nagraph.ir.printer` writes."""

    def __init__(self, name: str, inputs: Sequence[Value], nodes: Sequence[Node], outputs: Sequence[Value]):
        self.name = name
        self.inputs = tuple(inputs)
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)

    @property
    def input_types(self) -> tuple[TensorType, ...]:
        return tuple(v.type for v in self.inputs)

    @cached_property
    def dims(self) -> tuple[Dim, ...]:
        """The dimensions of sizes that are known later, in the order in which the inputs' types name them; none if all are known."""
        return dims([t.shape for t in self.input_types if t.symbolic])

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
    def holds_regions(self) -> bool:
        """Whether a node has an op that holds graphs."""
        return any(node.op.regions for node in self.nodes)

    @cached_property
    def output_values(self) -> frozenset[Value]:
        """The values that are outputs, to be asked for many: a graph may have thousands."""
        return frozenset(self.outputs)

    @cached_property
    def may_end_the_call(self) -> bool:
        """Whether a node can end the call with an error."""
        return any(node.op.may_end_the_call for node in self.nodes)

    @cached_property
    def may_raise(self) -> bool:
        """Whether computing a node can raise an error."""
        return any(node.op.may_raise for node in self.nodes)

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

    def specialise(self, sizes: Mapping[str, int]) -> Graph:
        """The graph of given sizes: `graph.specialise({"batch": 8})`, dimensions by name; those that are not named stay.

        Node by node what a trace of these sizes records: sizes as numbers become constants. SizeError for a name that is none of `dims`,
        a size beyond the bounds, or an exact quotient that is no whole number, with the line of the node. O(nodes).
        """
        given = chosen(self.dims, sizes)
        return _specialised(self, given, {}) if given else self

    def rebuild(self, visit: Visit) -> Graph:
        """The graph with each node replaced by what `visit` answers for it.

        `visit` gets each node in order, its operands already replaced, and answers with a node
        (the given one, or one answered before: its results take the place of this node's), with
        replacement values, or with None to keep the node. Op functions that `visit` calls emit
        their nodes before the visited one.
        """
        replaced: dict[Value, Value] = {}
        changed = False
        with Emitter() as emitter:
            placed: set[int] = set()
            for old in self.nodes:
                node = old
                if replaced:
                    operands = tuple(replaced.get(v, v) for v in old.operands)
                    node = old.with_operands(operands)
                emitter.stay_at(old.location)
                try:
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
                        emitter.append(answer)
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
        return Graph(self.name, self.inputs, emitter.nodes, [replaced.get(v, v) for v in self.outputs])

    def map_regions(self, change: Callable[[Graph], Graph], skip: Callable[[Op], bool] = lambda op: False) -> Graph:
        """The graph with `change` applied to the regions of its nodes (each distinct region once), but of ops to `skip`."""
        if not self.holds_regions:
            return self
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

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.inputs)} inputs, {len(self.nodes)} nodes, {len(self.outputs)} outputs>"


def _specialised(graph: Graph, given: Mapping[Dim, int], done: dict[int, Graph]) -> Graph:
    """The graph with sizes in the place of dimensions. done: what became of regions so far, by their identity."""
    if id(graph) in done:
        return done[id(graph)]

    def replaced(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(replaced, value))
        if isinstance(value, TensorType):
            return value.with_shape(replaced(value.shape)) if value.symbolic else value
        return _specialised(value, given, done) if isinstance(value, Graph) else substituted(value, given)

    def settled(v: Value) -> Value:
        made = values[v] = Value(replaced(v.type), v.name)
        return made

    values: dict[Value, Value] = {}
    inputs = [settled(v) for v in graph.inputs]
    nodes: list[Node] = []
    for node in graph.nodes:
        op, operands = node.op, tuple([values[v] for v in node.operands])
        try:
            if op.dims or op.regions:
                changes = {name: new for name, old in op.attributes().items() if (new := replaced(old)) is not old}
                op = op.with_attributes(**changes).when_known() if changes else op
            made = Node.create(op, operands, node.location)
        except NagraphError as error:
            raise located(error, node.location) from None
        values.update(zip(node.results, made.results, strict=True))
        nodes.append(made)
    found = done[id(graph)] = Graph(graph.name, inputs, nodes, [values[v] for v in graph.outputs])
    return found


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
    """An object that all graphs of one structure have in common."""

    __slots__ = ("__weakref__",)


_TOKENS: weakref.WeakValueDictionary[tuple[Any, ...], _Token] = weakref.WeakValueDictionary()


def kept(make: Callable[Concatenate[Graph, P], T]) -> Callable[Concatenate[Graph, P], T]:
    """The same function of a graph, whose results are kept with the graph: so a transform of a region that many nodes hold is made once.

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
