"""Random graphs for property tests: lists of small numbers, read as a program over the op functions."""

import numpy as np
from hypothesis import strategies as st

from nagraph.composites.activations import gelu_tanh
from nagraph.composites.norms import layer_norm
from nagraph.composites.softmax import logsumexp, softmax
from nagraph.errors import NagraphError
from nagraph.ir.builder import Builder, build
from nagraph.ir.graph import Graph
from nagraph.ir.types import BOOL, DTYPES, TensorType, is_float
from nagraph.ops.arg_extremum import argmax
from nagraph.ops.base import cast
from nagraph.ops.comparison import greater, less, logical_and, logical_not
from nagraph.ops.contraction import matmul
from nagraph.ops.cumulative import cumsum
from nagraph.ops.elementwise import abs, add, clip, maximum, minimum, multiply, negative, square, subtract, where
from nagraph.ops.indexing import take
from nagraph.ops.joining import concatenate, stack
from nagraph.ops.movement import broadcast_to, expand_dims, flip, iota, reshape, swapaxes, transpose
from nagraph.ops.padding import pad
from nagraph.ops.reduction import max, mean, min, sum
from nagraph.ops.rounding import floor, sign
from nagraph.ops.sorting import sort
from nagraph.ops.special import cos, erf, exp, rsqrt, sigmoid, sin, sqrt, tanh
from nagraph.regions.branches import Cond
from nagraph.regions.calls import Call
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop

F32 = DTYPES["f32"]
INPUTS = [TensorType(DTYPES[d], s) for d, s in (("f32", (3, 4)), ("f32", (4,)), ("f64", (2, 3)), ("i32", (3, 4)), ("f32", ()),
                                                ("bool", (4,)), ("f32", (2, 0)), ("f32", (5, 3, 4)))]


def bounded(x):
    """Values of a size that stays within range however long the program is."""
    return tanh(x) if is_float(x.dtype) else x


def tail(x):
    """Everything but the first index of the first axis."""
    return x[1:]


UNARY = [
    tanh, lambda x: exp(bounded(x)), negative, abs, lambda x: square(bounded(x)), sigmoid, sin, cos, erf, lambda x: sqrt(abs(x) + 1),
    lambda x: rsqrt(square(bounded(x)) + 1), floor, sign, lambda x: x * 1, lambda x: x + 0, lambda x: -(-x), lambda x: x / 4, gelu_tanh,
    transpose, lambda x: reshape(x, -1), lambda x: reshape(x, x.shape[::-1]), lambda x: flip(x, 0), tail, lambda x: x[::2],
    lambda x: x[..., :1], lambda x: expand_dims(x, 0), lambda x: broadcast_to(x, (2, *x.shape)), lambda x: pad(x, 1),
    lambda x: swapaxes(x, 0, -1), lambda x: cumsum(bounded(x), 0), lambda x: sort(x, -1), lambda x: argmax(x, 0),
    lambda x: sum(bounded(x), -1), lambda x: sum(bounded(x)), lambda x: max(x, 0), lambda x: min(x, -1, keepdims=True),
    lambda x: mean(x, 0), lambda x: softmax(x), lambda x: logsumexp(x, -1), lambda x: layer_norm(x, None, None),
    lambda x: cast(x, "f32"), lambda x: cast(x, "f64"), lambda x: cast(bounded(x), "i32"), lambda x: clip(x, -1, 1),
    lambda x: matmul(bounded(x), swapaxes(bounded(x), -1, -2)), lambda x: x > 0, logical_not,
    lambda x: x + np.arange(x.shape[-1], dtype=x.dtype), lambda x: x * np.full(x.shape, 0.5).astype(x.dtype),
    lambda x: where(x > 0, x, 0), lambda x: multiply(x, iota(x.dtype, x.shape, 0)), lambda x: take(x, np.array([0, -1]), axis=0),
]
BINARY = [add, subtract, lambda x, y: multiply(bounded(x), y), maximum, minimum, less, greater, lambda x, y: where(x > y, x, y),
          logical_and, lambda x, y: concatenate([x, y], axis=0), lambda x, y: stack([x, y]), lambda x, y: matmul(bounded(x), bounded(y))]


def _call(x):
    body = build("twice", [x.type], lambda a: [bounded(a) + a])
    return Call("twice", "composite" if x.ndim else "checkpoint", body)(x)


def _cond(x):
    yes, no = build("yes", [x.type], lambda a: [-(-bounded(a))]), build("no", [x.type], lambda a: [a * 1 - a])
    return Cond(yes, no)(sum(multiply(x, x)) > 1, x)  # which does not cancel: in any order of addition it takes one branch


def _scan(x):
    row = x.type.with_shape(x.shape[1:])
    body = build("step", [row, row], lambda c, r: [bounded(c + r) * 1, c])
    return Scan(body, 0, 1, x.shape[0])(x[0], x)[1]


def _while(x):
    go = build("go", [x.type, TensorType(DTYPES["i64"], ())], lambda a, i: [i < 3])
    step = build("step", [x.type, TensorType(DTYPES["i64"], ())], lambda a, i: [bounded(a + a), i + 1])
    return WhileLoop(go, step, 0, 5)(x, np.int64(0))[0]


def _invariants(x):
    """A loop with an invariant value, a carry that never changes, a result that is its operand, and one that is not read."""
    row = x.type.with_shape(x.shape[1:])
    body = build("step", [x.type, row, row, row], lambda k, c, d, r: [bounded(c + max(k * k, 0) + d), d, c * d, sum(k * r), r, k])
    made = Scan(body, 1, 2, x.shape[0])(x, x[0], x[-1], x)
    return made[0] + made[1] + made[4][0] + made[5][0][0]


def _known(x):
    """A branch within a branch on the same predicate, and loops of one step and of none."""
    flag = TensorType(BOOL, ())
    inner = [build(name, [x.type], lambda a, k=k: [bounded(a) * k]) for k, name in enumerate(("deep", "never"))]
    yes = build("yes", [flag, x.type], lambda p, a: [Cond(*inner)(p, a)])
    y = Cond(yes, build("no", [flag, x.type], lambda p, a: [a]))(p := x.size > 3 and sum(multiply(x, x)) > 1, p, x)
    step = build("step", [x.type, x.type], lambda c, r: [c + r, c])
    c, z = Scan(step, 0, 1, 1)(y, expand_dims(x, 0))
    return c + Scan(step, 0, 1, 0)(z[0], expand_dims(x, 0)[:0])[0]


REGIONS = [_call, _cond, _scan, _while, _invariants, _known]


def program(numbers: list[int]) -> Graph:
    """The graph that the numbers spell: how many inputs, then for each step an op and its operands; what does not type is left out."""
    code = iter([*numbers, *([0] * 4)])
    with Builder() as builder:
        values = [builder.input(INPUTS[(next(code) + i) % len(INPUTS)], f"x{i}") for i in range(1 + numbers[0] % 3)]
        for kind in code:
            choice, a, b = next(code, 0), next(code, 0), next(code, 0)
            x, y = values[-1 - a % len(values)], values[-1 - b % len(values)]
            before = len(builder.nodes)
            try:
                if kind % 8 == 7:
                    made = REGIONS[choice % len(REGIONS)](x)
                elif kind % 2:
                    made = BINARY[choice % len(BINARY)](x, y)
                else:
                    made = UNARY[choice % len(UNARY)](x)
            except (NagraphError, TypeError, ValueError, IndexError):
                del builder.nodes[before:]
                continue
            if isinstance(made, tuple) or made.size > 5000 or made.ndim > 4:
                del builder.nodes[before:]
                continue
            values.append(made)
        return builder.graph("random", [values[-1], *values[-1:-6:-2][1:]])


def graphs(max_steps: int = 20) -> st.SearchStrategy[Graph]:
    """Valid graphs of a few nodes, with constants, composites, control flow, empty tensors and several dtypes."""
    return st.lists(st.integers(0, 63), min_size=6, max_size=4 * max_steps).map(program)


def arrays_for(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """Inputs of the graph's types: moderate numbers, among them zeros and equal ones."""
    rng = np.random.default_rng(seed)
    found = []
    for t in graph.input_types:
        x = np.round(rng.normal(size=t.shape) * 2, 1)
        found.append(np.asarray(x > 0 if t.dtype == BOOL else x).astype(t.dtype))
    return found
