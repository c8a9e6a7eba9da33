"""The tests that follow from an op's class, for every op without attributes and for chosen attributes of the others."""

import numpy as np
import pytest

import nagraph.ops  # noqa: F401 - fills the registry
from nagraph.ir.types import DTYPES, bfloat16, is_float, type_of
from nagraph.ops.arg_extremum import ArgMax, ArgMin
from nagraph.ops.base import Cast, Elementwise
from nagraph.ops.cumulative import Cummax, Cummin, Cumprod, Cumsum
from nagraph.ops.identities import Materialize, Recompute
from nagraph.ops.joining import Concatenate
from nagraph.ops.labels import CheckLabels
from nagraph.ops.movement import Broadcast, Flip, Reshape, Transpose
from nagraph.ops.operands import as_array
from nagraph.ops.reduction import All, Any_, Max, Min, Prod, RowSum, Sum
from nagraph.ops.slicing import Pad, Slice
from nagraph.ops.sorting import Argsort, Sort
from nagraph.ops.windows import Windows
from tests.support import check_batching, check_derivatives, evaluate, graph_of, own_ops

#: The ops of the house: other tests register some of their own.
ELEMENTWISE = [cls() for cls in own_ops().values()
               if issubclass(cls, Elementwise) and not cls._fields() and cls.__module__.startswith("nagraph.")]
SHAPED = [
    Materialize(), Recompute(), Windows((0,), (3,), (1,), (1,)), Windows((1, 2), (2, 3), (2, 1), (2, 1)),
    Windows((2, 0), (1, 2), (1, 3), (1, 1)), Reshape((2, 3)),
    Transpose((1, 0)), Transpose((2, 0, 1)), Broadcast((2, 3, 4)), Slice((1, 0), (5, 3), (2, 1)),
    Slice((0,), (0,), (1,)), Pad((1, 0), (0, 2), (0, 1)), Pad((1,), (2,), (0,), 3.0), Flip((0, 2)), Concatenate(0), Concatenate(1),
    Sum((0,)), Sum((0, 2)), Sum(()), RowSum((1,)), Prod((1,)), Max((0, 1)), Min((1,)), All((0,)), Any_((0, 1)), ArgMax(0), ArgMin(1),
    Cumsum(1), Cumsum(0, True), Cumprod(1), Cumprod(0, True), Cummax(0), Cummin(1, True), Sort(1), Argsort(0), Cast(DTYPES["f32"]),
    CheckLabels(3), CheckLabels(2, -1),
]
ALL = ELEMENTWISE + SHAPED


def samples(op):
    return list(op.samples(np.random.default_rng(0)))


@pytest.mark.parametrize("op", ALL, ids=str)
def test_results_have_the_inferred_types(op):
    for operands in samples(op):
        found = op(*operands)
        prepared = [as_array(x) for x in op.prepare(operands)]
        inferred = op.infer(*map(type_of, prepared))
        assert type_of(found) == inferred


@pytest.mark.parametrize("op", ALL, ids=str)
def test_a_traced_node_computes_what_the_eager_call_does(op):
    for operands in samples(op):
        (got,) = evaluate(graph_of(op, operands), *operands)
        expected = op(*operands)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("op", [o for o in ALL if not isinstance(o, Cast)], ids=str)
def test_derivatives(op):
    checked = 0
    for operands in samples(op):
        arrays = [as_array(x) for x in operands]
        finite = all(np.isfinite(a).all() for a in arrays if is_float(a.dtype))
        if finite and any(is_float(a.dtype) for a in arrays) and is_float(as_array(op(*operands)).dtype):
            check_derivatives(op, operands)
            checked += 1
    assert checked or not any(is_float(as_array(op(*operands)).dtype) for operands in samples(op))


@pytest.mark.parametrize("op", ALL, ids=str)
def test_batching_is_a_loop(op):
    for operands in samples(op):
        check_batching(op, operands)


NUMPY_DTYPES = [d for d in DTYPES.values() if d != bfloat16]


@pytest.mark.parametrize("op", [o for o in ELEMENTWISE if isinstance(getattr(np, o.name, None), np.ufunc)], ids=str)
def test_dtypes_are_those_of_the_ufunc(op):
    """Where ours and NumPy both take a dtype, the results agree in dtype and value."""
    ufunc = getattr(np, op.name)
    agreed = 0
    for dtype in NUMPY_DTYPES:
        operands = [np.ones(2, dtype)] * ufunc.nin
        try:
            with np.errstate(all="ignore"):
                expected = ufunc(*operands)
        except TypeError:
            with pytest.raises(TypeError):
                op(*operands)
            continue
        try:
            got = op(*operands)
        except TypeError:
            continue
        assert got.dtype == expected.dtype, dtype
        np.testing.assert_allclose(got.astype("f8"), expected.astype("f8"), rtol=1e-2 if dtype == np.float16 else 1e-6)
        agreed += 1
    assert agreed >= 1


@pytest.mark.parametrize("op", ELEMENTWISE, ids=str)
@pytest.mark.parametrize("shape", [(0,), (0, 3), ()])
def test_zero_size_and_zero_rank(op, shape):
    operands = [np.ones(shape, np.asarray(x).dtype) for x in samples(op)[0]]
    assert op(*operands).shape == shape


def test_bfloat16_computes_in_float32_and_rounds_once():
    x = np.linspace(-2, 2, 33).astype(bfloat16)
    from nagraph.ops.special import tanh

    got = tanh(x)
    assert got.dtype == bfloat16
    np.testing.assert_array_equal(got, np.tanh(x.astype(np.float32)).astype(bfloat16))
