"""Index expressions follow NumPy; gather, scatter and dynamic slices keep their rules."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nagraph.errors import TypeRuleError
from nagraph.ir import build, spec
from nagraph.ops.dynamic_slice import DynamicSlice, DynamicUpdateSlice, dynamic_slice
from nagraph.ops.indexing import Gather, Scatter, take, take_along_axis
from nagraph.ops.subscript import add_at, index, max_at, min_at, set_at
from tests.support import check_batching, check_derivatives, evaluate

RNG = np.random.default_rng(0)


@st.composite
def subscripts(draw):
    """An array, and an index expression of numbers, slices, None, ... and integer arrays for it."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    basic = draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True, max_dims=6))
    items = list(basic) if isinstance(basic, tuple) else [basic]
    common = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3))
    if Ellipsis not in items:
        axis = 0
        for place, item in enumerate(items):
            if item is None:
                continue
            if draw(st.booleans()):
                size = shape[axis]
                items[place] = draw(hnp.arrays(np.int64, common, elements=st.integers(-size, size - 1)))
            axis += 1
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape), tuple(items)


@settings(max_examples=200, deadline=None)
@given(subscripts())
def test_reading_follows_numpy(case):
    x, expression = case
    got = index(x, expression)
    assert got.shape == x[expression].shape
    np.testing.assert_array_equal(got, x[expression])


@settings(max_examples=200, deadline=None)
@given(subscripts())
def test_writing_follows_numpy(case):
    x, expression = case
    value = RNG.normal(size=x[expression].shape)
    want = x.copy()
    want[expression] = value
    np.testing.assert_array_equal(set_at(x, expression, value), want)
    for update, ufunc in ((add_at, np.add), (max_at, np.maximum), (min_at, np.minimum)):
        want = x.copy()
        ufunc.at(want, expression, value)
        np.testing.assert_allclose(update(x, expression, value), want)


@pytest.mark.parametrize("dear", [0, 10**9], ids=["by their places", "as slices"])
@settings(max_examples=40, deadline=None)
@given(case=subscripts())
def test_both_ways_of_writing_slices_follow_numpy(dear, case):
    """Eagerly and traced, few elements of slices and many."""
    x, expression = case
    value = RNG.normal(size=x[expression].shape)
    want = x.copy()
    np.add.at(want, expression, value)
    with mock.patch("nagraph.ops.subscript.DEAR", dear):
        np.testing.assert_allclose(add_at(x, expression, value), want)
        graph = build("f", [spec(x.shape, "f64"), spec(value.shape, "f64")], lambda x, v: [add_at(x, expression, v)])
    np.testing.assert_allclose(evaluate(graph, x, value)[0], want)


def test_masks_and_lists():
    x = RNG.normal(size=(3, 4))
    np.testing.assert_array_equal(index(x, x > 0), x[x > 0])
    np.testing.assert_array_equal(index(x, (..., x[0] > 0)), x[..., x[0] > 0])
    np.testing.assert_array_equal(index(x, [2, 0]), x[[2, 0]])
    assert index(x, []).shape == (0, 4)


def test_values_broadcast_when_written():
    x = np.zeros((3, 4), np.float32)
    got = set_at(x, (slice(None), 1), 7)
    assert got.dtype == np.float32 and got[:, 1].tolist() == [7, 7, 7] and got.sum() == 21
    with pytest.raises(TypeRuleError, match="does not broadcast"):
        set_at(x, 0, np.ones(3))


def test_traced_indices_read_and_write():
    types = [spec((3, 4), "f64"), spec((), "i32"), spec((2,), "i64")]
    graph = build("f", types, lambda x, i, j: [x[i], x[:, i], x[i, j], x[-1, ::-1], x[j, None, i]])
    x, i, j = RNG.normal(size=(3, 4)), np.int32(1), np.array([-1, 2])
    for got, want in zip(evaluate(graph, x, i, j), [x[i], x[:, i], x[i, j], x[-1, ::-1], x[j, None, i]]):
        np.testing.assert_array_equal(got, want)


def test_traced_mask_and_slice_bounds_are_refused():
    with pytest.raises(TypeRuleError, match="where"):
        build("f", [spec((3,), "f32"), spec((3,), "bool")], lambda x, m: [x[m]])
    with pytest.raises(TypeRuleError, match="dynamic_slice"):
        build("f", [spec((3,), "f32"), spec((), "i32")], lambda x, i: [x[i:]])


def test_static_indices_out_of_range_are_refused_and_end_iteration():
    x = np.ones((2, 3))
    for bad in (2, -3, (0, 3), np.array([0, 2])):
        with pytest.raises(TypeRuleError, match="out of range"):
            index(x, bad)
    with pytest.raises(IndexError):
        index(x, 5)
    with pytest.raises(TypeRuleError, match="3 indices"):
        index(x, (0, 0, 0))


def test_take_and_clipping():
    x, i = RNG.normal(size=(3, 4, 5)), np.array([[0, -1], [2, 1]])
    for axis in (0, 1, -1):
        np.testing.assert_array_equal(take(x, i, axis), np.take(x, i, axis))
    np.testing.assert_array_equal(take(x, i), np.take(x, i))
    np.testing.assert_array_equal(take(x, np.array([9, -9]), 1), x[:, [3, 0]])
    assert take(x, np.zeros((0,), np.int64), 1).shape == (3, 0, 5)
    assert take(np.zeros((0, 2)), np.zeros((0,), np.int64), 0).shape == (0, 2)
    with pytest.raises(TypeRuleError, match="empty"):
        take(np.zeros((0, 2)), np.zeros((1,), np.int64), 0)
    with pytest.raises(TypeRuleError, match="integer"):
        take(x, np.array([0.5]), 0)


@pytest.mark.parametrize("shape", [(4, 2, 6), (1, 2, 6), (4, 2, 1)])
def test_take_along_axis_follows_numpy(shape):
    x, i = RNG.normal(size=(4, 5, 6)), RNG.integers(-5, 5, shape)
    np.testing.assert_array_equal(take_along_axis(x, i, 1), np.take_along_axis(x, i, 1))


def test_scatter_modes_against_a_loop():
    x, u, i = RNG.normal(size=(4, 3)), RNG.normal(size=(6, 3)), np.array([3, 0, 3, 3, 1, 0])
    steps = {"set": lambda a, b: b, "add": np.add, "max": np.maximum, "min": np.minimum}
    for mode, step in steps.items():
        want = x.copy()
        for k, place in enumerate(i):
            want[place] = step(want[place], u[k])
        np.testing.assert_allclose(Scatter((0,), mode)(x, u, i), want)


OPS = [
    Gather((0,)), Gather((1,)), Gather((0, 2)), Gather((1, 2)),
    Scatter((0,), "add"), Scatter((0, 2), "add"), Scatter((1,), "set"), Scatter((0, 2), "set"),
    Scatter((1,), "max"), Scatter((0,), "min"), DynamicSlice((2, 3)), DynamicUpdateSlice(),
]


@pytest.mark.parametrize("op", OPS, ids=str)
def test_rules(op):
    for operands in op.samples(RNG):
        check_batching(op, operands)
        if operands[0].dtype == np.float64:
            check_derivatives(op, operands)


def test_updates_trace():
    def body(x, i, v):
        every_other, down = slice(None, None, 2), slice(3, 0, -1)
        return [set_at(x, (i, every_other), v), add_at(x, (slice(None), i), v[:1]), max_at(x, (down, 1), v[0])]

    x, i, v = RNG.normal(size=(4, 4)), np.array([2, 0, 2]), RNG.normal(size=(2,))
    graph = build("f", [spec((4, 4), "f64"), spec((3,), "i64"), spec((2,), "f64")], body)
    for got, want in zip(evaluate(graph, x, i, v), body(x, i, v), strict=True):
        np.testing.assert_allclose(got, want)


def test_dynamic_slices_are_clipped():
    x = np.arange(20.0).reshape(4, 5)
    np.testing.assert_array_equal(dynamic_slice(x, (3, -7), (2, 2)), x[2:4, 0:2])
    assert dynamic_slice(x, (1, 1), (0, 3)).shape == (0, 3)
    with pytest.raises(TypeRuleError, match="does not fit"):
        dynamic_slice(x, (0, 0), (5, 1))
