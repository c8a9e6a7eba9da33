"""dtype promotion is NumPy's NEP 50; bfloat16 has a table of its own."""

import itertools

import numpy as np
import pytest

from nagraph.ir.promotion import result_type, scalar_array
from nagraph.ir.types import DTYPES, bfloat16

NUMPY = [d for d in DTYPES.values() if d != bfloat16]
SCALARS = {bool: True, int: 1, float: 1.0}


@pytest.mark.parametrize("a,b", list(itertools.product(NUMPY, NUMPY)))
def test_pairs_of_dtypes_promote_as_in_numpy(a, b):
    assert result_type(a, b) == np.result_type(a, b)


@pytest.mark.parametrize("a,kind", list(itertools.product(NUMPY, SCALARS)))
def test_python_scalars_are_weak(a, kind):
    assert result_type(a, kind) == np.result_type(np.empty(1, a), SCALARS[kind])
    assert result_type(kind, a) == result_type(a, kind)


@pytest.mark.parametrize("kinds", list(itertools.product(SCALARS, SCALARS)))
def test_python_scalars_alone(kinds):
    assert result_type(*kinds) == np.result_type(*(SCALARS[k] for k in kinds))


def test_bfloat16():
    f16, f32, f64 = (DTYPES[n] for n in ("f16", "f32", "f64"))
    assert result_type(bfloat16, f16) == f32
    assert result_type(bfloat16, f32) == f32
    assert result_type(bfloat16, f64) == f64
    assert result_type(bfloat16, float) == result_type(bfloat16, int) == bfloat16
    for name, dtype in DTYPES.items():
        if name[0] in "iu" or name == "bool":
            assert result_type(bfloat16, dtype) == bfloat16


def test_an_integer_that_does_not_fit_is_an_error():
    with pytest.raises(TypeError, match="300 does not fit u8"):
        scalar_array(300, DTYPES["u8"])
