"""Contractions agree with NumPy, and their derivatives and batches with their definitions."""

import numpy as np
import pytest

from nagraph.errors import TypeRuleError
from nagraph.ir.types import bfloat16
from nagraph.ops.contraction import DotGeneral, dot, dot_general, inner, matmul, outer, tensordot, vdot
from nagraph.ops.einsum import einsum
from tests.support import check_batching, check_derivatives

RNG = np.random.default_rng(0)

PAIRS = [
    ((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((3,), (5, 3, 4)),
    ((5, 1, 2, 3), (6, 3, 4)), ((1, 2, 3), (5, 3, 4)), ((7, 5, 2, 3), (1, 5, 3, 4)),
    ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((4, 2, 3), (4, 3, 1)),
]


@pytest.mark.parametrize("a,b", PAIRS)
def test_matmul_follows_numpy(a, b):
    x, y = RNG.normal(size=a), RNG.normal(size=b)
    np.testing.assert_allclose(matmul(x, y), np.matmul(x, y), atol=1e-12)


@pytest.mark.parametrize("a,b", [((2, 3), (3, 4)), ((3,), (5, 3, 4)), ((2, 2, 3), (5, 3, 4)), ((), (3,)), ((2, 3), (3,))])
def test_dot_follows_numpy(a, b):
    x, y = RNG.normal(size=a), RNG.normal(size=b)
    np.testing.assert_allclose(dot(x, y), np.dot(x, y), atol=1e-12)


def test_other_products_follow_numpy():
    x, y = RNG.normal(size=(3, 4, 5)), RNG.normal(size=(4, 3, 2))
    np.testing.assert_allclose(tensordot(x, y, ([0, 1], [1, 0])), np.tensordot(x, y, ([0, 1], [1, 0])))
    np.testing.assert_allclose(tensordot(x, x, 3), np.tensordot(x, x, 3))
    np.testing.assert_allclose(inner(x, x), np.inner(x, x))
    np.testing.assert_allclose(outer(x, y), np.outer(x, y))
    np.testing.assert_allclose(vdot(x, 2 * x), np.vdot(x, 2 * x))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.bool_, np.float16, np.float32])
def test_dtypes_follow_numpy(dtype):
    x, y = RNG.integers(0, 200, (3, 4)).astype(dtype), RNG.integers(0, 2, (4, 2)).astype(dtype)
    got = matmul(x, y)
    assert got.dtype == np.matmul(x, y).dtype
    np.testing.assert_array_equal(got, np.matmul(x, y))


def test_promotion_and_wide_accumulation():
    assert matmul(np.ones((2, 2), np.int8), np.ones((2, 2), np.float32)).dtype == np.float32
    ones = np.ones((1, 4096), bfloat16)
    assert float(matmul(ones, ones.T)[0, 0]) == 4096


DOTS = [
    DotGeneral(((1,), (0,))),
    DotGeneral(((2,), (0,)), ((0,), (2,))),
    DotGeneral(((3, 1), (0, 2)), ((0,), (3,))),
    DotGeneral(((), ()), ((1,), (0,))),
]


@pytest.mark.parametrize("op", DOTS, ids=str)
def test_dot_general_rules(op):
    for operands in op.samples(RNG):
        check_batching(op, operands)
        if operands[0].dtype == np.float64:
            check_derivatives(op, operands)


def test_dot_general_is_the_sum_it_says():
    x, y = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(5, 6, 3, 2))
    got = dot_general(x, y, ((3, 1), (0, 2)), ((0,), (3,)))
    np.testing.assert_allclose(got, np.einsum("bkcl,ljkb->bcj", x, y))


def test_errors_name_axes_and_sizes():
    text = r"dot: contracted sizes differ: x f32\[2,3\] axis 1 is 3, y f32\[4,5\] axis 0 is 4"
    with pytest.raises(TypeRuleError, match=text):
        matmul(np.ones((2, 3), np.float32), np.ones((4, 5), np.float32))
    with pytest.raises(TypeRuleError, match="do not broadcast"):
        matmul(np.ones((2, 3, 3)), np.ones((4, 3, 3)))
    with pytest.raises(TypeRuleError, match="at least 1 axis"):
        matmul(np.ones((2, 3)), 2.0)


EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ii", (3, 3)), ("ii->i", (3, 3)), ("iji->j", (3, 2, 3)),
    ("ij->ji", (2, 3)), ("ba", (2, 3)), ("...ij,...jk->...ik", (5, 1, 2, 3), (6, 3, 4)), ("i,j,k->kij", (2,), (3,), (4,)),
    ("ij,j,jk,kl->il", (2, 3), (3,), (3, 4), (4, 2)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)), ("i,i->", (4,), (4,)),
    ("...i->...", (2, 3, 4)), ("ij,ij->", (2, 3), (2, 3)), ("i...->...", (2, 3)),
    ("ii,i->i", (0, 0), (0,)), ("iii->i", (3, 3, 3)),
    ("ij,kj->", (2, 3), (4, 3)), ("ij,jk->ik", (2, 1), (3, 4)),
]


@pytest.mark.parametrize("case", EINSUMS, ids=str)
def test_einsum_follows_numpy(case):
    subscripts, *shapes = case
    operands = [RNG.normal(size=s) for s in shapes]
    got = einsum(subscripts, *operands)
    want = np.einsum(subscripts, *operands)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_einsum_errors():
    for subscripts, shapes in [("ij,jk", [(2, 3)]), ("ij", [(2,)]), ("ij,jk->ik", [(2, 3), (4, 5)]), ("i->j", [(2,)])]:
        with pytest.raises(TypeRuleError, match="einsum"):
            einsum(subscripts, *map(np.ones, shapes))
