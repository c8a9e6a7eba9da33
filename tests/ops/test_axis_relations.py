"""What ops say of their axes is true of what they compute: for every op, on its own samples."""

import numpy as np
import pytest

import nagraph.ops  # noqa: F401 - fills the registry
from nagraph.fusion.rows import prefix, row_counts
from nagraph.ir import REGISTRY
from nagraph.ir.axes import IN_ORDER, SAME
from nagraph.ir.types import type_of
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.identities import StopGradient
from nagraph.ops.indexing import Gather
from nagraph.ops.operands import as_array
from nagraph.ops.random import FoldIn, RandomBits
from tests.ops.test_every_op import ALL

OPS = [*ALL, StopGradient(), Gather((0,)), RandomBits((4,)), FoldIn(), DotGeneral(((1,), (0,)), ((), ())),
       DotGeneral(((2,), (1,)), ((0,), (0,))), DotGeneral(((0,), (2,)), ((2, 1), (0, 1)))]


def cases(op):
    """Samples as arrays, with the result and the relations; those without relations left out."""
    for operands in op.samples(np.random.default_rng(0)):
        arrays = [as_array(x) for x in op.prepare(operands)]
        relations = op.axis_relations(*map(type_of, arrays))
        if relations is not None:
            yield arrays, np.asarray(op.evaluate(*arrays)), relations


def related(arrays, result, relations):
    """The axes of the result that go with one of every operand that knows them, each with these axes; SAME for the others."""
    for axis in range(result.ndim):
        along = [None if r is IN_ORDER else r[axis] for r in relations]
        if any(isinstance(a, int) for a in along) and all(isinstance(a, int) or a is SAME for a in along):
            yield axis, along


@pytest.mark.parametrize("op", OPS, ids=str)
def test_equal_axes_are_treated_alike_at_each_index(op):
    """What is permuted along such an axis in the operands is permuted in the result."""
    for arrays, result, relations in cases(op):
        assert len(relations) == len(arrays) and all(r is IN_ORDER or len(r) == result.ndim for r in relations)
        for axis, along in related(arrays, result, relations):
            for x, a in zip(arrays, along):
                assert a is SAME or x.shape[a] == result.shape[axis]
            order = np.roll(np.arange(result.shape[axis]), 1)[::-1]
            moved = [x if a is SAME else np.take(x, order, a) for x, a in zip(arrays, along)]
            np.testing.assert_allclose(np.asarray(op.evaluate(*moved)), np.take(result, order, axis), rtol=1e-6, err_msg=f"axis {axis}")


@pytest.mark.parametrize("op", OPS, ids=str)
def test_such_axes_may_have_another_size(op):
    """`with_sizes` is the op for a part of them."""
    for arrays, result, relations in cases(op):
        for axis, along in related(arrays, result, relations):
            part = np.arange(result.shape[axis] // 2)
            few = [x if a is SAME else np.ascontiguousarray(np.take(x, part, a)) for x, a in zip(arrays, along)]
            expected = np.take(result, part, axis)
            if expected.size:
                smaller = op.with_sizes(type_of(expected), *map(type_of, few))
                np.testing.assert_allclose(np.asarray(smaller.evaluate(*few)), expected, rtol=1e-6)


@pytest.mark.parametrize("op", OPS, ids=str)
def test_rows_of_what_lies_in_order_are_rows(op):
    for arrays, result, relations in cases(op):
        for i, (x, relation) in enumerate(zip(arrays, relations)):
            for rows in row_counts(result.shape) if relation is IN_ORDER else ():
                if prefix(x.shape, rows) is not None:
                    turned = x.reshape(rows, -1)[::-1].reshape(x.shape)
                    found = np.asarray(op.evaluate(*arrays[:i], turned, *arrays[i + 1:]))
                    np.testing.assert_array_equal(found, result.reshape(rows, -1)[::-1].reshape(result.shape))


@pytest.mark.parametrize("op", OPS, ids=str)
def test_parts_are_the_operands_and_the_rest_is_filled(op):
    for arrays, result, _ in cases(op):
        boxes = op.parts(*map(type_of, arrays))
        if boxes is None:
            continue
        left = np.ones(result.shape, bool)
        for x, box in zip(arrays, boxes, strict=True):
            where = tuple(slice(a, b) for a, b in box)
            np.testing.assert_array_equal(result[where], x)
            assert left[where].all()
            left[where] = False
        assert (result[left] == op.filling).all()


@pytest.mark.parametrize("op", [op for op in OPS if op.view], ids=str)
def test_views_can_be_undone_where_they_say_so(op):
    for (x,), _, _ in cases(op):
        y = op.shown(x)
        found = op.operand_shown(y, type_of(x))
        assert found is None or (found.shape == x.shape and np.shares_memory(found, x) and (found == x).all())


@pytest.mark.parametrize("op", OPS, ids=str)
def test_ops_compute_with_axes_in_another_order_where_they_say_so(op):
    for arrays, result, relations in cases(op):
        rank = max((x.ndim for x in arrays), default=0)
        order = tuple(range(1, rank)) + (0,) * (rank > 0)
        other = op.in_order(order)
        if other is None or any(x.ndim < rank for x in arrays):
            continue
        kept = order if result.ndim == rank else [relations[0].index(a) for a in order if a in relations[0]]
        found = np.asarray(other.evaluate(*(x.transpose(order) for x in arrays)))
        np.testing.assert_allclose(found, result.transpose(kept), rtol=1e-6)


def test_the_tests_above_have_something_to_do():
    """Most ops say how their axes are related; these do not, and are parts of no fused region."""
    silent = {op.name for op in OPS if not list(cases(op)) and list(op.samples(np.random.default_rng(0)))}
    assert silent == {"windows", "cumsum", "cumprod", "cummax", "cummin", "sort", "argsort", "check_labels"}
    found = [axis for op in OPS for case in cases(op) for axis, _ in related(*case)]
    assert len(found) > 100
    assert {name for name, op in REGISTRY.items() if op.contracts} == {"dot_general"}


def test_a_wrong_claim_is_found():
    """A running sum is not the same at each index of its axis."""
    class Wrong(REGISTRY["cumsum"]):
        def axis_relations(self, x):
            return (tuple(range(x.rank)),)

    with pytest.raises(AssertionError):
        test_equal_axes_are_treated_alike_at_each_index(Wrong(1))
