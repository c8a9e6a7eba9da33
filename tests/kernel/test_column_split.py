"""Column split: a kernel whose columns are split computes what it computed, with smaller tiles on one more parallel axis."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.llvm.text.target import host
from nagraph.kernel.column_split import columns, split_columns, with_row
from nagraph.kernel.contraction import Contraction
from nagraph.kernel.interpret import interpret_kernel
from nagraph.kernel.lower import lower
from nagraph.kernel.verify import verify_kernel
from nagraph.nn import functional as F
from nagraph.schedule.products import split_of
from nagraph.schedule.realise import split_kernel

RNG = np.random.default_rng(0)


def kernel_of(fn, *shapes):
    graph = ng.trace(fn, *(ng.spec(s, "float32") for s in shapes))
    return lower(ng.Pipeline.parse("expand,canonicalize,simplify,fold_constants,cse,dce")(graph))


def with_column_split(kernel):
    return split_kernel(kernel, split_of(kernel, host()))


def run(kernel, arrays, size):
    outputs = [np.zeros(size, np.float32)]
    verify_kernel(kernel, {i: a.size for i, a in enumerate((*arrays, *outputs))})
    interpret_kernel(kernel, arrays, outputs)
    return outputs[0]


@pytest.mark.parametrize("fn", [lambda x, w, b: F.relu(x @ w + b), lambda x, w, b: (x @ w).reshape(5, 3, 8) * b.reshape(3, 8)])
def test_a_kernel_in_panels_computes_the_same(fn):
    kernel = kernel_of(fn, (5, 7), (7, 24), (24,))
    arrays = [RNG.normal(size=s).astype("f4") for s in ((5, 7), (7, 24), (24,))]
    first = kernel.axes[columns(kernel)[0]]
    for width in (w for w in range(1, first) if first % w == 0):
        panels = split_columns(kernel, width)
        assert panels.axes[0] == first // width and panels.grid == kernel.grid + 1
        assert [t.size * panels.axes[0] for t in panels.tiles] == [t.size for t in kernel.tiles]
        np.testing.assert_array_equal(run(panels, arrays, 120), run(kernel, arrays, 120))


def test_a_row_that_is_normalised_has_no_panels():
    assert columns(kernel_of(lambda x, w: F.softmax(x @ w), (5, 7), (7, 24))) == ()


def test_a_large_right_side_is_read_in_panels_and_a_small_one_is_not():
    def layer(x, w, b):
        return F.relu(x @ w + b)

    large = kernel_of(layer, (128, 784), (784, 512), (512,))
    assert with_column_split(large).axes[0] == 8 and with_column_split(large).tiles[0].size == 64
    small = kernel_of(layer, (2048, 128), (128, 512), (512,))
    assert with_column_split(small) is small
    few = kernel_of(layer, (32, 128), (128, 512), (512,))
    assert with_column_split(few).axes[0] == 8


def test_one_row_takes_wide_panels_of_a_large_right_side():
    def layer(x, w, b):
        return F.relu(x @ w + b)

    kernel = with_column_split(kernel_of(layer, (1, 768), (768, 3072), (3072,)))
    assert kernel.axes[:kernel.grid] == (8, 1) and kernel.tiles[0].size == 384
    (product, _) = (Contraction.of(kernel, stage) for stage in kernel.stages)
    assert product is not None and product.n == 384, "the panels are no rows"


def test_one_row_along_the_columns_of_a_large_right_side_is_summed_column_by_column():
    kernel = with_column_split(kernel_of(lambda x, w: x @ w.T, (1, 768), (50257, 768)))
    assert kernel.axes[0] == 1733 and [Contraction.of(kernel, stage) for stage in kernel.stages] == [None, None]
    few = kernel_of(lambda x, w: x @ w.T, (1, 40), (50257, 40))
    assert with_column_split(few) is few


def test_a_kernel_with_one_row_computes_the_same():
    kernel = kernel_of(lambda x, w, b: F.relu(x @ w + b), (1, 7), (7, 24), (24,))
    arrays = [RNG.normal(size=s).astype("f4") for s in ((1, 7), (7, 24), (24,))]
    assert kernel.grid == 0 and with_row(kernel).axes == (1, *kernel.axes)
    np.testing.assert_array_equal(run(with_row(kernel), arrays, 24), run(kernel, arrays, 24))
