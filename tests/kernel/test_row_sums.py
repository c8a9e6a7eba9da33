"""Sums over rows that a kernel makes while it computes the rows: their parts, their form, and what comes of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nagraph as ng
from nagraph.analysis.row_sums import part_rows, sum_op, summed_rows
from nagraph.backends import find
from nagraph.ir.graph import Node, Value
from nagraph.kernel.interpret import interpret_kernel
from nagraph.kernel.lower import lower
from nagraph.kernel.verify import verify_kernel
from nagraph.nn import functional as F
from nagraph.ops.reduction import RowSum, Sum
from nagraph.thresholds import setting

RNG = np.random.default_rng(0)


def hidden(x, w, h):
    """The gradient of a tanh layer, and that of its bias."""
    d = (x @ w) * (1 - h * h)
    return d, d.sum(axis=tuple(range(d.ndim - 1)))


def arrays_of(*shapes, dtype="f4"):
    return [RNG.normal(size=s).astype(dtype) for s in shapes]


def sweeping(executable):
    return [launch.kernel for launch in executable.launches if launch.kernel is not None and launch.kernel.sequential]


@pytest.mark.parametrize("shape, count, expected", [
    ((16, 128, 104), 2, (1, 128)),  # a whole axis
    ((64, 8, 8, 128), 3, (1, 8)),
    ((64, 32, 32, 64), 3, (1, 32)),
    ((4, 1024, 256), 2, (1, 128)),  # of long sequences a part
    ((64, 65, 104), 2, (0, 4)),  # of short ones several: whole register tiles
    ((2048, 64), 1, (0, 128)),
])
def test_rows_are_cut_into_parts_that_make_good_blocks(shape, count, expected):
    assert part_rows(ng.trace(lambda x: x, ng.spec(shape, "float32")).inputs[0], count) == expected


@pytest.mark.parametrize("shape, count", [((4, 8, 104), 2), ((16, 128, 32), 2), ((64, 67), 1), ((128, 104), 1)])
def test_few_rows_or_short_ones_are_not_cut(shape, count):
    assert part_rows(ng.trace(lambda x: x, ng.spec(shape, "float32")).inputs[0], count) is None


@pytest.mark.parametrize("axes, expected", [((1,), 16 * 128), ((0,), None), ((2,), None), ((0, 1), None)])
def test_which_sums_can_be_made_along_the_rows(axes, expected):
    x = ng.trace(lambda x: x, ng.spec((16, 128, 64), "float32")).inputs[0]
    node = Node(op := sum_op(x, axes), (x,), (Value(x.type.with_shape(op.infer(x.type).shape)),))
    assert summed_rows(node) == expected and isinstance(op, Sum) and isinstance(op, RowSum) is (expected is not None)


def test_the_pass_marks_them_once():
    """What split makes, and what stood in the graph; a second run changes nothing."""
    def fn(x, y):
        return x.sum(axis=(0, 1)), y.sum(axis=1), y.sum(axis=0), y.max(axis=1)

    graph = ng.Pipeline.parse("split")(ng.trace(fn, ng.spec((16, 128, 104), "float32"), ng.spec((8, 67, 64), "float32")))
    marked = [(n.op.axes, n.operands[0].shape) for n in graph.nodes if isinstance(n.op, RowSum)]
    assert marked == [((1,), (16, 128, 104))]
    assert str(ng.Pipeline.parse("split")(graph)) == str(graph)
    whole = ng.Pipeline.parse("split,fuse{min_nbytes=0,kernels=True}")(ng.trace(lambda x, w: (x @ w).sum(1), *(
        ng.spec(s, "float32") for s in ((8, 64, 40), (40, 72)))))
    assert [[n.op.name for n in call.op.body.nodes] for call in whole.nodes] == [["dot_general", "row_sum"]]


def test_what_is_not_marked_is_summed_by_itself():
    """The kernel does not find out by itself what fits: without the mark the product and its sum are stages of their own."""
    graph = ng.trace(lambda x, w: (x @ w).sum(axis=1), *(ng.spec(s, "float32") for s in ((8, 64, 40), (40, 72))))
    assert lower(ng.Pipeline.parse("split")(graph)).sequential == 1
    assert lower(graph).sequential == 0


def test_the_kernel_adds_each_row_to_the_sum_of_its_part():
    graph = ng.Pipeline.parse("split")(ng.trace(lambda x, w, h: ((d := (x @ w) * h), d.sum(axis=1)),
                                                *(ng.spec(s, "float32") for s in ((8, 64, 5), (5, 72), (8, 64, 72)))))
    kernel = lower(graph)
    assert kernel.axes[:kernel.grid] == (8, 64) and kernel.sequential == 1 and "p4[72*a0 + a2] row sum = " in str(kernel)
    arrays = arrays_of((8, 64, 5), (5, 72), (8, 64, 72))
    outputs = [np.full(8 * 64 * 72, np.nan, "f4"), np.full(8 * 72, np.nan, "f4")]
    verify_kernel(kernel, {i: a.size for i, a in enumerate((*arrays, *outputs))})
    interpret_kernel(kernel, arrays, outputs)
    d = arrays[0] @ arrays[1] * arrays[2]
    np.testing.assert_allclose(outputs[0].reshape(d.shape), d, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs[1].reshape(8, 72), d.sum(axis=1), rtol=1e-5, atol=1e-4)


def test_a_sum_of_what_no_product_makes_is_a_kernel_that_reads_it():
    kernel = lower(ng.trace(lambda x: (x * x).sum(axis=1), ng.spec((8, 64, 72), "float32")))
    assert kernel.sequential == 0


@pytest.mark.parametrize("rows, blocks", [((16, 128), "one"), ((64, 65), "two"), ((8, 512), "several"), ((2304,), "flat")])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gradients_of_biases_are_summed_while_a_product_makes_their_rows(rows, blocks, dtype):
    arrays = arrays_of((*rows, 40), (40, 96), (*rows, 96), dtype=dtype)
    runs = [ng.jit(hidden, threads=threads) for threads in (1, 2, 3)]
    executable = runs[0].lower(*arrays).executable
    (kernel,) = sweeping(executable)
    large = arrays[2].nbytes
    assert sum(v.type.nbytes == large for node in executable.graph.nodes for v in node.operands) == 1, "the rows are read again"
    found = [run(*arrays) for run in runs]
    exact = hidden(*(a.astype(np.float64) for a in arrays))
    bound = 1e-5 if dtype == "f4" else 1e-13
    for value, expected in zip(found[0], exact):
        assert np.abs(value - expected).max() <= bound * np.abs(expected).max()
    for other in found[1:]:
        for a, b in zip(found[0], other):
            np.testing.assert_array_equal(a, b)
    assert kernel.outputs == 2


def test_sums_over_images_are_made_by_the_convolution():
    def layer(x, w, v):
        y = F.relu(F.conv(x, w, padding=1))
        return F.conv(y, v, padding=1), y.sum(axis=(0, 2, 3)), (y * y).sum(axis=(0, 2, 3))

    arrays = arrays_of((16, 8, 12, 12), (64, 8, 3, 3), (4, 64, 3, 3))
    run = ng.jit(layer)
    (kernel,) = sweeping(run.lower(*arrays).executable)
    assert kernel.sequential == 2 and kernel.outputs == 3, "the columns and the rows of an image"
    exact = ng.jit(layer, backend="numpy")(*(a.astype("f8") for a in arrays))
    for value, expected in zip(run(*arrays), exact):
        assert np.abs(value - expected).max() <= 1e-5 * np.abs(expected).max()


def test_what_follows_from_a_sum_is_computed_after_it():
    def normalised(x, w):
        y = x @ w
        centred = y - y.mean(axis=(0, 1))
        return centred / np.sqrt((centred * centred).mean(axis=(0, 1)) + 1e-5)

    arrays = arrays_of((16, 64, 24), (24, 64))
    run = ng.jit(normalised)
    (kernel,) = sweeping(run.lower(*arrays).executable)
    assert sum(store.row_sum for stage in kernel.stages for store in stage.stores) == 1, "the mean alone, not the variance"
    np.testing.assert_allclose(run(*arrays), normalised(*arrays), rtol=1e-4, atol=1e-4)


def test_a_wide_product_is_summed_in_panels():
    def layer(x, w, h):
        d = (x @ w) * h
        return d, d.sum(axis=(0, 1))

    arrays = arrays_of((8, 64, 256), (256, 1024), (8, 64, 1024))
    run = ng.jit(layer)
    (kernel,) = sweeping(run.lower(*arrays).executable)
    d = arrays[0].astype("f8") @ arrays[1] * arrays[2]
    for value, expected in zip(run(*arrays), (d, d.sum(axis=(0, 1)))):
        assert np.abs(value - expected).max() <= 1e-5 * np.abs(expected).max()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(60, 80), st.integers(1, 40),
       st.lists(st.tuples(st.sampled_from(["d", "d * h", "np.tanh(d)", "d - d.mean(axis=-1, keepdims=True)", "h"]),
                          st.sampled_from([(0, 1), (1,), (0,), (2,), (0, 1, 2)])), min_size=1, max_size=4), st.booleans())
def test_any_sums_of_what_a_product_makes(batch, rows, columns, depth, sums, flat):
    def layer(x, w, h):
        d = np.reshape(np.reshape(x, (batch * rows, depth)) @ w, h.shape) if flat else x @ w
        return d * h, *(eval(text, {"np": np, "d": d, "h": h}).sum(axis=axes) for text, axes in sums)

    arrays = arrays_of((batch, rows, depth), (depth, columns), (batch, rows, columns), dtype="f8")
    for found, expected in zip(ng.jit(layer)(*arrays), layer(*arrays), strict=True):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-12 * max(1, np.abs(arrays[0] @ arrays[1]).sum(axis=(0, 1)).max())


#: What may stand between a product and a sum of its rows; nothing is one of them.
BETWEEN = [lambda d, b: d, lambda d, b: d + b, lambda d, b: d * b, lambda d, b: d + d]


def any_sum(rng):
    """A function that reduces a product (of two or three axes, or one that is reshaped before), alone or beside the product; arrays."""
    lead = tuple(int(n) for n in rng.choice([1, 2, 3, 4, 6, 8, 17], size=rng.integers(1, 4)))
    depth, columns = (int(n) for n in rng.choice([1, 2, 3, 5, 17], size=2))
    dtype = rng.choice(["float32", "float64", "float16", "int32", "int8", "uint8", "bool"], p=[.4, .2, .1, .1, .1, .05, .05])
    axes = tuple(int(a) for a in np.flatnonzero(rng.random(len(lead) + 1) < 0.6))
    if rng.random() < 0.5:
        axes = tuple(range(int(rng.integers(len(lead))), len(lead)))
    reduce, between, flat, beside = rng.choice([np.sum, np.mean, np.max]), rng.choice(BETWEEN), rng.random() < 0.3, rng.random() < 0.3

    def function(x, w, b):
        d = np.reshape(np.reshape(x, (-1, depth)) @ w, (*lead, columns)) if flat else x @ w
        total = reduce(between(d, b), axis=axes)
        return (total, d) if beside else (total,)

    arrays = [rng.integers(-3, 4, size=shape).astype(dtype) for shape in ((*lead, depth), (depth, columns), (columns,))]
    return function, arrays


@pytest.mark.parametrize("seed", range(4))
def test_any_sum_of_any_product_where_the_smallest_are_summed_as_they_are_made(seed):
    rng, found = np.random.default_rng(seed), 0
    passes = find("llvm").pipeline.replace("split,", "split{shortest=1,rows=1},")
    with setting(lambda t: t.often):
        for _ in range(50):
            function, arrays = any_sum(rng)
            run = ng.jit(function, passes=passes)
            found += len(sweeping(run.lower(*arrays).executable))
            for got, expected in zip(run(*arrays), function(*arrays), strict=True):
                assert got.shape == expected.shape
                tolerance = 2e-2 if arrays[0].dtype == "float16" else 1e-5
                np.testing.assert_allclose(got.astype("f8"), expected.astype("f8"), rtol=tolerance, atol=tolerance)
    assert found >= 2, "hardly any sum was made so"


@pytest.mark.parametrize("rows", [(512,), (511,), (8, 64), (8, 65), (3, 171), (4, 16, 8)])
@pytest.mark.parametrize("columns", [63, 64, 100])
def test_sums_that_nothing_else_reads_from_each_threshold_on(rows, columns):
    arrays = [RNG.integers(-3, 4, size=s).astype("f4") for s in ((*rows, 5), (5, columns))]
    for axis in (0, tuple(range(len(rows))), len(rows) - 1, -1):
        for reduce in (np.sum, np.mean):
            got = ng.jit(lambda x, w, reduce=reduce, axis=axis: reduce(x @ w, axis=axis))(*arrays)
            np.testing.assert_allclose(got, reduce(arrays[0].astype("f8") @ arrays[1], axis=axis), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("after", [False, True])
def test_the_gradient_of_a_bias_before_and_after_a_linear_layer(after):
    def loss(b, x, w):
        y = x @ w + b if after else (x + b) @ w
        return (y * y).sum() / 2

    x, w = RNG.integers(-3, 4, size=(8, 64, 72)).astype("f4"), RNG.integers(-2, 3, size=(72, 72)).astype("f4")
    b = RNG.integers(-3, 4, size=72).astype("f4")
    x8, w8 = x.astype("f8"), w.astype("f8")
    expected = (x8 @ w8 + b).sum((0, 1)) if after else (((x8 + b) @ w8) @ w8.T).sum((0, 1))
    np.testing.assert_allclose(ng.jit(ng.grad(loss))(b, x, w), expected, rtol=1e-5)
