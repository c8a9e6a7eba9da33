"""Arguments of executables: every backend checks them alike, and tells what is wrong in the same words."""

from __future__ import annotations

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import SignatureError

X = np.random.default_rng(0).normal(size=(30, 40)).astype("f4")


@pytest.fixture(scope="module", params=["numpy", "llvm"])
def executable(request):
    return ng.jit(lambda x, y: np.tanh(x) + y, backend=request.param).lower(X, X).executable


@pytest.mark.parametrize("wrong, told", [
    ((X,), "program takes 2 arrays, got 1"),
    ((X, X, X), "program takes 2 arrays, got 3"),
    ((X, X.T), "program: input y is f32[30,40], got f32[40,30]"),
    ((X.astype("f8"), X), "program: input x is f32[30,40], got f64[30,40]"),
    ((X, None), "program: input y is f32[30,40], got object[]"),
    ((X, "text"), "program: input y is f32[30,40], got <U4[]"),
    ((X, 1.0), "program: input y is f32[30,40], got f64[]"),
    ((X, [[1.0], [1.0, 2.0]]), "program: input y is f32[30,40], got a list that is no array: "),
], ids=["too few", "too many", "shape", "dtype", "None", "text", "number", "ragged"])
def test_wrong_arguments_are_told_alike_and_harm_nothing(executable, wrong, told):
    (expected,) = executable(X, X)
    with pytest.raises(SignatureError) as caught:
        executable(*wrong)
    assert str(caught.value).replace(executable.graph.name, "program").startswith(told)
    np.testing.assert_array_equal(executable(X, X)[0], expected)


def test_arguments_in_another_order_of_bytes_or_memory_are_taken(executable):
    (expected,) = executable(X, X)
    np.testing.assert_array_equal(executable(X.astype(">f4"), np.asfortranarray(X))[0], expected)
