"""Graphs that between them hold every op, every dtype and every kind of region."""

import numpy as np

import nagraph as ng
import nagraph.ops  # noqa: F401 - fills the registry
from nagraph.ir import Builder, Constant, Graph, Op, build, spec
from nagraph.ir.types import DTYPES, bfloat16
from nagraph.ops.arg_extremum import ArgMax, ArgMin
from nagraph.ops.base import Cast
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.convolution import ConvGeneral
from nagraph.ops.cumulative import Cummax, Cummin, Cumprod, Cumsum
from nagraph.ops.dynamic_slice import DynamicSlice
from nagraph.ops.identities import DebugPrint
from nagraph.ops.indexing import Gather, Scatter
from nagraph.ops.joining import Concatenate
from nagraph.ops.labels import CheckLabels
from nagraph.ops.movement import Broadcast, Flip, Iota, Reshape, Transpose
from nagraph.ops.pooling import WindowArgmax, WindowMax, WindowPut, WindowSum
from nagraph.ops.random import RandomBits
from nagraph.ops.reduction import All, Any_, Max, Min, Prod, RowSum, Sum
from nagraph.ops.size_numbers import SizeNumber
from nagraph.ops.slicing import Pad, Slice
from nagraph.ops.sorting import Argsort, Sort
from nagraph.ops.windows import Windows
from nagraph.regions.branches import Cond
from nagraph.regions.calls import Call
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop
from tests.support import graph_of, own_ops

WINDOW = (2, 2), (1, 2), ((0, 1), (0, 0))
#: Ops with attributes; those that have none are made from the registry.
WITH_ATTRIBUTES: list[Op] = [
    Reshape((2, 3)), Transpose((1, 0)), Broadcast((2, 3, 4)), Slice((1, 0), (5, 3), (2, 1)), Pad((1,), (2,), (0,), -np.inf),
    Pad((1, 0), (0, 2), (0, 1), -0.0), Flip((0, 2)), Concatenate(1), Sum((0, 2)), Sum(()), RowSum((0, 1)),
    Prod((1,)), Max((0, 1)), Min((1,)), All((0,)),
    Any_((0, 1)), ArgMax(0), ArgMin(1), Cumsum(1), Cumprod(0, True), Cummax(0), Cummin(1, True), Sort(1), Argsort(0),
    *map(Cast, DTYPES.values()), Iota(DTYPES["u8"], (2, 3), 1), SizeNumber(3, DTYPES["f16"]), RandomBits((2, 3), 32),
    DotGeneral(((1,), (0,)), ((), ())), Windows((1, 0), (2, 3), (2, 1), (1, 2)),
    ConvGeneral((2,), ((1, 1),), (1,), (1,), 1), Gather((0,)), DynamicSlice((2, 3)),
    Scatter((0,), "add"), Scatter((0,), "set"), CheckLabels(3), CheckLabels(3, -100),
    *(made(*WINDOW) for made in (WindowArgmax, WindowMax, WindowSum)), WindowPut((4, 5), *WINDOW),
]
#: Printing is an effect, so its `samples` are none.
PRINT = DebugPrint("a \"b\" \\ {}\n\u2028 é")


def one_node_graphs() -> dict[str, Graph]:
    """For every op that holds no region, graphs of that op alone on its sample operands."""
    ops = [*(cls() for cls in own_ops().values() if not cls._fields()), *WITH_ATTRIBUTES]
    found = {f"{PRINT}/0": graph_of(PRINT, [np.ones(3)])}
    for op in ops:
        for i, operands in enumerate(op.samples(np.random.default_rng(0))):
            found[f"{op}/{i}"] = graph_of(op, operands)
    return found


def region_graphs() -> dict[str, Graph]:
    """Graphs that hold graphs."""
    x, i = spec((3, 4), "f32"), spec((), "i64")
    twice = build("twice", [x], lambda a: [a + a])
    tanh = build("twice", [x], lambda a: [ng.numpy.tanh(a)])  # the same name for another graph
    row = spec((4,), "f32")
    step = build("step", [row, row], lambda c, r: [c + r, c * 2])
    go = build("go", [x, i], lambda a, n: [n < 3])
    count = build("count", [x, i], lambda a, n: [a * 0.5, n + 1])

    def nested(a):
        body = build("body", [row, row], lambda c, r: [Call("inner", "checkpoint", build("inner", [row], lambda b: [b * b]))(c) + r])
        inner = build("twice", [x], lambda b: [Scan(body, 0, 1, 3)(b[0], b) + b])
        return [Cond(inner, tanh)(ng.numpy.sum(a) > 0, a)]

    fwd = build("f", [x], lambda a: [a * a, a])
    bwd = build("b", [x, x], lambda r, ct: [r * ct * 2])
    return {
        "call": build("call", [x], lambda a: [Call("twice", "composite", twice)(a)]),
        "call of a declared derivative": build("square", [x], lambda a: [Call("s", "composite", build("s", [x], lambda b: [b * b]),
                                                                              fwd, bwd)(a)]),
        "cond": build("cond", [x], lambda a: [Cond(twice, tanh)(ng.numpy.sum(a) > 0, a)]),
        "scan": build("scan", [x], lambda a: list(Scan(step, 0, 1, 3, True)(a[0], a))),
        "while_loop": build("while", [x], lambda a: list(WhileLoop(go, count, 0, 5)(a, np.int64(0)))),
        "while_loop without a bound": build("while", [x], lambda a: list(WhileLoop(go, count, 0)(a, np.int64(0)))),
        "nested": build("nested", [x], nested),
        "a region twice": build("shared", [x], lambda a: [Call("t", "composite", twice)(Call("t", "composite", twice)(a))]),
    }


def constants() -> dict[str, np.ndarray]:
    """Arrays of every dtype with the values that are hard to write down."""
    found: dict[str, np.ndarray] = {"bool": np.array([True, False, True])}
    for name, dtype in DTYPES.items():
        if name[0] in "iu":
            info = np.iinfo(dtype)
            found[name] = np.array([info.min, info.max, 0, 1], dtype)
    for name, bits in (("f16", 16), ("bf16", 16), ("f32", 32), ("f64", 64)):
        found[name] = _hard_floats(DTYPES[name], bits)
    return found


def _hard_floats(dtype, bits: int) -> np.ndarray:
    """Zeros of both signs, infinities, subnormals, extremes, nans of several payloads, signs and kinds."""
    mantissa = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[dtype.name]
    top = (1 << (bits - 1 - mantissa)) - 1 << mantissa  # the bits of infinity
    sign = 1 << bits - 1
    quiet = 1 << mantissa - 1
    patterns = [0, sign, top, top | sign, 1, quiet - 1, 1 | sign, top - 1, top - 1 | sign, top | quiet, top | quiet | sign,
                top | 1, top | 1 | sign, top | quiet | 3, top | 5]
    return np.array(patterns, f"u{bits // 8}").view(dtype)


def constant_graph(*arrays: np.ndarray, name: str = "constants") -> Graph:
    with Builder() as builder:
        return builder.graph(name, [builder.emit(Constant.of(a), ())[0] for a in arrays])


def shaped_constants() -> list[np.ndarray]:
    """Of 16 and 17 elements (inline and not), of no elements, of rank 0, of many axes, in another order of memory."""
    return [np.arange(16.0), np.arange(17.0), np.arange(16, dtype=bfloat16).reshape(4, 4), np.arange(24).reshape(2, 3, 4).T,
            np.zeros((2, 0)), np.zeros((0,), np.int8), np.zeros((0, 1000000), bool), np.zeros((10**9, 0, 3)), np.float32(1.5),
            np.array(True), np.ones((1,) * 20), np.array(-0.0, bfloat16), np.arange(100)[::-3], np.ones((5, 5), bool)]
