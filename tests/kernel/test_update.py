"""Updates in place: what changes is written, what stands there already is not."""

import math

import numpy as np
import pytest

import nagraph as ng
from nagraph.kernel.interpret import interpret_kernel
from nagraph.kernel.layout import row_major
from nagraph.kernel.lower import lower
from nagraph.kernel.update import lower_update, only_copies
from nagraph.kernel.verify import verify_kernel

RNG = np.random.default_rng(0)


def graph_of(x, update, starts):
    return ng.trace(lambda x, u, *at: ng.numpy.dynamic_update_slice(x, u, at), ng.spec(x, "float32"), ng.spec(update, "float32"),
                    *(ng.spec((), "int32") for _ in starts))


def points(kernel):
    return math.prod(kernel.axes[:kernel.grid])


@pytest.mark.parametrize("x, update, starts", [
    ((2, 3, 9, 4), (2, 3, 1, 4), (0, 0, 5, 0)),
    ((2, 3, 9, 4), (2, 3, 2, 4), (7, 7, 8, 7)),  # clipped so that the block fits
    ((9, 8), (3, 2), (-4, 3)),
    ((40,), (7,), (11,)),
])
def test_only_the_block_is_written(x, update, starts):
    graph = graph_of(x, update, starts)
    kernel = lower_update(graph, [row_major(v.shape) for v in graph.inputs], row_major(x))
    assert points(kernel) == math.prod(update)
    given = [RNG.normal(size=x).astype("f4"), RNG.normal(size=update).astype("f4"), *(np.array(s, np.int32) for s in starts)]
    expected = graph.nodes[-1].op.reference(*given)
    verify_kernel(kernel, {i: a.size for i, a in enumerate(given)})
    found = given[0].copy()
    interpret_kernel(kernel, [found, *given[1:]], [found])
    np.testing.assert_array_equal(found, expected)


def test_a_block_of_more_than_half_is_written_with_the_rest():
    graph = graph_of((6, 4), (4, 4), (0, 0))
    assert lower_update(graph, [row_major(v.shape) for v in graph.inputs], row_major((6, 4))) is None


def test_which_kernels_only_copy():
    spec = ng.spec((4, 6), "float32")
    assert only_copies(lower(ng.trace(lambda x: x, spec)))
    for fn in (lambda x: x.T, lambda x: -x, lambda x: np.pad(x, 1), lambda x: x.sum(axis=1)):
        assert not only_copies(lower(ng.trace(fn, spec)))


def append(cache, new, at):
    cache = ng.numpy.dynamic_update_slice(cache, new, (0, at, 0))
    return cache, cache.sum(axis=2)


@pytest.mark.parametrize("donated", [(), ("cache",)])
def test_a_cache_that_is_donated_grows_in_place_and_another_is_copied(donated):
    run = ng.jit(append, donate_argnames=donated)
    cache = RNG.normal(size=(3, 50, 8)).astype("f4")
    for at in (0, 7, 49, 60, -1):
        new = RNG.normal(size=(3, 1, 8)).astype("f4")
        expected = cache.copy()
        expected[:, min(max(at, 0), 49)] = new[:, 0]
        before, kept = cache, cache.copy()
        cache, sums = run(cache, new, np.int32(at))
        np.testing.assert_array_equal(cache, expected)
        np.testing.assert_allclose(sums, expected.sum(axis=2), rtol=1e-5, atol=1e-5)
        if donated:
            assert np.shares_memory(cache, before)
        else:
            np.testing.assert_array_equal(before, kept)
    kernels = [launch.kernel for launch in run.lower(cache, new, np.int32(0)).executable.launches]
    assert [only_copies(k) for k in kernels[:2]] == [True, False] and points(kernels[1]) == 24


def test_of_an_array_that_nobody_needs_any_more_nothing_is_copied():
    def double(x, new, at):
        return ng.numpy.dynamic_update_slice(np.tanh(x), new, (at, 0)) @ np.ones((8, 8), np.float32)

    x, new = RNG.normal(size=(64, 8)).astype("f4"), RNG.normal(size=(1, 8)).astype("f4")
    executable = ng.jit(double).lower(x, new, np.int32(3)).executable
    kernels = [launch.kernel for launch in executable.launches]
    assert not any(map(only_copies, kernels)) and points(kernels[1]) == 8
    expected = np.tanh(x)
    expected[3] = new
    np.testing.assert_allclose(executable(x, new, np.int32(3))[0], expected @ np.ones((8, 8)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("passes", [None, ""])
def test_a_value_joined_with_what_it_was_before_the_update(axis, passes):
    """Both stand in the joined value, so they have one pointer; the update is no update in place for all that."""
    def both(x, new, at):
        y = x * 2
        return np.concatenate([ng.numpy.dynamic_update_slice(y, new, (at, 0, 0)), y], axis=axis).astype("float16")

    x, new, at = np.arange(8, dtype="f4").reshape(2, 2, 2), np.full((1, 2, 2), 9, "f4"), np.int32(1)
    executable = ng.compile(ng.trace(both, x, new, at), passes=passes)
    assert passes is None or any(step.joined for step in executable.plan.steps)
    np.testing.assert_array_equal(executable(x, new, at)[0], both(x, new, at))
