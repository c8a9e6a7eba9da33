"""Control flow that people call: cond, scan, while_loop on pytrees, closures included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nagraph import tree
from nagraph.errors import SignatureError, TreeError
from nagraph.ir.builder import current
from nagraph.ir.graph import Graph, Value
from nagraph.ir.integers import integer
from nagraph.ir.sizes import same
from nagraph.ir.types import TensorType
from nagraph.ops.base import cast
from nagraph.regions.branches import Cond
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop
from nagraph.tracing.tracer import as_value, check_function, function_name, trace_leaves
from nagraph.transforms.api import directly

Fn = Callable[..., Any]


def _trace_on(fn: Fn, like: Sequence[Any], structure: tree.Structure) -> tuple[Graph, list[Value], tree.Structure, list[bool]]:
    """fn traced on stand-ins for the values `like`, which are weak where those are."""
    return trace_leaves(lambda *xs: fn(*tree.unflatten(structure, xs)), like, function_name(fn))


def _values(leaves: Sequence[Any]) -> list[Any]:
    """Leaves as values of their final dtype; None stays None."""
    return [None if x is None else as_value(x) for x in leaves]


def _captures_first(graph: Graph, own: int) -> Graph:
    """The graph with its captured inputs (those after the first `own`) moved to the front."""
    return Graph(graph.name, (*graph.inputs[own:], *graph.inputs[:own]), graph.nodes, graph.outputs)


def _with_captures(graphs: Sequence[Graph], captured: Sequence[Sequence[Value]], own: int) -> tuple[list[Graph], list[Value]]:
    """Graphs that capture different outer values, given one common list of them, in front."""
    union = list({v: None for c in captured for v in c})
    out = []
    for graph, values in zip(graphs, captured):
        have = dict(zip(values, graph.inputs[own:]))
        front = [have.get(v) or Value(v.type, v.name) for v in union]
        out.append(Graph(graph.name, (*front, *graph.inputs[:own]), graph.nodes, graph.outputs))
    return out, union


def cond(predicate: Any, true: Fn, false: Fn, *operands: Any) -> Any:
    """true(*operands) if predicate else false(*operands); only the chosen side runs.

    Both sides return the same structure and types. The predicate is a bool scalar.
    """
    for fn in (true, false):
        check_function("cond", fn)

    def emitted(predicate: Any, operands: Any) -> Any:
        leaves, structure = tree.flatten(operands)
        values = _values(leaves)
        (g, cg, out, mask), (h, ch, out_h, mask_h) = (_trace_on(fn, values, structure) for fn in (true, false))
        if out != out_h or mask != mask_h:
            raise TreeError(f"cond: the branches return different structures: {out} and {out_h}")
        present = [v for v in values if v is not None]
        (g, h), union = _with_captures([g, h], [cg, ch], len(present))
        found = iter(current().emit(Cond(g, h), (as_value(predicate), *union, *present)))
        return tree.unflatten(out, [next(found) if m else None for m in mask])

    return directly("cond", emitted)(predicate, operands)


def scan(fn: Fn, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False) -> tuple[Any, Any]:
    """A loop that carries a value and stacks results: carry, y[t] = fn(carry, x[t]).

    xs: pytree of arrays with the steps on axis 0 (None: `length` steps, x is None). Returns the
    last carry and the ys, stacked. The carry keeps its structure and types from step to step.
    """
    check_function("scan", fn)
    length = None if length is None else integer("scan: length", length)

    def emitted(init: Any, xs: Any) -> Any:
        carry_leaves, carry_structure = tree.flatten(init)
        x_leaves, x_structure = tree.flatten(xs)
        carries, stacked = _values(carry_leaves), _values(x_leaves)
        sizes = [x.shape[0] if x.shape else None for x in stacked if x is not None] + ([length] if length is not None else [])
        if not sizes or None in sizes or not all(same(sizes[0], n, "scan") for n in sizes[1:]):
            found_sizes = sorted(set(map(str, sizes))) or "neither"
            raise SignatureError(f"scan: xs and length must agree on the number of steps, got {found_sizes}")
        steps = sizes[0]
        x_types = [None if x is None else TensorType(x.dtype, x.shape[1:]) for x in stacked]

        def on_leaves(*leaves: Any) -> Any:
            n = len(carry_leaves)
            return fn(tree.unflatten(carry_structure, leaves[:n]), tree.unflatten(x_structure, leaves[n:]))

        name = function_name(fn)
        graph, captured, out, mask = trace_leaves(on_leaves, [*carries, *x_types], name)
        if out.kind is not tuple or len(out.children) != 2:
            raise TreeError(f"scan: the function must return (carry, y), got {out}")
        if out.children[0] != carry_structure:
            raise TreeError(f"scan: the carry changes structure: {carry_structure} becomes {out.children[0]}")
        present = [c for c in carries if c is not None]
        after = graph.output_types[:len(present)]
        if any(c.weak and c.dtype != t.dtype and not c.shape for c, t in zip(present, after)):
            found_types = iter(after)
            carries = [None if c is None else cast(c, t.dtype) if (t := next(found_types)) and c.weak else c for c in carries]
            present = [c for c in carries if c is not None]
            graph, captured, out, mask = trace_leaves(on_leaves, [*carries, *x_types], name)
        own = len(graph.inputs) - len(captured)
        op = Scan(_captures_first(graph, own), len(captured), len(present), steps, reverse)
        found = iter(current().emit(op, (*captured, *present, *(x for x in stacked if x is not None))))
        return tree.unflatten(out, [next(found) if m else None for m in mask])

    result: tuple[Any, Any] = directly("scan", emitted)(init, xs)
    return result


def while_loop(condition: Fn, body: Fn, init: Any, max_steps: int | None = None) -> Any:
    """carry = body(carry) while condition(carry), at most `max_steps` times (needed for reverse mode)."""
    for fn in (condition, body):
        check_function("while_loop", fn)
    max_steps = None if max_steps is None else integer("while_loop: max_steps", max_steps)

    def emitted(init: Any) -> Any:
        leaves, structure = tree.flatten(init)
        values = _values(leaves)

        def traced() -> Any:
            test = _trace_on(lambda c: condition(c), values, _one(structure))
            return test, _trace_on(lambda c: body(c), values, _one(structure))

        (g, cg, _, _), (h, ch, out, mask) = traced()
        if out != structure:
            raise TreeError(f"while_loop: the carry changes structure: {structure} becomes {out}")
        present = [v for v in values if v is not None]
        if any(c.weak and c.dtype != t.dtype for c, t in zip(present, h.output_types)):
            after = iter(h.output_types)
            values = [None if v is None else cast(v, t.dtype) if (t := next(after)) and v.weak else v for v in values]
            (g, cg, _, _), (h, ch, out, mask) = traced()
            present = [v for v in values if v is not None]
        (g, h), union = _with_captures([g, h], [cg, ch], len(present))
        found = iter(current().emit(WhileLoop(g, h, len(union), max_steps), (*union, *present)))
        return tree.unflatten(structure, [next(found) if m else None for m in mask])

    return directly("while_loop", emitted)(init)


def _one(structure: tree.Structure) -> tree.Structure:
    """The structure of an argument list of one argument."""
    return tree.Structure(tuple, (0,), (structure,))
