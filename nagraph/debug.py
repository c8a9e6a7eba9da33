"""Looking into running graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph import arrays as kinds
from nagraph import tree
from nagraph.errors import SignatureError
from nagraph.ir.builder import active, current
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.interpret import interpret
from nagraph.ir.location import Location
from nagraph.ops.identities import DebugPrint
from nagraph.regions.calls import Call
from nagraph.tracing.tracer import trace

_NOTHING = object()


def print(text: str, x: Any = _NOTHING) -> Any:  # noqa: A001 - the contract's name
    """Print x, in place of {} in the text, each time the graph runs; returns x.

    The node is kept and keeps its order, whether or not the result is used. SignatureError without a text or without a value: a line is
    printed when its value is known.
    """
    if x is _NOTHING or not isinstance(text, str):
        given = f"{text!r:.60}" if x is _NOTHING else f"{text!r:.60} and a value"
        raise SignatureError("debug.print takes a text and the value for its {}, as in ng.debug.print('loss is {}', loss); "
                             f"got {given}")
    if active() is None or not isinstance(x, Value):
        DebugPrint(text).reference(kinds.read(x))
        return x
    return current().emit(DebugPrint(text), (x,))[0]


def first_not_finite(fn: Callable[..., Any], *args: Any) -> str | None:
    """Where the first value that is not finite comes from when fn runs on args: the op, its operands, the source line.

    The function is traced and interpreted with the reference, op after op. Constants may be infinite, as masks are; what is
    told is the first op whose results hold a nan or an infinity where its operands held none. None if there is none.
    """
    graph = trace(fn, *args)
    arrays = [kinds.read(x) for x in tree.leaves(args) if x is not None]
    for v, a in zip(graph.inputs, arrays):
        if kind := _kind(a):
            return f"argument {v.name} holds {kind}"
    return _first(graph, arrays)[1]


def _first(graph: Graph, arrays: Sequence[Any], around: Location | None = None) -> tuple[list[Any], str | None]:
    """The graph's results, and where the first value that is not finite comes from; composites are looked into."""
    env: dict[Value, Any] = dict(zip(graph.inputs, arrays))
    near = around
    for node in graph.nodes:
        near = node.location or near
        operands = [env[v] for v in node.operands]
        inner = None
        with np.errstate(all="ignore"):
            if isinstance(node.op, Call):
                results, inner = _first(node.op.body, operands, near)
            else:
                inputs = tuple(Value(v.type) for v in node.operands)
                outputs = tuple(Value(r.type) for r in node.results)
                results = list(interpret(Graph("node", inputs, [Node(node.op, inputs, outputs, node.location)], outputs), operands))
        if inner is not None:
            return [], inner
        kind = next((k for x in results if (k := _kind(x))), "")
        if kind and not isinstance(node.op, Constant) and not any(_kind(x) in ("a nan", kind) for x in operands):
            return [], _told(node, operands, kind, near)
        env.update(zip(node.results, results))
    return [env[v] for v in graph.outputs], None


def _kind(x: Any) -> str:
    """What an array holds that is no finite number: "a nan", "an infinity", or nothing."""
    array = np.asarray(x)
    if array.dtype.kind not in "fV":
        return ""
    wide = array.astype(np.float64)
    return "a nan" if np.isnan(wide).any() else "an infinity" if np.isinf(wide).any() else ""


def _told(node: Node, operands: Sequence[Any], kind: str, near: Location | None) -> str:
    """The op, what it was given, and the line that asked for it; where no line did, as in derivatives, the last one before it."""
    where = f" at {node.location}" if node.location else f" in what follows from {near}" if near else ""
    given = ", ".join(f"{v.type} in [{float(np.min(x)):.4g}, {float(np.max(x)):.4g}]"
                      for v, x in zip(node.operands, operands) if np.size(x))
    return f"{kind} comes first from {node.op.name}{where}, given {given}"
