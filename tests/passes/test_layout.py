"""Layout: convolutions of all kinds and their gradients as matrix products, with what stands between them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nagraph as ng
from nagraph.ir.interpret import interpret
from nagraph.nn import functional as F
from nagraph.ops.convolution import ConvGeneral
from nagraph.ops.windows import Windows
from nagraph.pipeline import Pipeline

BEFORE = Pipeline.parse("canonicalize,simplify,fold_constants,cse,dce,expand")
AFTER = Pipeline.parse("layout,simplify,cse,dce,split", verify=True)


def named(graph, name):
    return [n for n in graph.nodes if n.op.name == name]


def check(fn, *arrays, left=0):
    """The pass leaves so many convolutions, makes matrix products of the others, and keeps the results, also on LLVM."""
    before = BEFORE(ng.trace(fn, *arrays))
    after = AFTER(before)
    assert len(named(after, "conv_general")) == left < len(named(before, "conv_general"))
    assert named(after, "dot_general")
    expected = interpret(before, arrays)
    for found in (interpret(after, arrays), ng.compile(before, backend="llvm")(*arrays)):
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-11 * max(1, abs(a).max(initial=0)))
    return after


def gradients(conv):
    return lambda x, w: ng.grad(lambda both: (conv(*both) ** 2).sum())((x, w))


@st.composite
def convolutions(draw):
    """A convolution over one or two axes, and shapes that it takes."""
    d = draw(st.integers(1, 2))

    def per_axis(low, high):
        return tuple(draw(st.lists(st.integers(low, high), min_size=d, max_size=d)))

    kernel, stride, dilation, spaced = per_axis(1, 3), per_axis(1, 3), per_axis(1, 2), per_axis(1, 3)
    padding = tuple(zip(per_axis(-1, 2), per_axis(-1, 2)))
    size = tuple(n + (k - 1) * a + 2 for n, k, a in zip(per_axis(1, 4), kernel, dilation))
    x, w = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *size), (draw(st.integers(1, 3)),)
    return ConvGeneral(stride, padding, dilation, spaced, 1), x, (*w, x[1], *kernel)


@settings(deadline=None, max_examples=60)
@given(convolutions(), st.booleans())
def test_every_convolution_and_its_gradients(drawn, differentiated):
    conv, x_shape, w_shape = drawn
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=x_shape), rng.normal(size=w_shape)
    check(gradients(conv) if differentiated else conv, x, w)


def test_groups_wide_enough_are_batched_products():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 16, 5, 6)), rng.normal(size=(24, 8, 3, 3))
    after = check(lambda x, w: F.conv(x, w, 2, padding=1, groups=2), x, w)
    assert named(after, "dot_general")[0].op.batch_axes[0]


def test_narrow_groups_stay_convolutions():
    graph = BEFORE(ng.trace(lambda x, w: F.conv(x, w, groups=4), ng.spec((2, 4, 5, 6), "float32"), ng.spec((4, 1, 3, 3), "float32")))
    assert AFTER(graph) is graph or named(AFTER(graph), "conv_general")


def test_the_stride_of_an_input_gradient_costs_no_products_with_zeros():
    x, w = np.zeros((2, 8, 8, 8)), np.zeros((8, 8, 3, 3))
    after = AFTER(BEFORE(ng.trace(lambda x, w: ng.grad(lambda x: (F.conv(x, w, 2, padding=1) ** 2).sum())(x), x, w)))
    products = named(after, "dot_general")
    flops = [n.op.cost(*(v.type for v in n.operands)).flops for n in products]
    assert len(products) == 5 and sum(flops[1:]) == flops[0]  # forward, and one for each phase of the gradient


@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_turned_between_the_layers_of_a_residual_block(training):
    rng = np.random.default_rng(0)
    norm = ng.nn.BatchNorm.init(8, dtype=np.float64)

    def block(x, w, u):
        def normed(x):
            return norm(x, training=True)[0] if training else norm(x)

        return x + F.relu(normed(F.conv(F.relu(normed(F.conv(x, w, padding=1))), u, padding=1)))

    x, w, u = (rng.normal(size=s) for s in ((4, 8, 6, 7), (8, 8, 3, 3), (8, 8, 3, 3)))
    after = check(block, x, w, u)
    large = [n for n in named(after, "transpose") if n.result.type.size >= x.size and n.result.ndim == 4]
    assert len(large) == 2  # x, and the result
    turned = check(lambda x, w, u: ng.grad(lambda args: (block(*args) ** 2).sum())((x, w, u)), x, w, u)
    large = [n for n in named(turned, "transpose") if n.result.type.size >= x.size and n.result.ndim == 4]
    assert len({n.operands[0] for n in large if n.op.axes in ((0, 2, 3, 1), (0, 3, 1, 2))}) == 2


def test_a_long_weight_gradient_is_summed_in_parts_that_fit_the_cache():
    x, w = np.zeros((64, 8, 32, 32), np.float32), np.zeros((16, 8, 3, 3), np.float32)
    after = AFTER(BEFORE(ng.trace(lambda x, w: ng.grad(lambda w: (F.conv(x, w, padding=1) ** 2).sum())(w), x, w)))
    gradient = named(after, "dot_general")[-1]
    assert gradient.op.batch_axes == ((0,), (0,)) and gradient.result.shape[0] == 16


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ng.errors.TypeRuleError, match="a window of 3 elements, 2 apart, does not fit axis 0"):
        Windows((0,), (3,), (1,), (2,))(np.zeros(4))


def test_few_results_of_many_weights_have_their_windows_side_by_side():
    """A product over windows would read all weights once for each of twelve rows of three results."""
    rng = np.random.default_rng(0)
    x, w, v = (rng.normal(size=s).astype(np.float32) for s in ((4, 64, 3, 3), (64, 64, 3, 3), (64, 64, 3, 3)))

    def fn(x, w, v):
        return F.conv(ng.numpy.maximum(F.conv(x, w, padding=1), 0), v, padding=1)

    exe = ng.jit(fn).lower(x, w, v).executable
    (expected,) = interpret(ng.trace(fn, x, w, v), (x, w, v))
    np.testing.assert_allclose(exe(x, w, v)[0], expected, rtol=0, atol=1e-5 * abs(expected).max())
    products = [k.kernel for k in exe.launches if k.kernel is not None and "dot(" in str(k.kernel)]
    assert [k.axes[:k.grid] for k in products] == [(36,), (36,)], "all results are rows of one product each"


def test_many_results_have_their_windows_where_they_are():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(8, 4, 16, 16)).astype(np.float32), rng.normal(size=(4, 4, 3, 3)).astype(np.float32)
    exe = ng.jit(lambda x, w: F.conv(x, w, padding=1)).lower(x, w).executable
    assert not any(n.op.name == "materialize" and n.result.ndim == 6 for n in exe.graph.nodes)
