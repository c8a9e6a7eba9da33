"""Convolution and pooling agree with loops, and their derivatives with differences."""

import itertools

import numpy as np
import pytest

from nagraph.errors import TypeRuleError
from nagraph.ops.convolution import ConvGeneral, conv, conv_transpose
from nagraph.ops.pooling import WindowArgmax, WindowMax, WindowPut, WindowSum, avg_pool, max_pool
from tests.support import check_batching, check_derivatives

RNG = np.random.default_rng(0)


def by_loops(x, w, stride, padding, dilation, groups):
    """The definition, one product at a time."""
    n, o, d = x.shape[0], w.shape[0], x.ndim - 2
    x = np.pad(x, ((0, 0), (0, 0), *((padding, padding),) * d))
    out = [(a - (k - 1) * dilation - 1) // stride + 1 for a, k in zip(x.shape[2:], w.shape[2:])]
    y = np.zeros((n, o, *out))
    for b, j, p, c, k in itertools.product(
        range(n), range(o), np.ndindex(*out), range(w.shape[1]), np.ndindex(*w.shape[2:])
    ):
        at = tuple(stride * q + dilation * r for q, r in zip(p, k))
        y[(b, j, *p)] += x[(b, j // (o // groups) * w.shape[1] + c, *at)] * w[(j, c, *k)]
    return y


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("stride,padding,dilation,groups", [(1, 0, 1, 1), (2, 1, 1, 2), (2, 2, 2, 1), (3, 1, 1, 4)])
def test_conv_is_its_definition(d, stride, padding, dilation, groups):
    x, w = RNG.normal(size=(2, 4, *range(5, 5 + d))), RNG.normal(size=(4, 4 // groups, *(3, 2, 2)[:d]))
    got = conv(x, w, stride, padding, dilation, groups)
    np.testing.assert_allclose(got, by_loops(x, w, stride, padding, dilation, groups), atol=1e-12)


@pytest.mark.parametrize("stride,padding,extra,dilation,groups", [(1, 0, 0, 1, 1), (2, 1, 1, 1, 2), (3, 2, 0, 2, 1)])
def test_conv_transpose_is_the_transpose(stride, padding, extra, dilation, groups):
    y, w = RNG.normal(size=(2, 4, 5, 4)), RNG.normal(size=(4, 6 // groups, 3, 2))
    x = conv_transpose(y, w, stride, padding, extra, dilation, groups)
    assert x.shape[1] == 6
    ct = RNG.normal(size=x.shape)
    back = conv(ct, w, stride, padding, dilation, groups)
    np.testing.assert_allclose(np.vdot(x, ct), np.vdot(y, back))


CONVS = [
    ConvGeneral((2,), ((1, 2),), (2,), (1,), 1),
    ConvGeneral((1, 2), ((0, 1), (1, 0)), (1, 1), (2, 1), 2),
    ConvGeneral((3, 2), ((-1, 2), (1, -1)), (1, 2), (1, 3), 1),
    ConvGeneral((2, 1, 1), ((1, 1), (0, 0), (1, 0)), (1, 1, 2), (1, 1, 1), 1),
]


@pytest.mark.parametrize("op", CONVS, ids=str)
def test_conv_rules(op):
    for operands in op.samples(RNG):
        check_batching(op, operands)
        if operands[0].dtype == np.float64:
            check_derivatives(op, operands)


def test_zero_sizes():
    assert conv(np.ones((0, 2, 5)), np.ones((3, 2, 2))).shape == (0, 3, 4)
    assert conv(np.ones((1, 2, 1)), np.ones((3, 2, 2))).shape == (1, 3, 0)
    assert max_pool(np.ones((0, 2, 4)), 2).shape == (0, 2, 2)
    assert max_pool(np.ones((1, 2, 1)), 2).shape == (1, 2, 0)


def test_same_padding_keeps_sizes():
    assert conv(np.ones((1, 1, 7, 8)), np.ones((1, 1, 3, 4)), padding="same").shape == (1, 1, 7, 8)
    assert conv(np.ones((1, 1, 7, 8)), np.ones((1, 1, 3, 4)), 2, "same").shape == (1, 1, 4, 4)


def test_errors_name_the_shapes():
    with pytest.raises(TypeRuleError, match="channels"):
        conv(np.ones((1, 3, 5)), np.ones((2, 2, 2)))
    with pytest.raises(TypeRuleError, match="spatial axes"):
        conv(np.ones((1, 3, 5)), np.ones((2, 3, 2, 2)))
    with pytest.raises(TypeRuleError, match="less than the window"):
        max_pool(np.ones((1, 3, 5)), 2, 2, 2)


def windows(x, window, stride, pad, fill):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    rows, columns = ((n - window) // stride + 1 for n in x.shape[2:])
    grid = itertools.product(range(rows), range(columns))
    parts = [x[:, :, i * stride: i * stride + window, j * stride: j * stride + window] for i, j in grid]
    return np.stack(parts, 2).reshape(*x.shape[:2], rows, columns, window * window)


@pytest.mark.parametrize("window,stride,pad", [(2, 2, 0), (3, 2, 1), (2, 1, 1), (2, 3, 0)])
def test_pooling_is_its_definition(window, stride, pad):
    x = RNG.normal(size=(2, 3, 7, 6))
    np.testing.assert_array_equal(max_pool(x, window, stride, pad), windows(x, window, stride, pad, -np.inf).max(-1))
    np.testing.assert_allclose(avg_pool(x, window, stride, pad), windows(x, window, stride, pad, 0).mean(-1))
    got = avg_pool(x, window, stride, pad, count_padding=False)
    np.testing.assert_allclose(got, np.nanmean(windows(x, window, stride, pad, np.nan), -1))


def test_equal_maxima_send_the_gradient_to_the_first():
    x = np.zeros((1, 4))
    places = WindowArgmax((2,), (2,), ((0, 0),))(x)
    np.testing.assert_array_equal(WindowPut((4,), (2,), (2,), ((0, 0),))(np.ones((1, 2)), places), [[1, 0, 1, 0]])
    low = np.full((1, 2), -np.inf)
    np.testing.assert_array_equal(WindowArgmax((2,), (1,), ((1, 1),))(low), [[0, 0, 1]])


@pytest.mark.parametrize("kind", [WindowMax, WindowSum, WindowPut])
@pytest.mark.parametrize("window,stride,pad", [((2,), (2,), ((0, 0),)), ((3, 2), (2, 1), ((1, 0), (1, 1)))])
def test_pooling_rules(kind, window, stride, pad):
    sizes = ((7,),) if len(window) == 1 else ((6, 5),)
    op = kind(*(sizes if kind is WindowPut else ()), window, stride, pad)
    for operands in op.samples(RNG):
        check_batching(op, operands)
        if operands[0].dtype == np.float64:
            check_derivatives(op, operands)
