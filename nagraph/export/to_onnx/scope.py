"""Scopes: where nodes of ONNX are written. Translations get one as `w`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nagraph.errors import SizeError
from nagraph.export.parts import as_whole
from nagraph.export.to_onnx import registry
from nagraph.export.to_onnx.registry import Untranslatable
from nagraph.export.to_onnx.sizes import Sizes
from nagraph.ir.constant import Constant, Data
from nagraph.ir.graph import Graph
from nagraph.ir.node import Node, Value
from nagraph.ir.sizes import Size, dims
from nagraph.ir.types import DType, TensorType, is_float
from nagraph.onnx.dtypes import NUMBER_OF
from nagraph.regions.calls import Call

#: The domain of the functions that a model brings along.
DOMAIN = "nagraph"


class Operand(str):
    """The name of a value in ONNX, with the type that it has in the graph."""

    type: TensorType

    def __new__(cls, name: str, type: TensorType) -> Operand:
        made = super().__new__(cls, name)
        made.type = type
        return made

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def rank(self) -> int:
        return len(self.type.shape)


class Common:
    """What all scopes of one model share: the opset, the functions, and what can't be translated."""

    def __init__(self, opset: int, refusals: Any):
        self.opset, self.refusals = opset, refusals
        #: FunctionProtos by what they are made of, in an order in which none calls a later one.
        self.functions: dict[tuple[str, Any], Any] = {}
        self._taken: set[str] = set()

    def function(self, label: str, key: Any, inputs: Sequence[tuple[str, TensorType]],
                 write: Callable[[Scope, list[Operand]], Sequence[str]]) -> str:
        """The name of a function of the model, by what `write` writes for these inputs. Those of one label and key are one function."""
        from onnx import helper

        if (label, key) not in self.functions:
            w = Scope(self, name_constants=False)
            operands = [Operand(w.fresh(name or "x"), type) for name, type in inputs]
            w.sizes = Sizes(w, [(x, x.shape) for x in operands])
            outputs = w.distinct(write(w, operands), operands)
            plain = "".join(c if c.isalnum() else "_" for c in label)
            name = next(n for n in (plain, *(f"{plain}_{i}" for i in range(2, len(self._taken) + 3))) if n not in self._taken)
            self._taken.add(name)
            self.functions[label, key] = helper.make_function(DOMAIN, name, operands, outputs, live(w.nodes, outputs), self.imports())
        return str(self.functions[label, key].name)

    def function_of(self, label: str, graph: Graph) -> str:
        """The name of the function that a graph is."""
        return self.function(label, graph, [(v.name, v.type) for v in graph.inputs], lambda w, inputs: w.write(graph, inputs))

    def imports(self) -> list[Any]:
        from onnx import helper

        return [helper.make_opsetid("", self.opset), helper.make_opsetid(DOMAIN, 1)]


class Scope:
    """The nodes of a graph, of a function, or of a graph within one of these (`inner`), which sees the values around it."""

    sizes: Sizes

    def __init__(self, common: Common, outer: Scope | None = None, name_constants: bool = True):
        self.common, self.outer = common, outer
        self.root: Scope = outer.root if outer else self
        self.nodes: list[Any] = []
        #: The types of the values that graphs have.
        self.types: dict[str, TensorType] = {}
        #: Constants by name, for graphs; functions hold them in nodes.
        self.initializers: dict[str, np.ndarray[Any, Any]] = {}
        self._name_constants = name_constants
        self._constants: dict[Data, str] = {}
        self._known: dict[str, np.ndarray[Any, Any]] = {}
        self._made: dict[str, Any] = {}
        self._names: set[str] = set()
        self._hint, self._note = "", ""
        #: The graph that is being written, and what is written of it once for several nodes.
        self.source: Graph | None = None
        self.shared: dict[Any, Any] = {}

    @property
    def opset(self) -> int:
        return self.common.opset

    # -- nodes of ONNX ------------------------------------------------------------------------------------

    def emit(self, operator: str, *inputs: Any, results: int = 1, domain: str = "", **attributes: Any) -> Any:
        """Write a node; the name of its result, or a tuple of `results` names.

        inputs: names, arrays (constants), or None where the operator's input is left out. attributes: None where it is left out;
        a dtype stands for its number.
        """
        from onnx import helper

        given = [self.constant(x) if isinstance(x, np.ndarray) else "" if x is None else str(x) for x in inputs]
        while given and not given[-1]:
            given.pop()
        named = [self.fresh(self._hint or operator.lower()) for _ in range(results)]
        found = {k: NUMBER_OF[v] if isinstance(v, np.dtype) else v for k, v in attributes.items() if v is not None}
        self.nodes.append(helper.make_node(operator, given, named, name=named[0], domain=domain, doc_string=self._note or None, **found))
        self._made.update(dict.fromkeys(named, self.nodes[-1]))
        return named[0] if results == 1 else tuple(named)

    def cast(self, x: str, dtype: DType) -> str:
        """x in a dtype."""
        return str(self.emit("Cast", x, to=dtype))

    def constant(self, array: Any) -> str:
        """The name of a constant; equal ones are one."""
        root, data = self.root, array if isinstance(array, Data) else Data(array)
        if data not in root._constants:
            name = root._constants[data] = root.fresh("const")
            root._known[name] = data.array
            if root._name_constants:
                root.initializers[name] = data.array
            else:
                from onnx import helper, numpy_helper

                root.nodes.insert(0, helper.make_node("Constant", [], [name], name=name, value=numpy_helper.from_array(data.array)))
        return root._constants[data]

    def known(self, x: str) -> np.ndarray[Any, Any] | None:
        """The array of a constant; None for every other value."""
        return self.root._known.get(str(x))

    def made_by(self, x: str) -> Any:
        """The node of this scope that gives a value; None where there is none."""
        return self._made.get(str(x))

    def operand(self, name: str, type: TensorType) -> Operand:
        """A result of `emit` with its type, for translations that ask for it."""
        return Operand(name, type)

    def _empty(self, type: TensorType) -> str:
        """What has no elements."""
        if not type.symbolic:
            return self.constant(np.empty(type.shape, type.dtype))
        return self.cast(self.emit("Expand", np.zeros((), np.float32), self.shape(type.shape)), type.dtype)

    def size(self, size: Any) -> Any:
        """A size as int64[1]: an array if it is known, else the name of a value."""
        return self.root.sizes.of(size)

    def shape(self, shape: Sequence[Any]) -> Any:
        """A shape as int64[rank]: an array if all sizes are known, else the name of a value."""
        if not any(isinstance(n, Size) for n in shape):
            return np.array(shape, np.int64)
        parts: list[Any] = []
        for n in shape:
            if not isinstance(n, Size) and parts and isinstance(parts[-1], np.ndarray):
                parts[-1] = np.append(parts[-1], np.int64(n))
            else:
                parts.append(self.size(n))
        return parts[0] if len(parts) == 1 else self.emit("Concat", *parts, axis=0)

    def fresh(self, hint: str) -> str:
        """A name that nothing in the model, or in the function, has."""
        names = self.root._names
        number = len(names)
        while (name := f"{hint}_{number}") in names:
            number += 1
        names.add(name)
        return name

    def take(self, name: str) -> str:
        """A name that is given, which nothing else will get."""
        self.root._names.add(name)
        return name

    def call(self, label: str, operands: Sequence[Operand], write: Callable[[Scope, list[Operand]], str]) -> str:
        """A function of one result, for computing element by element: one for these operands' dtypes, whatever their shapes."""
        key = tuple(x.dtype for x in operands)
        name = self.common.function(label, key, [("x", x.type) for x in operands], lambda w, inputs: [write(w, inputs)])
        return str(self.emit(name, *operands, domain=DOMAIN))

    # -- graphs within graphs -----------------------------------------------------------------------------

    def inner(self) -> Scope:
        """A scope for a region of a node. Its values may be read in it, not outside."""
        return Scope(self.common, self)

    def input(self, type: TensorType, hint: str = "x") -> Operand:
        """A new name for an input of a region."""
        return Operand(self.fresh(hint), type)

    def graph(self, name: str, inputs: Iterable[Operand], outputs: Iterable[Operand]) -> Any:
        """The GraphProto of what was written. Outputs are distinct values of its own."""
        from onnx import helper

        inputs, outputs = list(inputs), list(outputs)
        own = {n for node in self.nodes for n in node.output}
        named = self.distinct(outputs, [x for x in outputs if x not in own])
        return helper.make_graph(live(self.nodes, named), name, [value_info(x, x.type) for x in inputs],
                                 [value_info(n, x.type) for n, x in zip(named, outputs)])

    def distinct(self, outputs: Sequence[str], foreign: Iterable[str]) -> list[str]:
        """Names for outputs, none of them twice, and none of those that are foreign."""
        seen = set(map(str, foreign))
        found: list[str] = []
        for x in outputs:
            name = str(self.emit("Identity", x)) if x in seen else str(x)
            seen.add(name)
            found.append(name)
        return found

    # -- graphs of ours -----------------------------------------------------------------------------------

    def write(self, graph: Graph, inputs: Sequence[str]) -> list[Operand]:
        """Write the nodes of a graph whose inputs have these names; the names of its outputs."""
        names: dict[Value, Operand] = {v: Operand(n, v.type) for v, n in zip(graph.inputs, inputs, strict=True)}
        before = self._hint, self._note, self.source
        self.source = graph
        for node in graph.nodes:
            if isinstance(node.op, Constant):
                names[node.result] = Operand(self.constant(node.op.value), node.result.type)
                continue
            if all(0 in v.shape for v in node.results) and not (node.op.has_effect or node.op.may_end_the_call):
                names.update((v, Operand(self._empty(v.type), v.type)) for v in node.results)
                continue
            self._hint = node.op.label if isinstance(node.op, Call) else node.op.name
            if node.location is not None:
                self._note = str(node.location)
            for v, name in zip(node.results, self._results(node, [names[v] for v in node.operands]), strict=True):
                names[v] = Operand(name, v.type)
                self.types[str(name)] = v.type
        self._hint, self._note, self.source = before
        return [names[v] for v in graph.outputs]

    def _results(self, node: Node, operands: list[Operand]) -> Sequence[str]:
        try:
            found = self._called(node, operands) if isinstance(node.op, Call) else self._translated(node, operands)
        except (Untranslatable, SizeError) as why:  # what wants a number where a size is known later is told with its line
            self.common.refusals.add(node, str(why))
            found = None
        if found is None:  # so that what follows is looked at as well
            return [self.fresh("missing") for _ in node.results]
        return [found] if isinstance(found, str) else found

    def _translated(self, node: Node, operands: list[Operand]) -> Any:
        found = registry.of_op(node.op, self.opset)
        if found is None:
            raise Untranslatable(f"no operator of ONNX at opset {self.opset} means {node.op.name}")
        return found.write(self, node, *operands)

    def _called(self, node: Node, operands: list[Operand]) -> Any:
        """A composite: an operator that means the same, or a function of the model. What fusion made is opened."""
        assert isinstance(node.op, Call)
        if node.op.fused:
            return self.write(node.op.body, operands)
        op = as_whole(node.op)
        floats = {v.dtype for v in (*node.operands, *node.results) if is_float(v.dtype)}
        # Operators have one floating dtype; of several, the body says which is promoted when.
        translations = registry.of_composite(op.label, self.opset) if len(floats) < 2 else ()

        def written(w: Scope, given: Sequence[Operand], function: bool) -> Any:
            """What the newest translation that means the same wrote; None if none does."""
            for translation in translations:
                if translation.function is function:
                    arguments, static = translation.arguments(op, given)
                    with contextlib.suppress(Untranslatable):  # its operator is not computed in this dtype
                        found = translation.write(w, node, *arguments, **static)
                        if found is not None:
                            return [found] if isinstance(found, str) else found
            return None

        def in_function(w: Scope, given: list[Operand]) -> Sequence[str]:
            return written(w, given, True) or w.write(op.body, given)

        found = written(self, operands, False)
        if found is not None:
            return found
        free = {d for n in op.body.nodes for d in n.op.dims} - set(dims([v.shape for v in op.body.inputs]))
        if free:  # a function sees no sizes but those of its operands
            return in_function(self, operands)
        inputs = [(v.name, v.type) for v in op.body.inputs]
        return self.emit(self.common.function(op.label, op.body, inputs, in_function), *operands, results=len(node.results), domain=DOMAIN)


def live(nodes: Sequence[Any], outputs: Iterable[str]) -> list[Any]:
    """The nodes that outputs follow from."""
    wanted, found = set(map(str, outputs)), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(read_by(node))
            found.append(node)
    return found[::-1]


def read_by(node: Any) -> Iterator[str]:
    """The names that a node reads, and those that its graphs read."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inside in attribute.g.node:
                yield from read_by(inside)


def value_info(name: str, type: TensorType) -> Any:
    """The ValueInfoProto of a value; sizes that are known later are dim_params."""
    from onnx import helper

    return helper.make_tensor_value_info(str(name), NUMBER_OF[type.dtype], [str(n) if isinstance(n, Size) else n for n in type.shape])
