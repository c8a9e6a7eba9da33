"""Checks that follow from an op's class: derivatives against central differences, batching against a loop."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from nagraph import backends
from nagraph.arrays import HOST
from nagraph.ir.builder import active_stack, build
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.interpret import interpret
from nagraph.ir.location import is_internal
from nagraph.ir.op import REGISTRY, Op
from nagraph.ir.types import is_float, type_of
from nagraph.ops.operands import as_array
from nagraph.transforms.forward import pushforward
from nagraph.transforms.reverse import pullback, vjp_graph

#: The backends of this package that compute on NumPy's arrays; all of them can be used everywhere.
CPU_BACKENDS = tuple(name for name in backends.BACKENDS if backends.find(name).array_kind is HOST)


#: Whether tests that have a cut run all of their cases (docs/guarantees.md): NAGRAPH_TESTS=all.
WHOLE = os.environ.get("NAGRAPH_TESTS") == "all"


def own_ops() -> dict[str, type[Op]]:
    """The ops of the house by their names: tests, and examples in the docs, register some of their own."""
    return {name: cls for name, cls in REGISTRY.items() if cls.__module__.startswith("nagraph.")}


def evaluate(graph: Graph, *arrays: Any) -> tuple[np.ndarray, ...]:
    """The outputs of a graph, node by node with the ops' NumPy references."""
    return interpret(graph, tuple(map(as_array, arrays)))


def graph_of(op: Op, operands: Sequence[Any]) -> Graph:
    """The graph of one op on operands of these types."""

    def body(*values: Any) -> Sequence[Any]:
        found = op(*values)
        return found if isinstance(found, tuple) else (found,)

    return build(op.name, [type_of(as_array(x)) for x in operands], body)


def _wide(operands: Sequence[Any]) -> list[np.ndarray]:
    arrays = [as_array(x) for x in operands]
    return [a.astype(np.float64) if is_float(a.dtype) else a for a in arrays]


def numeric_jvp(graph: Graph, operands: Sequence[np.ndarray], tangents: Sequence[np.ndarray | None], step: float = 1e-6) -> list:
    """Central differences along the tangents, in float64."""
    def at(sign: float) -> tuple[np.ndarray, ...]:
        return evaluate(graph, *(x if t is None else x + sign * step * t for x, t in zip(operands, tangents)))

    return [(a - b) / (2 * step) if is_float(a.dtype) else None for a, b in zip(at(+1), at(-1))]


def differences(f: Callable[[np.ndarray], Any], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient of a scalar function by central differences."""
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[i] = step
        found[i] = (f(x + d) - f(x - d)) / (2 * step)
    return found


def check_derivatives(op: Op, operands: Sequence[Any], rtol: float = 1e-5, seed: int = 0) -> None:
    """The first derivative of an op, and the second: that of the graph which is its vjp."""
    arrays = _wide(operands)
    graph = graph_of(op, arrays)
    check_graph_derivatives(graph, arrays, rtol, seed)
    second = vjp_graph(graph, seeds=[i for i, v in enumerate(graph.outputs) if is_float(v.dtype)])
    rng = np.random.default_rng(seed + 1)
    cotangents = [rng.normal(size=v.shape) for v in second.inputs[len(arrays):]]
    check_graph_derivatives(second, [*arrays, *cotangents], rtol, seed)


def check_graph_derivatives(graph: Graph, arrays: Sequence[np.ndarray], rtol: float, seed: int) -> None:
    """jvp against central differences, and vjp against jvp: <ct, J t> = <Jᵀ ct, t>."""
    rng = np.random.default_rng(seed)
    moving = [i for i, x in enumerate(arrays) if is_float(x.dtype)]
    floats = [i for i, v in enumerate(graph.outputs) if is_float(v.dtype)]
    assert moving and floats, f"{graph.name}: nothing to differentiate in these operands"
    types = graph.input_types
    tangents: list[Any] = [rng.normal(size=x.shape) if i in moving else None for i, x in enumerate(arrays)]
    cts = [rng.normal(size=graph.outputs[i].shape) for i in floats]

    def forward(*values: Any) -> list[Any]:
        given: list[Any] = [None] * len(types)
        for i, t in zip(moving, values[len(types):]):
            given[i] = t
        outputs, moved = pushforward(graph, values[:len(types)], given)
        from nagraph.ops.rules import zeros_of

        return [zeros_of(outputs[i].type) if moved[i] is None else moved[i] for i in floats]

    def backward(*values: Any) -> list[Any]:
        from nagraph.ops.rules import zeros_of

        _, pull = pullback(graph, values[:len(types)], moving)
        given: list[Any] = [None] * len(graph.outputs)
        for i, c in zip(floats, values[len(types):]):
            given[i] = c
        return [zeros_of(types[i]) if c is None else c for i, c in zip(moving, pull(given))]

    jvp = build("jvp", [*types, *(types[i] for i in moving)], forward)
    vjp = build("vjp", [*types, *(graph.output_types[i] for i in floats)], backward)
    pushed = evaluate(jvp, *arrays, *(tangents[i] for i in moving))
    numeric = [d for d in numeric_jvp(graph, arrays, tangents) if d is not None]
    for got, expected in zip(pushed, numeric, strict=True):
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * scale, err_msg=f"{graph.name}: jvp against differences")
    pulled = evaluate(vjp, *arrays, *cts)
    left = sum(float(np.vdot(c, p)) for c, p in zip(cts, pushed))
    right = sum(float(np.vdot(b, tangents[i])) for i, b in zip(moving, pulled))
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9, err_msg=f"{graph.name}: <ct, J t> against <Jᵀ ct, t>")


def check_batching(op: Op, operands: Sequence[Any], size: int = 3, seed: int = 0, rtol: float = 1e-12) -> None:
    """The batching rule against a loop, for every choice of batched operands (up to 3 operands, else all batched)."""
    from nagraph.transforms.batching import batch_graph

    rng = np.random.default_rng(seed)
    arrays = [as_array(x) for x in operands]
    graph = graph_of(op, arrays)
    n = len(arrays)
    choices = [[bool(k >> i & 1) for i in range(n)] for k in range(1, 2**n)] if n <= 3 else [[True] * n]
    for batched in choices:
        many = [_variants(x, size, rng) if b else x for x, b in zip(arrays, batched)]
        got = evaluate(batch_graph(graph, size, batched), *many)
        each = [evaluate(graph, *(x[k] if b else x for x, b in zip(many, batched))) for k in range(size)]
        for i, y in enumerate(got):
            expected = np.stack([e[i] for e in each])
            assert y.dtype == expected.dtype
            np.testing.assert_allclose(y, expected, rtol=rtol, atol=1e-12, err_msg=f"{op}: batched {batched}")


def _variants(x: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` operands like x: the same numbers in other orders."""
    return np.stack([x, *(rng.permutation(x.ravel()).reshape(x.shape) for _ in range(size - 1))])


def call_counts(run: Callable[[], Any]) -> tuple[int, int]:
    """How many functions of Python and how many of C one run calls: the same on every machine."""
    counts = {"call": 0, "c_call": 0}

    def note(frame: Any, event: str, arg: Any) -> None:
        if event in counts:
            counts[event] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return counts["call"], counts["c_call"]


def caught(call: Callable[[], Any], kind: type[Exception]) -> Exception:
    """The error that `call` raises, with its traceback checked: one frame of nagraph's at the boundary, else the user's."""
    with pytest.raises(kind) as found:
        call()
    frames = [f.filename for f in traceback.extract_tb(found.value.__traceback__)]
    inside = [f for f in frames if is_internal(f)]
    assert len(inside) <= 1, frames
    assert is_internal(frames[-1]) is False or frames[-1:] == inside
    assert active_stack() == ()
    return found.value


def warned(call: Callable[[], Any]) -> list[str]:
    """The warnings of a call, each time that one is given."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in found]


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """A failure in place of waiting without an end, as for what never comes out of a pipe."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"it took more than {seconds} s"))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def forget_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know of no compiled kernels for the length of a test, as another process would not."""
    monkeypatch.setattr("nagraph.backends.llvm.program.functions._KNOWN", collections.OrderedDict())
    monkeypatch.setattr("nagraph.backends.llvm.program.functions._CODES", weakref.WeakValueDictionary())


def in_order_of_use(graph: Graph) -> Graph:
    """The graph with its nodes in the order in which the outputs, and what they read, ask for them: the same for any order they were in."""
    order: dict[Node, None] = {}
    waiting: list[tuple[Value, bool]] = [(v, False) for v in reversed(graph.outputs)]
    while waiting:
        v, ready = waiting.pop()
        node = graph.producers.get(v)
        if node is None or node in order:
            continue
        if ready:
            order[node] = None
        else:
            waiting += [(v, True), *((x, False) for x in reversed(node.operands))]
    return graph.with_nodes(tuple(order))
