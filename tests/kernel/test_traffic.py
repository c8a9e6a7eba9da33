"""The bytes of a kernel, counted by hand and by walking all of its loads and stores."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import nagraph as ng
from nagraph.kernel.form import Kernel, Load
from nagraph.kernel.traffic import traffic

RNG = np.random.default_rng(0)


def kernels(fn, *arrays):
    """The kernels of a function, each with the numbers of its operands' arrays and the sizes of all arrays."""
    executable = ng.compile(ng.trace(fn, *arrays), backend="llvm")
    sizes = [p.nbytes or None for p in executable.program.table]
    return [(x.kernel, x.slots, sizes) for x in executable.launches]


def walked(kernel: Kernel, arrays) -> tuple[int, int]:
    """Distinct elements that kernels without data in their indices load and store, in bytes: one point after another."""
    read, written = set(), set()
    for stage in kernel.stages:
        axes = [*range(kernel.grid), *stage.loops]
        for point in itertools.product(*(range(kernel.axes[a]) for a in axes)):
            at = dict(zip(axes, point))
            for accesses, places in ((stage.stores, written), ((i for i in stage.body if isinstance(i, Load)), read)):
                for i in accesses:
                    place = i.index.offset + sum(at[a] * c for a, c in i.index.terms)
                    places.add((arrays[i.operand], kernel.operands[i.operand].itemsize, place))
    return tuple(sum(itemsize for _, itemsize, _ in places) for places in (read, written))


X = RNG.normal(size=(6, 8)).astype("f4")
W = RNG.normal(size=(8, 5)).astype("f4")


@pytest.mark.parametrize("fn, given, read, written", [
    (np.tanh, (X,), 6 * 8 * 4, 6 * 8 * 4),
    (lambda x: x + x[0], (X,), 6 * 8 * 4, 6 * 8 * 4),
    (lambda x: x[1:3] * 2, (X,), 2 * 8 * 4, 2 * 8 * 4),
    (lambda x: x[:, :4] + x[:, 4:], (X,), 6 * 8 * 4, 6 * 4 * 4),
    (lambda x: x.sum(1), (X,), 6 * 8 * 4, 6 * 4),
    (lambda x, w: x @ w, (X, W), (6 * 8 + 8 * 5) * 4, 6 * 5 * 4),
    (lambda x: x - x.max(1, keepdims=True), (X,), 6 * 8 * 4, 6 * 8 * 4),
    (lambda x: x[:, :-1] + x[:, 1:], (X,), 6 * 8 * 4, 6 * 7 * 4),
    (lambda x: x.astype("f8"), (X,), 6 * 8 * 4, 6 * 8 * 8),
])
def test_each_element_counts_once(fn, given, read, written) -> None:
    (kernel, arrays, sizes), = kernels(fn, *given)
    assert traffic(kernel, arrays, sizes) == (read, written) == walked(kernel, arrays)


def test_a_part_that_is_read_at_places_of_data_is_at_most_the_whole() -> None:
    ids = np.array([1, 1, 3], np.int64)
    (kernel, arrays, sizes), = kernels(lambda x, i: x[i], X, ids)
    assert traffic(kernel, arrays, sizes) == (3 * 8 * 4 + 3 * 8, 3 * 8 * 4)
    many = np.zeros(1000, np.int64)
    (kernel, arrays, sizes), = kernels(lambda x, i: x[i], X, many)
    assert traffic(kernel, arrays, sizes)[0] == X.nbytes + many.nbytes
    assert traffic(kernel, arrays, [None] * len(sizes))[0] > X.nbytes + many.nbytes, "where sizes are not known, every point counts"


def test_what_is_added_to_memory_is_read_from_it_as_well() -> None:
    i, u = np.array([1, 1, 3], np.int64), RNG.normal(size=(3, 8)).astype("f4")
    found = kernels(ng.grad(lambda x, i, u: (x[i] * u).sum()), X, i, u)
    (kernel, arrays, sizes), = [f for f in found if any(store.combine for stage in f[0].stages for store in stage.stores)]
    loaded = {arrays[i.operand] for s in kernel.stages for i in s.body if isinstance(i, Load)}
    assert arrays[-1] not in loaded and traffic(kernel, arrays, sizes)[0] > sum(sizes[a] for a in loaded)
