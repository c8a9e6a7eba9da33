"""Widths: kernels compute of 16-bit floats in float32, between casts that are instructions, and the verifier refuses anything else."""

import dataclasses

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import VerifyError
from nagraph.ir.types import DTYPES
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Apply, Fold, Load, Stage, Store, Tile
from nagraph.kernel.interpret import interpret_kernel
from nagraph.kernel.lower import lower
from nagraph.kernel.verify import verify_kernel
from nagraph.ops.base import NARROW_FLOATS, Cast
from nagraph.ops.elementwise import Select, add
from nagraph.ops.reduction import Sum

F32, BF16 = DTYPES["f32"], DTYPES["bf16"]


def kernel_of(fn, *shapes, dtype="bfloat16"):
    return lower(ng.trace(fn, *(ng.spec(s, dtype) for s in shapes)))


def test_an_op_stands_between_casts_and_is_rounded_once():
    kernel = kernel_of(lambda x, y: x * y + 1, 8, 8)
    lines = [line.strip() for line in str(kernel).splitlines() if line.strip().startswith("v")]
    assert lines == [
        "v0: bf16 = p0[a0]", "v1: bf16 = p1[a0]", "v2: f32 = cast{dtype=f32}(v0)", "v3: f32 = cast{dtype=f32}(v1)",
        "v4: f32 = multiply(v2, v3)",
        "v5: bf16 = cast{dtype=bf16}(v4)", "v6: bf16 = 1", "v7: f32 = cast{dtype=f32}(v5)", "v8: f32 = 1.0", "v9: f32 = add(v7, v8)",
        "v10: bf16 = cast{dtype=bf16}(v9)"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("fn, shapes", [
    (lambda x, y: np.where(x > y, np.tanh(x), y), [(4, 5), (4, 5)]), (lambda x: x / x.sum(1, keepdims=True), [(4, 9)]),
    (lambda x, w: x @ w, [(4, 5), (5, 3)]), (lambda x: np.cumsum(x, 1), [(4, 5)]), (lambda x: np.argmax(x, 1), [(4, 5)]),
    (lambda x, u: ng.numpy.max_at(x, np.array([1, 0, 1]), u), [(4, 5), (3, 5)]),
])
def test_16_bit_floats_are_loaded_stored_chosen_and_converted_and_nothing_else(fn, shapes, dtype):
    kernel = kernel_of(fn, *shapes, dtype=dtype)
    narrow = DTYPES[{"bfloat16": "bf16", "float16": "f16"}[dtype]]
    casts = 0
    for stage in kernel.stages:
        for i in (i for i in stage.body if isinstance(i, Apply)):
            met = {i.dtype, *(stage.body[v].dtype for v in i.arguments)} & NARROW_FLOATS
            assert not met or isinstance(i.op, (Cast, Select)), f"{i} computes in {met}"
            casts += isinstance(i.op, Cast)
        assert all(stage.body[v].dtype not in NARROW_FLOATS for f in stage.folds for v in f.values)
        assert all(stage.body[s.value].dtype == F32 for s in stage.stores if s.combine is not None)
    assert casts and narrow in kernel.operands
    arrays = [np.random.default_rng(0).normal(size=s).astype(narrow) for s in shapes]
    expected = np.asarray(fn(*map(ng.numpy.asarray, arrays)))
    given = [*arrays, *(np.array([1, 0, 1]) for _ in range(len(kernel.operands) - kernel.outputs - len(arrays)))]
    result = np.zeros(expected.size, expected.dtype)
    interpret_kernel(kernel, given, [result])
    np.testing.assert_allclose(result.astype(float), expected.reshape(-1).astype(float), rtol=2.0**-7, atol=2.0**-7)


def test_the_verifier_refuses_arithmetic_in_16_bits():
    kernel = kernel_of(lambda x, y: x, 8, 8)
    x, y = (Load(n, Affine(0, ((0, 1),)), BF16) for n in (0, 1))
    store = Store(2, Affine(0, ((0, 1),)), 2)

    def verify(stage, **changes):
        verify_kernel(dataclasses.replace(kernel, stages=(stage,), **changes))

    with pytest.raises(VerifyError, match="v2 = add.* computes in bf16"):
        verify(Stage((), 0, (x, y, Apply(add, (0, 1), BF16)), (), (), (store,)))
    tile = (Tile(BF16, 1),)
    with pytest.raises(VerifyError, match="fold .* computes in bf16"):
        verify(Stage((), 0, (x,), (Fold(Sum((0,)), (0,), 0, Affine()),)), tiles=tile)
    with pytest.raises(VerifyError, match="a fold makes f32, but tile 0 holds bf16"):
        verify(Stage((), 0, (x, Apply(Cast(F32), (0,), F32)), (Fold(Sum((0,)), (1,), 0, Affine()),)), tiles=tile)
    with pytest.raises(VerifyError, match="store .* computes in bf16"):
        verify(Stage((), 0, (x,), (), (), (dataclasses.replace(store, value=0, combine=Sum((0,))),)))
    with pytest.raises(VerifyError, match="stores a f32, v1, into operand 2 of bf16"):
        verify(Stage((), 0, (x, Apply(Cast(F32), (0,), F32)), (), (), (dataclasses.replace(store, value=1),)))
