"""Axes, sizes and counts as Python's integers, NumPy's, and arrays of rank 0: one meaning, and an error for what is none of them."""

import numpy as np
import pytest

import nagraph as ng

X = np.arange(24.0).reshape(2, 3, 4)
IMAGES = np.arange(48.0).reshape(1, 2, 4, 6)
KEY = ng.random.key(0)
n = ng.numpy
F = ng.nn.functional

CALLS = {
    "roll by axis": lambda i: n.roll(X, i(1), i(2)), "roll of all": lambda i: n.roll(X, i(5)),
    "reshape": lambda i: n.reshape(X, (i(4), i(-1))), "reshape to one": lambda i: n.reshape(X, i(24)),
    "broadcast_to": lambda i: n.broadcast_to(X, (i(2), i(2), i(3), i(4))), "moveaxis": lambda i: n.moveaxis(X, i(0), i(-1)),
    "squeeze": lambda i: n.squeeze(X[:1], i(0)), "expand_dims": lambda i: n.expand_dims(X, (i(0), i(-1))),
    "flip": lambda i: n.flip(X, i(1)), "transpose": lambda i: n.transpose(X, (i(2), i(0), i(1))), "tile": lambda i: n.tile(X, i(2)),
    "repeat": lambda i: n.repeat(X, i(2), i(1)), "split": lambda i: n.split(X, i(2), i(2)),
    "split at": lambda i: n.split(X, [i(1), i(3)], 2),
    "sum": lambda i: n.sum(X, axis=(i(0), i(-1))), "cumsum": lambda i: n.cumsum(X, i(1)), "sort": lambda i: n.sort(X, i(0)),
    "tensordot": lambda i: n.tensordot(X, X, i(3)), "diagonal": lambda i: n.diagonal(X, i(1), i(0), i(2)),
    "tril": lambda i: n.tril(X, i(-1)), "eye": lambda i: n.eye(i(3), i(4), i(1)), "zeros": lambda i: n.zeros(i(3)),
    "full": lambda i: n.full((i(2), i(3)), 1.5), "one_hot": lambda i: n.one_hot(np.arange(2), i(3)), "top_k": lambda i: n.top_k(X, i(2))[0],
    "pad": lambda i: n.pad(X, ((i(0), i(1)), (i(1), i(0)), (i(0), i(0)))),
    "index": lambda i: X[i(0), i(1)], "round": lambda i: n.round(X, i(-1)),
    "dynamic_slice": lambda i: n.dynamic_slice(X, (i(0), i(1), i(1)), (i(1), i(2), i(2))), "var": lambda i: n.var(X, i(0), ddof=i(1)),
    "softmax": lambda i: F.softmax(X, axis=i(0)), "logsumexp": lambda i: F.logsumexp(X, axis=(i(0), i(1))),
    "max_pool": lambda i: F.max_pool(IMAGES, i(2), i(1), i(1)),
    "avg_pool": lambda i: F.avg_pool(IMAGES, (i(2), i(1)), padding=(i(1), i(0))),
    "conv": lambda i: F.conv(IMAGES, np.ones((2, 1, 2, 2)), i(2), ((i(0), i(1)), (i(1), i(0))), i(1), i(2)),
    "group_norm": lambda i: F.group_norm(IMAGES, groups=i(2)), "rope_tables": lambda i: F.rope_tables(i(4), i(6)),
    "random.uniform": lambda i: ng.random.uniform(KEY, (i(2), i(3))), "random.split": lambda i: ng.random.split(KEY, i(3)),
    "random.permutation": lambda i: ng.random.permutation(KEY, i(5)), "random.randint": lambda i: ng.random.randint(KEY, i(3), i(0), i(9)),
    "random.key": lambda i: ng.random.key(i(7)), "random.categorical": lambda i: ng.random.categorical(KEY, X, i(1)),
    "grad": lambda i: ng.grad(lambda x, y: n.sum(x * y), argnums=i(1))(X, X), "vmap": lambda i: ng.vmap(lambda x: x * 2, i(1), i(1))(X),
    "jacobian": lambda i: ng.jacobian(lambda x, y: x * y, i(1))(X[0, 0], X[0, 0]),
    "scan": lambda i: ng.scan(lambda c, _: (c + 1, c), np.zeros(2), length=i(3))[1],
    "spec": lambda i: np.zeros(ng.spec((i(2), i(3))).shape),
    "linear": lambda i: ng.nn.Linear.init(KEY, i(2), i(3)).weight,
}


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array], ids=["int64", "uint8", "rank 0"])
@pytest.mark.parametrize("name", CALLS)
def test_numpys_integers_are_integers(name, kind):
    def made(value):
        return np.int8(value) if kind is np.uint8 and value < 0 else kind(value)

    for traced in (lambda f: f(), lambda f: ng.jit(lambda _: f())(np.zeros(()))):
        wanted, got = (ng.tree.leaves(traced(lambda i=i: CALLS[name](i))) for i in (int, made))  # noqa: B023
        for a, b in zip(wanted, got, strict=True):
            assert np.asarray(a).dtype == np.asarray(b).dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("call, told", [
    (lambda: n.sum(X, axis=1.0), "sum: axis: 1.0 of type float is neither an integer nor a sequence of them"),
    (lambda: n.reshape(X, (2.0, 12)), "reshape: shape: 2.0 of type float is no integer"),
    (lambda: n.roll(X, (1, 2), (0, 1, 2)), "roll: 2 shifts .* do not go with 3 axes"),
    (lambda: n.repeat(X, -1), "repeat: the count is at least 0, got -1"),
    (lambda: n.tile(X, -1), "tile: the numbers of repetitions are at least 0"),
    (lambda: n.split(X, 0), "split: the number of sections is at least 1, got 0"),
    (lambda: n.split(X, 2, 7), "split: axis 7 is out of range for rank 3"),
    (lambda: n.tensordot(X, X, (1, 2, 3)), "tensordot: axes is a number or a pair"),
    (lambda: F.max_pool(IMAGES, 2, 2, (1, 1, 1)), r"padding \(1, 1, 1\) must be a number, or for each of 2 spatial axes"),
    (lambda: ng.jit(lambda k: n.roll(X, k))(1), r"an index of a plain array or range needs a number"),
])
def test_what_is_no_integer_or_does_not_fit(call, told):
    with pytest.raises(ng.errors.NagraphError, match=told):
        call()
