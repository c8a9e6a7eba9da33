"""Donated arguments: written in place where they can be, copied and explained where they can't; what is not donated is never written."""

from collections import namedtuple

import numpy as np
import pytest

import nagraph as ng

Pair = namedtuple("Pair", "a b")


def sgd(w, g):
    return w - 0.5 * g


def test_a_donated_array_is_updated_in_place_and_returned():
    f = ng.jit(sgd, donate_argnames="w")
    w = np.ones(3)
    address = w.ctypes.data
    for n in range(3):
        found = f(w, np.ones(3))
        assert found is w and w.ctypes.data == address
        np.testing.assert_array_equal(w, 0.5 - n * 0.5)
    assert "copied" not in f.explain()


def test_donated_trees():
    @ng.jit(donate_argnames=("model", "state"))
    def step(model, state, x):
        return {"w": model["w"] + x, "b": model["b"] * 2}, Pair(state.a + 1, state.b), model["w"].sum()

    model, state = {"w": np.ones((2, 2)), "b": np.ones(3, np.float32)}, Pair(np.zeros(4), np.arange(2))
    new_model, new_state, loss = step(model, state, 3.0)
    assert new_model["w"] is model["w"] and new_model["b"] is model["b"] and new_state.a is state.a
    np.testing.assert_array_equal(model["w"], np.full((2, 2), 4.0))
    np.testing.assert_array_equal(model["b"], [2, 2, 2])
    np.testing.assert_array_equal(new_state.b, [0, 1])
    assert loss == 4


def test_a_donated_array_that_other_results_still_read():
    f = ng.jit(lambda w: (w[::-1] * 2, w + 1, w.sum()), donate_argnames="w")
    w = np.arange(4.0)
    a, b, total = f(w)
    np.testing.assert_array_equal(a, [6, 4, 2, 0])
    np.testing.assert_array_equal(b, [1, 2, 3, 4])
    assert total == 6 and (a is w) != (b is w)


def test_two_donated_arrays_that_swap():
    f = ng.jit(lambda a, b: (b * 1.0, a + b), donate_argnames=("a", "b"))
    a, b = np.arange(3.0), np.ones(3)
    x, y = f(a, b)
    np.testing.assert_array_equal(x, np.ones(3))
    np.testing.assert_array_equal(y, np.arange(3) + 1)
    assert {id(x), id(y)} == {id(a), id(b)}


def read_only():
    w = np.ones((3, 4))
    w.flags.writeable = False
    return w


@pytest.mark.parametrize("make,why", [
    (read_only, "is read-only"), (lambda: np.ones((4, 3)).T, "is not C-contiguous"),
    (lambda: np.ones((3, 8))[:, ::2], "is not C-contiguous"),
    (lambda: np.ones((6, 4))[:3], "does not own its memory"), (lambda: np.ones((3, 4), ">f8"), "is byte-swapped"),
])
def test_what_can_not_be_donated_is_copied_and_explained(make, why):
    f = ng.jit(sgd, donate_argnames="w")
    w = make()
    found = f(w, np.ones((3, 4)))
    assert found is not w and not np.shares_memory(found, w)
    np.testing.assert_array_equal(found, np.full((3, 4), 0.5))
    np.testing.assert_array_equal(w, np.ones((3, 4)))
    assert f"w was donated but copied: it {why}" in f.explain()


def test_donated_arrays_that_overlap_another_argument_are_copied():
    f = ng.jit(sgd, donate_argnames="w")
    w = np.ones(3)
    for other in (w, w[::-1], w.reshape(3)[:]):
        assert f(w, other) is not w
        np.testing.assert_array_equal(w, np.ones(3))
    assert "w was donated but copied: it overlaps another argument" in f.explain()
    both = ng.jit(lambda a, b: (a + 1, b + 1), donate_argnames=("a", "b"))
    x, y = both(w, w)
    assert x is not w and y is not w and x is not y
    np.testing.assert_array_equal(w, np.ones(3))


def test_a_donated_array_in_another_place_than_it_came_in():
    """The array that a nested container holds goes to the first result of its type."""
    f = ng.jit(lambda xs: xs["a"] * 2, donate_argnames="xs")
    xs = {"a": np.ones(3), "b": np.zeros(3)}
    found = f(xs)
    np.testing.assert_array_equal(found, [2, 2, 2])
    assert found is xs["a"] or found is xs["b"]


def test_donating_open_ended_arguments():
    f = ng.jit(lambda *ws, **more: ([w + 1 for w in ws], {k: v * 2 for k, v in more.items()}), donate_argnames=("ws", "b"))
    a, b = np.ones(3), np.ones(4)
    (x,), y = f(a, b=b)
    assert x is a and y["b"] is b


def test_arguments_that_are_not_donated_are_never_written():
    def f(w, g, n):
        w = ng.numpy.set_at(w, 0, 9)
        return w * 2, np.sort(g), g[::-1] + n, ng.numpy.add_at(w, np.array([1, 1]), 1)

    w, g, n = np.arange(4.0), np.array([3.0, 1, 2, 0]), np.arange(4)
    for x in (w, g, n):
        x.flags.writeable = False
    kept = [x.copy() for x in (w, g, n)]
    compiled = ng.jit(f)
    for _ in range(2):
        compiled(w, g, n)
    for x in (w, g, n):
        x.flags.writeable = True
    compiled(w, g, n)
    for x, before in zip((w, g, n), kept):
        np.testing.assert_array_equal(x, before)
