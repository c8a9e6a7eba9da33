"""Arrays that a traced function captures: a graph holds what they were when they were used, whoever writes them afterwards."""

from __future__ import annotations

import numpy as np
import pytest

import nagraph as ng
from nagraph.ir.interpret import interpret

SIZES = (0, 1, 3, 16, 17, 33, 1000)


def layouts(size: int):
    """Writable arrays of `size` elements in every layout that NumPy has, with the function that changes them."""
    yield "row-major", np.arange(float(size))
    yield "reversed", np.arange(float(size))[::-1]
    yield "strided", np.arange(2.0 * size)[::2]
    yield "byte-swapped", np.arange(float(size)).astype(">f8")
    yield "float32", np.arange(float(size), dtype=np.float32)
    yield "integers", np.arange(size, dtype=np.int16)
    yield "bools", np.zeros(size, bool)
    yield "columns", np.asfortranarray(np.arange(4.0 * size).reshape(4, size))
    yield "zeros of both signs", np.zeros(size)


CASES = [pytest.param(a, id=f"{size} {name}") for size in SIZES for name, a in layouts(size)]
PLACES = {
    "plain": lambda f, x: f(x),
    "grad": lambda f, x: ng.grad(lambda y: f(y).sum())(x),
    "vmap": lambda f, x: ng.vmap(f)(x[None]),
    "scan": lambda f, x: ng.scan(lambda c, _: (c, f(x)), x, length=2)[1],
    "cond": lambda f, x: ng.cond(True, f, f, x),
    "checkpoint": lambda f, x: ng.checkpoint(f)(x),
}


@pytest.mark.parametrize("a", CASES)
@pytest.mark.parametrize("place", PLACES)
def test_an_array_written_between_two_captures_is_taken_twice(a, place):
    a = a.copy(order="K")  # cases are shared by the places
    before = a.copy()
    change = np.logical_not if a.dtype == bool else np.negative

    def f(x):
        y = x * a
        change(a, out=a)
        z = x * 10 * a
        z = z + x * 100 * a
        change(a, out=a)
        return y + z + 1000 * x * a

    x = np.ones(a.shape)
    graph = ng.trace(lambda x: PLACES[place](f, x), x)
    after = change(before)
    a[...] = 7  # what happens afterwards is nobody's business either
    (found,) = interpret(graph, (x,))
    expected = PLACES["plain"](lambda x: x * before + x * 10 * after + x * 100 * after + 1000 * x * before, x)
    np.testing.assert_allclose(np.broadcast_to(found, (*found.shape[:found.ndim - a.ndim], *a.shape)),
                               np.broadcast_to(expected, found.shape))


def test_an_array_that_nobody_writes_is_copied_once():
    a = np.arange(1000.0)
    graph = ng.trace(lambda x: x * a + ng.scan(lambda c, _: (c + a, None), x, length=3)[0] + a, np.ones(1000))
    constants = [n.op.value for g in (graph, *(r for n in graph.nodes for r in n.op.regions.values())) for n in g.nodes
                 if n.op.name == "const" and n.result.shape == (1000,)]
    assert len(set(map(id, constants))) == 1
