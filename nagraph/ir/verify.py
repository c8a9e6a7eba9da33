"""The verifier: what every graph must satisfy, whoever built it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.errors import NagraphError, VerifyError
from nagraph.ir.attributes import fits, hints
from nagraph.ir.constant import Data, is_unchanging
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.nested import nested_dims
from nagraph.ir.op import REGISTRY, Op
from nagraph.ir.size_bounds import bounds
from nagraph.ir.sizes import Size
from nagraph.ir.types import SHORT_NAMES, TensorType

#: Regions in regions: as deep as printing, parsing, derivatives and passes go within Python's stack.
MAX_NESTING = 32


def verify(graph: Graph) -> None:
    """Raises VerifyError, with the offending `node` and the `graph` it is in, unless the graph is well formed, its regions included.

    Each value is made once, before it is read; each node's attributes have the types that its op
    declares; each result has the type that the op infers; each dimension of a size is in the type of an input, and no two have
    one name. Source locations are free. O(nodes).
    """
    _verify(graph, [], {})
    _check_dims(graph)


def _verify(graph: Graph, way: list[Graph], heights: dict[int, int]) -> int:
    """Check a graph and then its regions, each once; how deep they nest. `way` are the graphs that hold this one."""
    if any(graph is g for g in way):
        raise VerifyError(f"graph {graph.name} holds itself as a region")
    if len(way) + heights.get(id(graph), 0) > MAX_NESTING:
        raise VerifyError(f"graph {way[0].name}: regions are nested more than {MAX_NESTING} deep")
    if id(graph) not in heights:
        try:
            holders = _verify_one(graph)
        except VerifyError as error:
            error.graph = graph  # type: ignore[attr-defined]
            raise
        way.append(graph)
        regions = (region for node in holders for region in node.op.regions.values())
        heights[id(graph)] = max((1 + _verify(region, way, heights) for region in regions), default=0)
        way.pop()
    return heights[id(graph)]


def _verify_one(graph: Graph) -> list[Node]:
    """Check one graph; its nodes that hold regions."""
    if not isinstance(graph, Graph) or not isinstance(graph.name, str):
        raise VerifyError(f"a graph has a name, got {getattr(graph, 'name', graph)!r:.60}")
    for part in ("inputs", "nodes", "outputs"):
        if not isinstance(getattr(graph, part), tuple):
            raise VerifyError(f"graph {graph.name}: its {part} are a tuple, got {type(getattr(graph, part)).__name__}")
    known: set[Value] = set()
    for v in graph.inputs:
        _check_value(graph, v, None)
        if v in known:
            raise VerifyError(f"graph {graph.name}: input {v.name or '?'} is there twice")
        known.add(v)
    holders = []
    for i, node in enumerate(graph.nodes):
        what = f"graph {graph.name}, node {i}"
        if not isinstance(node, Node) or not isinstance(node.op, Op) or REGISTRY.get(node.op.name) is not type(node.op):
            raise _error(f"{what}: {getattr(node, 'op', node)!r:.80} is no registered op", node)
        what += f" ({node.op.name})"
        if not isinstance(node.operands, tuple) or not isinstance(node.results, tuple):
            raise _error(f"{what}: its operands and its results are tuples", node)
        for k, v in enumerate(node.operands):
            if not isinstance(v, Value):
                raise _error(f"{what}: operand {k} is a {type(v).__name__}, not a value; constants are nodes of their own", node)
            if v not in known:
                raise _error(f"{what}: operand {k} is read before it is made, or belongs to another graph", node)
        _check_attributes(what, node)
        for r in node.results:
            _check_value(graph, r, node)
            if r in known:
                raise _error(f"{what}: a result is made twice", node)
            known.add(r)
        _check_types(what, node)
        if node.op.regions:
            holders.append(node)
    for j, v in enumerate(graph.outputs):
        if not isinstance(v, Value) or v not in known:
            raise VerifyError(f"graph {graph.name}: output {j} is made by no node")
    return holders


def _check_dims(graph: Graph) -> None:
    found = nested_dims(graph)
    names = {d.name: d for d in found}
    for d in found:
        if names[d.name] is not d and names[d.name] != d:
            raise VerifyError(f"graph {graph.name}: two dimensions are named {d.name}, {d!r} and {names[d.name]!r}")
        if d not in graph.dims:
            raise VerifyError(f"graph {graph.name}: the dimension {d} is in the type of no input, so no call says what it is")


def _error(message: str, node: Any) -> VerifyError:
    error = VerifyError(message)
    error.node = node  # type: ignore[attr-defined]
    return error


def _check_value(graph: Graph, v: Any, node: Node | None) -> None:
    t = getattr(v, "type", None)
    good = (isinstance(v, Value) and isinstance(t, TensorType) and isinstance(t.dtype, np.dtype) and t.dtype in SHORT_NAMES
            and isinstance(t.shape, tuple) and all(_is_size(s) for s in t.shape) and t.possible)
    if not good:
        raise _error(f"graph {graph.name}: {type(v).__name__} {getattr(v, 'name', '')!r:.40} has no type that a graph can hold "
                     f"(a dtype, sizes of at least 0, less than 2^63 bytes): {t!r:.80}", node)
    if not isinstance(v.name, str):
        raise _error(f"graph {graph.name}: a value's name is a string, got {v.name!r:.60}", node)


def _is_size(s: Any) -> bool:
    if type(s) is int:
        return s >= 0
    return isinstance(s, Size) and ((most := bounds(s)[1]) is None or most >= 0)


def _check_attributes(what: str, node: Node) -> None:
    for name, hint in hints(type(node.op)).items():
        value = getattr(node.op, name)
        if not fits(value, hint):
            raise _error(f"{what}: attribute {name} is {value!r:.60}, not {getattr(hint, '__name__', hint)}", node)
        if isinstance(value, Data):
            _check_data(what, node, value.array)


def _check_data(what: str, node: Node, array: Any) -> None:
    if not isinstance(array, np.ndarray) or array.dtype not in SHORT_NAMES:
        got = getattr(array, "dtype", array)
        raise _error(f"{what}: a constant is an array of {', '.join(SHORT_NAMES.values())}, got {got!r:.60}", node)
    if not array.flags.c_contiguous or not is_unchanging(array):
        raise _error(f"{what}: a constant's array is its own, row-major and read-only; make constants of arrays with Constant.of", node)


def _check_types(what: str, node: Node) -> None:
    try:
        inferred = node.op.infer(*(v.type for v in node.operands))
    except NagraphError as error:
        raise _error(f"{what}: {error}", node) from None
    except Exception as error:  # noqa: BLE001 - a type rule met operands or attributes that it can't read
        raise _error(f"{what}: its operands or attributes make no sense ({type(error).__name__}: {error})", node) from None
    expected = inferred if isinstance(inferred, tuple) else (inferred,)
    found = tuple(r.type for r in node.results)
    if found != expected:
        shown = (", ".join(map(str, t)) for t in (expected, found))
        raise _error("{}: the op gives ({}), the results are ({})".format(what, *shown), node)
