"""Updates in place: what changes is written, what stands there already is not."""

import math

import numpy as np
import pytest

import nagraph as ng
from nagraph.kernel.interpret import interpret_kernel
from nagraph.kernel.layout import row_major
from nagraph.kernel.update import lower_update
from nagraph.kernel.verify import verify_kernel
from nagraph.program.instructions import Differ

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


@pytest.mark.parametrize("mode", ["set_at", "add_at", "max_at", "min_at"])
@pytest.mark.parametrize("x, index", [
    ((9, 4), (np.array([3, 3, -1, 99, 0]),)),  # what comes twice, from the end, out of range
    ((5, 3, 4), (slice(None), np.array([[2], [0]]))),
    ((5, 3, 4), (np.array([4, 0]), slice(None), np.array([1, 1]))),
    ((7,), (np.array([6, 6, 1]),)),
    ((4, 3), (np.zeros((0,), np.int64),)),
])
def test_of_a_scatter_only_the_updates_are_written(x, index, mode):
    moving = [i for i in index if isinstance(i, np.ndarray)]
    place = iter(range(len(moving)))
    where = [next(place) if isinstance(i, np.ndarray) else None for i in index]

    def fn(x, u, *at):
        return getattr(ng.numpy, mode)(x, tuple(slice(None) if w is None else at[w] for w in where), u)

    given = RNG.integers(-9, 9, x).astype("f4")
    update = RNG.integers(-9, 9, np.zeros(x)[tuple(np.zeros_like(i) if isinstance(i, np.ndarray) else i for i in index)].shape).astype("f4")
    graph = ng.trace(fn, given, update, *moving)
    arrays = [given, *(dict(zip(graph.inputs, (given, update, *moving)))[v] for v in graph.inputs[1:])]
    node = next(n for n in graph.nodes if n.op.name == "scatter")
    if node.operands[1:] != graph.inputs[1:]:
        pytest.skip("its operands are moved first")
    kernel = lower_update(graph, [row_major(v.shape) for v in graph.inputs], row_major(x))
    assert math.prod(kernel.axes) == update.size
    verify_kernel(kernel, {i: a.size for i, a in enumerate(arrays)})
    found = given.copy()
    interpret_kernel(kernel, [found, *arrays[1:]], [found])
    np.testing.assert_array_equal(found, node.op.reference(*arrays))


def test_a_block_of_more_than_half_is_written_with_the_rest():
    for rows, expected in ((3, ["copy", "dynamic_update_slice"]), (4, ["dynamic_update_slice"])):
        graph = graph_of((6, 4), (rows, 4), (0, 0))
        assert [x.node.op.name if x.node else "copy" for x in ng.compile(graph, backend="llvm").launches] == expected


def test_a_kernel_that_reads_what_it_changes_is_no_update():
    graph = ng.trace(lambda x: ng.numpy.set_at(x, (np.array([1, 0, 0, 2, 1]),), x), ng.spec((5, 4), "float32"))
    assert lower_update(graph, [row_major((5, 4)), row_major((5,))], row_major((5, 4))) is None


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
    program = run.lower(cache, new, np.int32(0)).executable.program
    assert program.launches[0].node is None and points(program.launches[1].kernel) == 24
    assert any(isinstance(i, Differ) for i in program.instructions) == bool(donated), "who donates has nothing copied"


def test_of_an_array_that_nobody_needs_any_more_nothing_is_copied():
    def double(x, new, at):
        return ng.numpy.dynamic_update_slice(np.tanh(x), new, (at, 0)) @ np.ones((8, 8), np.float32)

    x, new = RNG.normal(size=(64, 8)).astype("f4"), RNG.normal(size=(1, 8)).astype("f4")
    executable = ng.jit(double).lower(x, new, np.int32(3)).executable
    kernels = [launch.kernel for launch in executable.launches]
    assert None not in [launch.node for launch in executable.launches] and points(kernels[1]) == 8
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
