"""docs/guarantees.md is true: its table of ops is read and run, row by row, and the tests that it names are there."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import warnings

import numpy as np
import pytest

import nagraph as ng
from nagraph import backends
from nagraph.ir.types import BOOL, DTYPES, FLOATS, INTEGERS, as_dtype, is_float, type_of
from nagraph.ops.operands import as_array
from tests.ir.corpus import WITH_ATTRIBUTES
from tests.kernel.references import errors
from tests.ops.test_every_op import ALL
from tests.support import CPU_BACKENDS, graph_of, own_ops

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
#: Which dtypes a word of the table stands for.
KINDS = {"all": {*DTYPES.values()}, "numbers": {*DTYPES.values()} - {BOOL}, "floats": {*FLOATS}, "integers": {*INTEGERS}, "bool": {BOOL},
         "integers and bool": {*INTEGERS, BOOL}, "u32": {DTYPES["u32"]}}
#: Ops whose operands are of several kinds: which dtypes they admit can't be read off by casting the samples.
OF_SEVERAL_KINDS = {"gather", "scatter", "dynamic_slice", "dynamic_update_slice", "window_put", "check_labels", "random_bits", "fold_in",
                    "threefry", "call", "cond", "scan", "while_loop", "const", "iota", "size", "debug_print"}


def table() -> dict[str, tuple[str, str]]:
    """Dtypes and promise of each op."""
    found: dict[str, tuple[str, str]] = {}
    text = PAGE[PAGE.index("| op | dtypes | compiled |"):]
    for line in text[:text.index("\n\n")].splitlines()[2:]:
        names, dtypes, promise = (cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        for name in re.findall(r"`(\w+)`", names):
            assert name not in found, f"{name} has two rows"
            found[name] = dtypes, promise
    return found


TABLE = table()
OPS = {str(op): op for op in (*ALL, *WITH_ATTRIBUTES, *(cls() for cls in own_ops().values() if not cls._fields()))}


def test_every_op_has_a_row() -> None:
    assert set(TABLE) == set(own_ops())
    assert {op.name for op in OPS.values()} | {"call", "cond", "scan", "while_loop", "const", "debug_print"} == set(own_ops())


def cast_samples(op, dtype):
    """The op's sample operands as the dtype; bools and integers beside floats stay what they are."""
    for operands in op.samples(np.random.default_rng(0)):
        arrays = [as_array(x) for x in operands]
        if not arrays:
            yield []
            continue
        first = {a.dtype for a in arrays if is_float(a.dtype)} or {arrays[-1].dtype}
        moved = [a.dtype in first or op.name not in OF_SEVERAL_KINDS and op.name != "select" for a in arrays]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield [np.clip(np.nan_to_num(as_float(a)), 0, 100).astype(dtype) if m and not is_float(dtype) else a.astype(dtype) if m else a
                   for a, m in zip(arrays, moved)]


def as_float(x):
    return x.astype(np.float64)


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if op.name not in OF_SEVERAL_KINDS])
def test_dtypes(name: str) -> None:
    op = OPS[name]
    admitted = set()
    if getattr(op, "value", None) == -np.inf:
        op = dataclasses.replace(op, value=1.0)
    for dtype in DTYPES.values():
        for operands in cast_samples(op, dtype):
            try:
                op.infer(*map(type_of, operands))
            except TypeError:
                continue
            admitted.add(dtype)
    assert admitted == KINDS[TABLE[op.name][0]]


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if "bits" in TABLE[op.name][1] and list(op.samples(np.random.default_rng(0)))])
def test_same_bits(name: str) -> None:
    op, checked = OPS[name], 0
    for dtype in sorted(KINDS[TABLE[op.name][0]], key=str):
        for operands in cast_samples(op, dtype):
            if op.name == "reciprocal" and not is_float(dtype):
                operands = [np.maximum(x, 1) for x in operands]  # of 0 nothing is promised
            try:
                with np.errstate(all="ignore"):
                    expected = op(*operands)
            except TypeError:  # a padding of -inf does not fit into integers
                continue
            for passes in (None, ""):
                found = ng.compile(graph_of(op, operands), passes=passes)(*operands)
                for one, other in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
                    assert bits(one) == bits(other), f"{op} of {[str(type_of(x)) for x in operands]}"
            checked += 1
    assert checked


def bits(x) -> bytes:
    """The bytes of an array, every nan being the same."""
    x = np.array(x)
    if not is_float(x.dtype):
        return x.tobytes()
    nan = np.isnan(as_float(x))
    return np.where(nan, np.ones((), x.dtype), x).tobytes() + nan.tobytes()


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if list(op.samples(np.random.default_rng(0)))])
@pytest.mark.parametrize("backend", [b for b in CPU_BACKENDS if backends.find(b).agreement.reference])
def test_a_backend_that_promises_the_references_gives_their_bits(name: str, backend: str) -> None:
    op = OPS[name]
    for operands in op.samples(np.random.default_rng(0)):
        given = [as_array(x) for x in operands]
        with np.errstate(all="ignore"):
            expected = op(*given)
        for one, other in zip(ng.compile(graph_of(op, given), backend=backend)(*given),
                              expected if isinstance(expected, tuple) else (expected,), strict=True):
            assert bits(one) == bits(other)


@pytest.mark.parametrize("backend", [b for b in backends.BACKENDS if not backends.find(b).missing()])
def test_bits_repeat_as_a_backend_promises(backend: str) -> None:
    """From call to call, and for other numbers of threads: sums that many threads share, and products."""
    agreement = backends.find(backend).agreement
    assert agreement.repeated and agreement.threads, "a backend that promises less is to be tried for what it promises"
    x = np.random.default_rng(0).normal(size=(700, 300)).astype("f4")
    graph = ng.trace(lambda x: (np.tanh(x @ x.T).sum(), x.sum(0), np.exp(x).mean()), x)
    first, *others = [ng.to_numpy(ng.compile(graph, backend=backend, threads=threads)(x)) for threads in (1, 1, 2, 3)]
    for found in others:
        assert [*map(bits, found)] == [*map(bits, first)]


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if "|" in TABLE[op.name][1]])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_units_in_the_last_place(name: str, dtype: str) -> None:
    """Over the op's own samples; `tests/kernel/test_functions.py` has many more."""
    op = OPS[name]
    allowed = float(TABLE[op.name][1].split("|")[dtype == "f64"])
    for operands in op.samples(np.random.default_rng(0)):
        given = [as_array(x).astype(as_dtype(dtype)) for x in operands]
        with np.errstate(all="ignore"):
            wide = op.evaluate(*(x.astype(np.float64) for x in given)) if dtype == "f32" else op.evaluate(*given)
            (found,) = ng.compile(graph_of(op, given))(*given)
            assert np.max(errors(found, np.asarray(wide)), initial=0.0) <= allowed + (dtype == "f64")  # NumPy's own error


def test_the_tests_that_are_named_are_there() -> None:
    named = set(re.findall(r"tests/[\w/]+\.py", PAGE))
    assert len(named) > 10
    assert [n for n in named if not (ROOT / n).exists()] == []


# -- special values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["llvm", "numpy", None])
def test_special_values(backend: str | None) -> None:
    def run(fn, *args):
        return (ng.jit(fn, backend=backend) if backend else fn)(*args)

    nothing = np.zeros((0, 3), "f4")
    np.testing.assert_array_equal(run(lambda x: x.sum(0), nothing), [0, 0, 0])
    np.testing.assert_array_equal(run(lambda x: x.prod(0), nothing), [1, 1, 1])
    np.testing.assert_array_equal(run(lambda x: np.all(x > 0, axis=0), nothing), [True] * 3)
    whole = np.array([2, 1, -1, 3], "i4")
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(run(ng.numpy.floor_divide, whole, whole * 0), [0] * 4)
    assert np.signbit(run(lambda x: x + 0.0, np.array([-0.0]))).tolist() == [False]
    small = np.array([3, 255], "u1")
    assert run(lambda x: x < 300, small).tolist() == [True, True] and run(lambda x: x == -1, small).tolist() == [False, False]
    half = np.ones(2, ng.bfloat16)
    assert run(lambda x: ng.numpy.multiply(x, 2.5), half).dtype == ng.bfloat16


def test_the_same_bits_for_any_number_of_threads() -> None:
    x = np.random.default_rng(0).normal(size=(700, 130)).astype("f4")

    def step(x):
        return ng.nn.functional.softmax(x @ x.T).sum(0), np.cumsum(x, 0).std(), ng.grad(lambda x: (x @ x.T).mean())(x)

    one, two, five = (ng.jit(step, threads=n)(x) for n in (1, 2, 5))
    for a, b, c in zip(one, two, five):
        assert a.tobytes() == b.tobytes() == c.tobytes()
