"""Axes of size 0, wherever they come from: values and derivatives on both backends, with and without passes."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import TypeRuleError


def programs():
    """Products of operands in which any axes are empty, and movement and reductions around them."""
    rng = np.random.default_rng(3)
    for _ in range(24):
        letters = "ijkl"[:rng.integers(2, 5)]
        sizes = {a: int(rng.choice([0, 1, 2])) for a in letters}
        x, y = ("".join(rng.permutation(list(letters))[:rng.integers(1, len(letters) + 1)]) for _ in range(2))
        out = "".join(rng.permutation([a for a in sorted({*x, *y}) if rng.random() < 0.6]))
        yield f"{x},{y}->{out}", *(tuple(sizes[a] for a in term) for term in (x, y))


@pytest.mark.parametrize("passes", [None, ""])
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("spec, x, y", list(programs()))
def test_products(spec, x, y, backend, passes):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=x), rng.normal(size=y)

    def value(a, b):
        return np.einsum(spec, a, b)

    def loss(a, b):
        return (np.pad(value(a, b)[None], 1) * 2 + 1).sum()

    np.testing.assert_allclose(ng.jit(value, backend=backend, passes=passes)(a, b), value(a, b), rtol=1e-12)
    got = ng.jit(ng.value_and_grad(loss, argnums=(0, 1)), backend=backend, passes=passes)(a, b)
    ones = np.ones(value(a, b).shape)
    terms, out = spec.split("->")
    left, right = terms.split(",")
    expected = [np.einsum(f"{out},{right}->{left_kept}", ones, b) for left_kept in ["".join(c for c in left if c in out + right)]]
    wide = np.broadcast_to(expected[0].reshape([n if c in out + right else 1 for c, n in zip(left, x)]), x)
    np.testing.assert_allclose(got[1][0], 2 * wide, rtol=1e-12)
    np.testing.assert_allclose(got[0], loss(a, b), rtol=1e-12)
    plain = ng.jit(ng.grad(lambda a, b: value(a, b).sum(), argnums=(0, 1)), backend=backend, passes=passes)(a, b)
    np.testing.assert_allclose(plain[0], wide, rtol=1e-12)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_a_slice_of_nothing_times_nothing(backend):
    """The product reads no element; what pads its gradient reads a value of none behind a mask that is never true."""
    x, w = np.ones((2, 1)), np.ones((0, 1))

    def loss(x, w):
        return ((x[..., 1:] @ w) * np.ones((2, 1))).sum()

    found = ng.jit(ng.grad(loss, argnums=(0, 1)), backend=backend)(x, w)
    assert [g.tolist() for g in found] == [[[0.0], [0.0]], []]


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_attention_without_heads(backend):
    q, k = np.ones((5, 0, 4, 3)), np.ones((5, 0, 2, 3))
    assert ng.jit(ng.nn.functional.attention, backend=backend)(q, k, k).shape == (5, 0, 4, 3)
    found = ng.jit(ng.grad(lambda q: ng.nn.functional.attention(q, k, k).sum()), backend=backend)(q)
    assert found.shape == q.shape


NOTHING = np.zeros((2, 0))
#: Functions of numbers [2, 3], in each of which a constant without elements meets other ops.
WITH_CONSTANTS = {
    "sum": lambda x: np.exp(x[:, :1] + NOTHING).sum(axis=1),
    "running sum": lambda x: np.cumsum(x[:, :1] + NOTHING, axis=1).sum() + x,
    "border": lambda x: np.pad(x[:, :1] * NOTHING, 1) + 1,
    "joined": lambda x: np.concatenate([NOTHING, x, NOTHING + x[:, :1]], axis=1) * 2,
    "product": lambda x: x.T @ NOTHING @ NOTHING.T,
    "chosen": lambda x: np.pad(np.where(NOTHING > 0, x[:, :1], NOTHING), 1),
    "indices": lambda x: np.pad(x[:, np.array([False] * 3)], 1),
}


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("name", WITH_CONSTANTS)
def test_a_constant_without_elements(name, backend):
    f, x = WITH_CONSTANTS[name], np.arange(6.0).reshape(2, 3)
    for passes in (None, ""):
        np.testing.assert_allclose(ng.jit(f, backend=backend, passes=passes)(x), f(x), rtol=1e-12)


F = ng.nn.functional
#: Composites over an axis without elements, at an operand, and what they give.
OVER_NOTHING = {
    "softmax": (F.softmax, np.ones((2, 0)), np.ones((2, 0))),
    "softmax over rows": (lambda x: F.softmax(x, axis=0), np.ones((0, 3)), np.ones((0, 3))),
    "log_softmax": (F.log_softmax, np.ones((2, 0)), np.ones((2, 0))),
    "logsumexp": (lambda x: F.logsumexp(x, axis=-1), np.ones((2, 0)), np.full(2, -np.inf)),
    "layer_norm": (F.layer_norm, np.ones((2, 0)), np.ones((2, 0))),
    "attention without keys": (lambda k: F.attention(np.ones((1, 2, 3)), k, k), np.ones((1, 0, 3)), np.zeros((1, 2, 3))),
}


@pytest.mark.parametrize("name", OVER_NOTHING)
def test_composites_over_nothing(name):
    f, x, expected = OVER_NOTHING[name]
    for run in (f, ng.jit(f, backend="llvm"), ng.jit(f, backend="numpy")):
        np.testing.assert_array_equal(run(x), expected)
    for backend in ("llvm", "numpy"):
        assert ng.jit(ng.grad(lambda x: f(x).sum()), backend=backend)(x).shape == x.shape


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("shape, axis", [((1, 0, 0), -1), ((0, 3, 0), 2), ((0, 3), 1), ((0,), 0), ((2, 0), 1), ((0, 2), 0),
                                         ((3, 0), 0)])
def test_elements_of_an_empty_axis(shape, axis, backend):
    """Allowed where the result has no elements, as in NumPy; so are their derivatives."""
    x, i = np.zeros(shape), np.array([0, 1])

    def fn(x, i):
        return np.take(x, i, axis=axis) * 2

    try:
        expected = fn(x, i)
    except IndexError:
        with pytest.raises(TypeRuleError, match="is empty"):
            ng.jit(fn, backend=backend)(x, i)
        return
    assert ng.jit(fn, backend=backend)(x, i).shape == expected.shape
    gradient = ng.jit(ng.grad(lambda x, i: fn(x, i).sum()), backend=backend)(x, i)
    assert gradient.shape == shape
    assert ng.jit(ng.vmap(fn, in_axes=(0, None)), backend=backend)(np.zeros((2, *shape)), i).shape == (2, *expected.shape)
