"""Contractions: what a stage is recognised as, with its axes and strides, is the product that it computes."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import nagraph as ng
from nagraph.kernel.contraction import Contraction, direct_output, product_parts
from nagraph.kernel.form import Read
from nagraph.kernel.lower import lower
from nagraph.nn import functional as F

RNG = np.random.default_rng(0)
PASSES = ng.Pipeline.parse("expand,canonicalize,simplify,fold_constants,cse,dce")


def lowered(fn, *shapes, dtype="float64"):
    return lower(PASSES(ng.trace(fn, *(ng.spec(s, dtype) for s in shapes))))


def by_strides(found, factor, array, at, free):
    """[batches, free, k]: a factor as its strides say, at a point of the grid."""
    index = factor.access.index
    start = index.offset + sum(c * at.get(a, 0) for a, c in index.terms)
    step = array.itemsize
    views = [as_strided(array.reshape(-1)[start + o:], (free, found.k), (factor.free * step, factor.summed * step)) for o in factor.offsets]
    return np.stack(views)


@pytest.mark.parametrize("fn, shapes, axes", [
    (lambda x, w: x @ w, [(5, 7), (7, 3)], (5, 3, 7, 1)),
    (lambda x, w: x @ w.T, [(5, 7), (3, 7)], (5, 3, 7, 1)),
    (lambda x, w: x.T @ w, [(7, 5), (7, 3)], (5, 3, 7, 1)),
    (lambda x, w: np.einsum("ipq,pqj->ij", x, w), [(4, 3, 6), (3, 6, 2)], (4, 2, 18, 1)),
    (lambda x, w: np.einsum("ipq,qpj->ij", x, w), [(4, 3, 6), (6, 3, 2)], (4, 2, 6, 3)),
    (lambda x, w: np.einsum("pqi,qpj->ij", x, w), [(3, 6, 4), (6, 3, 2)], (4, 2, 6, 3)),
])
def test_axes_and_strides_say_which_product_it_is(fn, shapes, axes):
    kernel = lowered(fn, *shapes)
    found = Contraction.of(kernel, kernel.stages[0])
    assert found is not None and (found.m, found.n, found.k, len(found.a.offsets)) == axes
    assert found.terms == found.k * len(found.b.offsets) and found.b_nbytes == found.terms * found.n * 8
    arrays = [RNG.normal(size=s) for s in shapes]
    a, b = (by_strides(found, x, arrays[x.access.operand], {}, n) for x, n in ((found.a, found.m), (found.b, found.n)))
    np.testing.assert_allclose(np.einsum("tik,tjk->ij", a, b), fn(*arrays))


def test_matrices_at_each_point_of_the_grid_have_rows_of_their_own():
    kernel = lowered(lambda x, w: np.tanh(x @ w).sum(-1) * 2, (2, 16, 8), (2, 8, 16))
    (whole,) = [p for p in product_parts(kernel) if isinstance(p, Contraction)]
    assert not whole.rows, "rows along the grid"
    kernel = lowered(lambda q, k, v: F.attention(q, k, v), (2, 16, 8), (2, 16, 8), (2, 16, 8))
    assert any(isinstance(p, Contraction) for p in product_parts(kernel))


def test_what_is_masked_or_wider_than_it_is_stored_is_no_product_of_matrices():
    kernel = lowered(lambda x, w: x @ w, (5, 7), (7, 3))
    stage = kernel.stages[0]
    a, b = stage.body
    assert Contraction.of(kernel, stage) and not Contraction.of(kernel, replace(stage, body=(a, replace(b, mask=0))))
    kernel = lowered(lambda x, w: np.tanh(x) @ w, (5, 7), (7, 3))
    kept, product, _ = kernel.stages
    assert Contraction.of(kernel, kept) is None and isinstance(Contraction.of(kernel, product).a.access, Read), "computed into a tile"
    kernel = lowered(lambda x, w: x @ w, (5, 7), (7, 3), dtype="float16")
    assert [Contraction.of(kernel, s) for s in kernel.stages] == [None, None], "of 16-bit floats nothing is multiplied as it stands"


def test_a_stage_that_only_copies_is_where_the_product_is_stored():
    kernel = lowered(lambda x, w: x @ w, (5, 7), (7, 3))
    parts, outputs = direct_output(kernel, product_parts(kernel))
    assert len(kernel.stages) == 2 and len(parts) == 1
    assert parts[0].strides_of(kernel, outputs[parts[0].tile]) == (3, 1)
    kernel = lowered(lambda x, w: np.exp(x @ w), (5, 7), (7, 3))
    parts, outputs = direct_output(kernel, product_parts(kernel))
    assert len(parts) == 2 and not outputs
