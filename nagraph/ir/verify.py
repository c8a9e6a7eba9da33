"""The verifier: what every graph must satisfy, whoever built it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.errors import NagraphError, VerifyError
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.op import REGISTRY, Op
from nagraph.ir.parser import fits, hints
from nagraph.ir.types import SHORT_NAMES, TensorType


def verify(graph: Graph) -> None:
    """Raises VerifyError, with the offending `node`, unless the graph is well formed, its regions included.

    Each value is made once, before it is read; each node's attributes have the types that its op
    declares; each result has the type that the op infers. Source locations are free. O(nodes).
    """
    _verify(graph, {})


def _verify(graph: Graph, done: dict[int, Graph]) -> None:
    stack: list[tuple[Graph, int]] = [(graph, 0)]
    while stack:
        current, depth = stack.pop()
        if id(current) in done:
            continue
        done[id(current)] = current
        if depth > 200:
            raise VerifyError(f"graph {graph.name}: regions are nested more than 200 deep")
        for node in _verify_one(current):
            stack += [(region, depth + 1) for region in node.op.regions.values()]


def _verify_one(graph: Graph) -> list[Node]:
    """Check one graph; its nodes that hold regions."""
    if not isinstance(graph, Graph) or not isinstance(graph.name, str):
        raise VerifyError(f"a graph has a name, got {getattr(graph, 'name', graph)!r}")
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
        for k, v in enumerate(node.operands):
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
        if v not in known:
            raise VerifyError(f"graph {graph.name}: output {j} is made by no node")
    return holders


def _error(message: str, node: Any) -> VerifyError:
    error = VerifyError(message)
    error.node = node  # type: ignore[attr-defined]
    return error


def _check_value(graph: Graph, v: Any, node: Node | None) -> None:
    t = getattr(v, "type", None)
    good = (isinstance(v, Value) and isinstance(t, TensorType) and isinstance(t.dtype, np.dtype) and t.dtype in SHORT_NAMES
            and isinstance(t.shape, tuple) and all(type(s) is int and s >= 0 for s in t.shape))
    if not good:
        raise _error(f"graph {graph.name}: {v!r:.60} has no type that a graph can hold (a dtype, sizes of at least 0)", node)


def _check_attributes(what: str, node: Node) -> None:
    for name, hint in hints(type(node.op)).items():
        value = getattr(node.op, name)
        if not fits(value, hint):
            raise _error(f"{what}: attribute {name} is {value!r:.60}, not {getattr(hint, '__name__', hint)}", node)


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
