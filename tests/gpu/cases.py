"""Cases: graphs with operands, between them every op in every dtype it admits, odd sizes, operands in every order of storage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import nagraph as ng
from nagraph.ir.builder import build
from nagraph.ir.graph import Graph
from nagraph.ir.types import DTYPES, is_float, type_of
from nagraph.models.workloads import workload
from nagraph.ops.base import Elementwise
from nagraph.ops.movement import Broadcast, Flip, Transpose
from nagraph.ops.operands import as_array
from nagraph.ops.slicing import Slice
from tests.support import graph_of
from tests.test_guarantees import KINDS, OF_SEVERAL_KINDS, OPS, TABLE, cast_samples

Array = np.ndarray[Any, Any]


class Case(NamedTuple):
    """A case is a graph with operands. exact: whether elementwise results are to have the bits that the LLVM backend gives."""

    name: str
    graph: Graph
    operands: list[Array]
    exact: bool = False


#: Sizes about those of warps, blocks and vector loads.
SIZES = (1, 2, 31, 32, 33, 127, 255, 256, 257, 1000, 1025, 4099)
PRODUCTS = ((0, 3, 2), (3, 0, 2), (1, 1, 1), (1, 300, 5), (5, 7, 1), (16, 16, 16), (17, 33, 65), (64, 64, 64), (129, 70, 130), (3, 1030, 3))
#: How an operand can come to a kernel: as it was stored, and through the movement that views it so.
ORDERS = ("F", "reversed", "strided", "broadcast")


def op_cases(dtypes: tuple[str, ...] = tuple(DTYPES)) -> Iterator[Case]:
    """Every op on its samples, in these dtypes of those that it admits."""
    for name, op in OPS.items():
        promise = TABLE[op.name]
        exact = "bits" in promise[1] or "|" in promise[1]
        for short in dtypes:
            dtype = DTYPES[short]
            if dtype not in KINDS[promise[0]]:
                continue
            for i, operands in enumerate(operands_of(op, dtype)):
                yield Case(f"{name} {short} {i}", graph_of(op, operands), operands, exact)


def operands_of(op: Any, dtype: Any) -> Iterator[list[Array]]:
    """Operands of an op in a dtype: its samples as they are where they have it, else cast."""
    seen = set()
    own = [[as_array(x) for x in op.prepare(operands)] for operands in op.samples(np.random.default_rng(0))]
    for operands in (*own, *cast_samples(op, dtype)):
        try:
            op.infer(*map(type_of, operands))
        except (TypeError, ValueError):
            continue
        if op.name == "reciprocal" and not is_float(dtype):
            operands = [np.maximum(x, 1) for x in operands]  # of 0 nothing is promised
        key = tuple((type_of(x), x.tobytes()) for x in operands)
        if operands and any(x.dtype == dtype for x in operands) and key not in seen:
            seen.add(key)
            yield operands


def order_cases() -> Iterator[Case]:
    """Ops that compute on operands which come in another order than row-major."""
    for name, op in OPS.items():
        for operands in list(op.samples(np.random.default_rng(0)))[:1]:
            arrays = [as_array(x) for x in op.prepare(operands)]
            if not any(x.ndim and x.size for x in arrays):
                continue
            for order in ORDERS:
                if order == "broadcast" and op.name in OF_SEVERAL_KINDS:
                    continue
                moved = [_moved(x, order) for x in arrays]
                stored = [x for x, _ in moved]

                def body(*values: Any, op: Any = op, moved: Any = moved) -> Any:
                    found = op(*(back(v) for v, (_, back) in zip(values, moved)))
                    return found if isinstance(found, tuple) else (found,)

                yield Case(f"{name} {order}", build(op.name, [type_of(x) for x in stored], body), stored, isinstance(op, Elementwise))


def _moved(x: Array, order: str) -> tuple[Array, Any]:
    """An array that is stored otherwise, and the movement that shows it as `x` (of "broadcast", its first row everywhere)."""
    if not x.ndim or not x.size:
        return x, lambda v: v
    axes = tuple(range(x.ndim))
    match order:
        case "F":
            return np.ascontiguousarray(x.T), Transpose(axes[::-1])
        case "reversed":
            return np.ascontiguousarray(np.flip(x)), Flip(axes)
        case "strided":
            wide = np.zeros([2 * n + 1 for n in x.shape], x.dtype)
            wide[tuple(slice(1, None, 2) for _ in axes)] = x
            return wide, Slice((1,) * x.ndim, wide.shape, (2,) * x.ndim)
    return np.ascontiguousarray(x[:1]), Broadcast(x.shape)


def size_cases() -> Iterator[Case]:
    """Elementwise functions, sums, maxima, products and norms whose axes have sizes 0, 1, and those about warps and blocks."""
    rng = np.random.default_rng(1)
    xp, functional = ng.numpy, ng.nn.functional
    rows = {"sum": lambda x: x.sum(-1), "max": lambda x: x.max(-1), "argmax": lambda x: xp.argmax(x, -1), "softmax": functional.softmax,
            "layer": lambda x: (x - x.mean(-1, keepdims=True)) / xp.sqrt(x.var(-1, keepdims=True) + 1e-5),
            "cumsum": lambda x: xp.cumsum(x, -1)}
    for n in (0, *SIZES):
        x = rng.normal(size=n).astype("f4")
        yield _traced(f"tanh {n}", lambda x: xp.tanh(x) * 2, x, exact=True)
        yield _traced(f"f16 {n}", lambda x: x * x + 1, x.astype("f2"), exact=True)
        for name, function in rows.items():
            if n or name in ("sum", "cumsum"):
                yield _traced(f"{name} 3, {n}", function, rng.normal(size=(3, n)).astype("f4"))
                yield _traced(f"{name} of all {n}", lambda x, f=function: f(x.reshape(-1)), rng.normal(size=(n, 2)).astype("f4"))
        yield _traced(f"column sums {n}", lambda x: x.sum(0), rng.normal(size=(n, 37)).astype("f4"))
        yield _traced(f"transposed {n}", lambda x: x.T + 1, rng.normal(size=(n, 33)).astype("f4"), exact=True)
    for m, k, n in PRODUCTS:
        a, b = rng.normal(size=(m, k)).astype("f4"), rng.normal(size=(k, n)).astype("f4")
        yield _traced(f"product {m} {k} {n}", lambda a, b: xp.tanh(a @ b + 1), a, b)
        yield _traced(f"product {m} {k} {n} f16", lambda a, b: a @ b, a.astype("f2"), b.astype("f2"))
        yield _traced(f"product with transposes {m} {k} {n}", lambda a, b: a.T @ b.T, np.ascontiguousarray(a.T), np.ascontiguousarray(b.T))


def _traced(name: str, function: Any, *operands: Array, exact: bool = False) -> Case:
    return Case(name, ng.trace(function, *operands), list(operands), exact)


#: Fields of recipes, where a model has them, that make its train step tiny.
TINY = {"layers": 1, "heads": 2, "groups": 1, "width": 8, "context": 8, "batch": 2, "patch": 4, "depths": "1,1", "text_layers": 1}


def model_cases(models: tuple[str, ...] = ()) -> Iterator[Case]:
    """The train steps of the models at tiny sizes."""
    import dataclasses

    from nagraph.models import CLASSES
    from nagraph.models.tasks import task_class

    for model in models or CLASSES:
        known = {f.name for f in dataclasses.fields(task_class(model).Recipe)}
        work = workload(model, "train", **{k: v for k, v in TINY.items() if k in known})
        yield Case(f"train {model}", work.graph(), work.arrays())
