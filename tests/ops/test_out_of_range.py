"""What an index beyond its axis means: it counts from the end where it is negative, and is then clipped; never another array's memory.

Indices that are known when a graph is made are refused, as NumPy refuses them. The oracle is a loop over Python's own integers.
"""

from __future__ import annotations

import numpy as np
import pytest

import nagraph as ng
from nagraph import numpy as nn
from nagraph.ir.types import INTEGERS
from tests.support import CPU_BACKENDS

WAYS = [None, *CPU_BACKENDS]
RNG = np.random.default_rng(0)
GUARD = 1e30


def run(way, fn, **options):
    return fn if way is None else ng.jit(fn, backend=way, **options)


def clipped(index: int, size: int) -> int:
    return min(max(index + size if index < 0 else index, 0), size - 1)


def places(indices, size):
    """Where indices lead on an axis of this size."""
    return np.array([clipped(int(i), size) for i in indices.reshape(-1)], np.int64).reshape(indices.shape)


def indices(dtype, shape, size):
    """Numbers of a dtype: in range, just outside, far outside, and the extremes."""
    limits = np.iinfo(dtype)
    numbers = (0, 1, size - 1, size, size + 1, -1, -2, 1 - size, -size, -size - 1, -size - 7, 255, 2**31, -2**31, 2**32, 2**40, -2**40,
               limits.min, limits.max)
    some = [n for n in numbers if limits.min <= n <= limits.max]
    return RNG.choice(np.array(some, object), shape).astype(dtype)


def guarded(*shape):
    """An array in the middle of another one, whose other elements no result may hold."""
    size = int(np.prod(shape))
    around = np.full(size + 2048, GUARD)
    around[1024:1024 + size] = RNG.normal(size=size)
    return around[1024:1024 + size].reshape(shape)


dtypes = pytest.mark.parametrize("dtype", sorted(INTEGERS, key=str), ids=str)
ways = pytest.mark.parametrize("way", WAYS)


@ways
@dtypes
@pytest.mark.parametrize("size", [1, 2, 3, 17, 300])
def test_reading(way, dtype, size):
    x, i = guarded(4, size, 3), indices(dtype, (5, 7), size)
    where = places(i, size)
    np.testing.assert_array_equal(run(way, lambda x, i: nn.take(x, i, 1))(x, i), x[:, where])
    np.testing.assert_array_equal(run(way, lambda x, i: nn.take(x, i))(x[:, :, 0].copy(), i),
                                  x[:, :, 0].reshape(-1)[places(i, 4 * size)])
    j = indices(dtype, (4, 6, 3), size)
    np.testing.assert_array_equal(run(way, lambda x, j: nn.take_along_axis(x, j, 1))(x, j), np.take_along_axis(x, places(j, size), 1))
    if way is None:
        return
    np.testing.assert_array_equal(run(way, lambda x, i: x[:, i])(x, i), x[:, where])
    np.testing.assert_array_equal(run(way, lambda x, i: x[i, i])(x, i), x[places(i, 4), where])
    np.testing.assert_array_equal(run(way, lambda x, i: x[i[0, 0]])(x, i), x[places(i, 4)[0, 0]])
    np.testing.assert_array_equal(run(way, ng.vmap(lambda x, i: x[i]))(x, i[:4]), [a[k] for a, k in zip(x, where)])


COMBINE = {"set_at": lambda old, new: new, "add_at": np.add, "max_at": np.maximum, "min_at": np.minimum}


@pytest.mark.parametrize("way", CPU_BACKENDS)
@dtypes
@pytest.mark.parametrize("size", [1, 2, 17])
@pytest.mark.parametrize("name", COMBINE)
def test_writing(way, dtype, size, name):
    x, i = RNG.normal(size=(size, 3)), indices(dtype, (9,), size)
    values = RNG.normal(size=(9, 3))
    expected = x.copy()
    for k, v in zip(places(i, size), values):
        expected[k] = COMBINE[name](expected[k], v)
    update = getattr(nn, name)
    np.testing.assert_allclose(run(way, lambda x, i, v: update(x, i, v))(x, i, values), expected, rtol=1e-12)
    donating = run(way, lambda x, i, v: update(x, i, v), donate_argnames="x")
    np.testing.assert_allclose(donating(x.copy(), i, values), expected, rtol=1e-12)


@pytest.mark.parametrize("way", CPU_BACKENDS)
@dtypes
def test_gradients_go_where_the_values_came_from(way, dtype):
    x, i, w = RNG.normal(size=(5, 2)), indices(dtype, (8,), 5), RNG.normal(size=(8, 2))
    expected = np.zeros((5, 2))
    np.add.at(expected, places(i, 5), w)
    found = run(way, lambda x, i, w: ng.grad(lambda x: (x[i] * w).sum())(x))(x, i, w)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@ways
@dtypes
@pytest.mark.parametrize("size", [0, 1, 5, 200])
def test_one_hot_of_no_class_is_a_row_of_zeros(way, dtype, size):
    i = indices(dtype, (9,), max(size, 1))
    expected = np.array([[float(int(k) == c) for c in range(size)] for k in i], np.float32).reshape(9, size)
    np.testing.assert_array_equal(run(way, lambda i: nn.one_hot(i, size))(i), expected)


@pytest.mark.parametrize("way", CPU_BACKENDS)
@dtypes
def test_blocks_are_moved_until_they_fit(way, dtype):
    """Their starts do not count from the end."""
    x = guarded(7, 6)
    for i, j in zip(indices(dtype, (12,), 7), indices(dtype, (12,), 6)):
        a, b = min(max(int(i), 0), 7 - 3), min(max(int(j), 0), 6 - 2)
        found = run(way, lambda x, i, j: nn.dynamic_slice(x, (i, j), (3, 2)))(x, i, j)
        np.testing.assert_array_equal(found, x[a:a + 3, b:b + 2])
        expected = x.copy()
        expected[a:a + 3, b:b + 2] = 9
        found = run(way, lambda x, i, j: nn.dynamic_update_slice(x, np.full((3, 2), 9.0), (i, j)))(x, i, j)
        np.testing.assert_array_equal(found, expected)


def test_what_is_known_is_refused():
    x = np.ones((3, 4))
    for bad in (3, -4, (0, 4), np.array([0, 3]), [0, -4], (slice(None), np.array([4]))):
        for update in (nn.set_at, nn.add_at, nn.max_at, nn.min_at):
            with pytest.raises(IndexError, match="out of range"):
                update(x, bad, 1)
        for way in CPU_BACKENDS:
            with pytest.raises(IndexError, match="out of range"):
                run(way, lambda x, bad=bad: x[bad])(x)


@ways
def test_an_empty_axis_has_no_element(way):
    for fn in (lambda x, i: nn.take(x, i, 0), lambda x, i: nn.take_along_axis(x, i[:, None], 0)):
        with pytest.raises(TypeError, match="empty"):
            run(way, fn)(np.zeros((0, 1)), np.zeros(1, int))
        assert run(way, fn)(np.zeros((0, 1)), np.zeros(0, int)).size == 0
