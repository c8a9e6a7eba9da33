"""Functions that nobody thought of when translations were written: a check is one of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import nagraph as ng
from tests.oracles.exported import Function
from tests.oracles.sampling import Compare
from tests.oracles.stablehlo.functions import FUNCTIONS as OTHERS

xp, F = ng.numpy, ng.nn.functional
F32 = np.float32


def drawn(*shape: int, dtype: str = "f4", seed: int = 0) -> Any:
    return np.asarray(np.random.default_rng([seed, *shape]).normal(size=shape)).astype(dtype)


N, M = ng.Dim("n", min=0), ng.Dim("m")
KEY = np.asarray(ng.random.key(7))


def _newton(x: Any) -> Any:
    """Roots by Newton's method, each as long as it takes, with the derivative by the derivative."""
    def f(y: Any) -> Any:
        return y * y * y - x

    return ng.while_loop(lambda s: (abs(f(s[0])) > 1e-4) & (s[1] < 50), lambda s: (s[0] - f(s[0]) / ng.grad(f)(s[0]), s[1] + 1), (x + 1, 0))


def _viterbi(scores: Any, moves: Any) -> Any:
    """The best path through a trellis: forward a scan with argmax, back a scan that follows it."""
    def step(best: Any, row: Any) -> Any:
        table = best[:, None] + moves
        return xp.max(table, 0) + row, xp.argmax(table, 0)

    best, came = ng.scan(step, scores[0], scores[1:])
    last = xp.argmax(best)
    _, path = ng.scan(lambda at, row: (row[at], row[at]), last, came, reverse=True)
    return xp.concatenate([path, last[None]]), xp.max(best)


def _beam(key: Any, x: Any) -> Any:
    """Sampling without replacement by the top of noisy scores, in a loop that splits its key."""
    def step(carry: Any, row: Any) -> Any:
        key, total = carry
        key, one = ng.random.split(key)
        values, at = xp.top_k(row + ng.random.uniform(one, row.shape), 3)
        return (key, total + values.sum()), (at, xp.take_along_axis(row, at))

    return ng.scan(step, (key, F32(0)), x)


def _life(board: Any) -> Any:
    """Conway's rules, three times: integers, rolls, comparisons."""
    def step(b: Any, _: Any) -> Any:
        around = sum(xp.roll(xp.roll(b.astype("i8"), i, 0), j, 1) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)
        return (around == 3) | (b & (around == 2)), around

    return ng.scan(step, board, None, length=3)


def _collatz(n: Any) -> Any:
    return ng.vmap(lambda n: ng.while_loop(lambda s: s[0] > 1, lambda s: (ng.cond(s[0] % 2 == 0, lambda: s[0] // 2, lambda: 3 * s[0] + 1),
                                                                          s[1] + 1), (n, 0)))(n)


def _hash(x: Any) -> Any:
    """FNV over bytes, in 32 bits that wrap around."""
    return ng.scan(lambda h, byte: ((h ^ byte.astype("u32")) * np.uint32(16777619), h >> np.uint32(24)), np.uint32(2166136261), x)


def _sieve(x: Any) -> Any:
    """Writes in a loop, into a carry, at places that are data, some of them again and again."""
    def step(marks: Any, p: Any) -> Any:
        multiples = p * xp.arange(2, 12)
        return xp.set_at(marks, xp.where(multiples < 30, multiples, 0), False), marks[p]

    return ng.scan(step, x, xp.arange(2, 6))


def _histogram(x: Any, at: Any) -> Any:
    return xp.add_at(xp.zeros((5, 2), x.dtype), at, x), xp.add_at(xp.zeros(5, "i32"), at, 1)


def _second_derivatives(x: Any) -> Any:
    def energy(x: Any) -> Any:
        return xp.sum(xp.sin(x) * ng.scan(lambda c, v: (c * 0.9 + v, c), F32(0), x)[1])

    return ng.vmap(lambda v: ng.jvp(ng.grad(energy), (x,), (v,))[1])(xp.eye(x.shape[0], dtype="f4"))


def _deep(x: Any, flag: Any) -> Any:
    """Loops in branches in loops, which read what is around all of them."""
    outside = x * 2

    def inner(c: Any, row: Any) -> Any:
        def grow(s: Any) -> Any:
            return s + abs(outside[0]) + row * row + 0.1

        return ng.cond(flag & (c[0] > 0), lambda: ng.while_loop(lambda s: s.sum() < 4, grow, c * 0), lambda: c - outside.sum(0)), c

    return ng.scan(lambda c, _: ng.scan(inner, c, x), x[0], None, length=2)


def _checkpointed(w: Any, x: Any) -> Any:
    layer = ng.checkpoint(lambda h, w: F.gelu(F.layer_norm(h @ w)))
    return ng.value_and_grad(lambda w: xp.mean(layer(layer(x, w), w) ** 2))(w)


def _dropout(key: Any, x: Any) -> Any:
    def loss(x: Any, key: Any) -> Any:
        return xp.sum(xp.where(ng.random.bernoulli(key, 0.8, x.shape), x / 0.8, 0) ** 3)

    keys = ng.random.split(key, 4)
    return ng.vmap(ng.value_and_grad(loss), in_axes=(None, 0))(x, keys)


FUNCTIONS: dict[str, Function] = {
    "newton": Function(_newton, (F32(30),)),
    "newton-each": Function(ng.vmap(_newton), (np.array([1, 8, 27.5, 1000], F32),)),
    "viterbi": Function(_viterbi, (drawn(6, 4), drawn(4, 4)), {(0, 0): ng.Dim("n", min=2)}),
    "beam": Function(_beam, (KEY, drawn(4, 9)), {(1, 0): M}),
    "life": Function(_life, (drawn(5, 6) > 0,)),
    "collatz": Function(_collatz, (np.array([1, 7, 27]),)),
    "hash": Function(_hash, (np.arange(9, dtype=np.uint8),), {(0, 0): N}),
    "sieve": Function(_sieve, (np.ones(30, bool),)),
    "histogram": Function(_histogram, (drawn(7, 2), np.array([0, 3, 3, -1, 9, 0, 2])), {(0, 0): M, (1, 0): M}),
    "second-derivatives": Function(_second_derivatives, (drawn(4),)),
    "deep": Function(_deep, (drawn(3, 2), np.array(True)), {(0, 0): M}),
    "deep-each": Function(ng.vmap(_deep), (drawn(2, 3, 2), np.array([True, False]))),
    "checkpointed": Function(_checkpointed, (drawn(4, 4), drawn(3, 4)), {(1, 0): M}),
    "dropout": Function(_dropout, (KEY, drawn(3, 5))),
    "twice": Function(lambda x: (x + 1, x + 1, (y := x * 2), y), (drawn(3),)),
    "unchanged": Function(lambda x, y, unused: (x, y, x), (drawn(3), np.arange(4), drawn(2))),
    "unchanged-in-loops": Function(lambda x: ng.scan(lambda c, r: ((c[1], c[0]), (r, r, c[0])), (x[0], x[1]), x), (drawn(3, 2),)),
    "constants": Function(lambda x: (xp.zeros((2, 3)), np.float32(3), xp.arange(4), x), (drawn(2),)),
    "no-arguments": Function(lambda: (xp.arange(5) * 2, xp.ones(())), ()),
    "scalars": Function(lambda x, n, b: (x * n, -n, ~b, xp.where(b, x, n), x.sum(), xp.max(n)), (F32(1.5), np.int32(-3), np.array(True))),
    "empty": Function(lambda x, y: (x + 1, x.sum(0), xp.concatenate([x, y]), xp.sort(x, 0), x.T @ x, xp.prod(x), xp.all(x > 0, 0)),
                      (drawn(0, 3), drawn(2, 3)), {(0, 0): N}),
    "empty-loops": Function(lambda x: (ng.scan(lambda c, r: (c + r, c), x.sum(0), x), ng.vmap(lambda r: r.sum())(x)), (drawn(0, 3),)),
    "bools": Function(lambda a, b: (a + b, a * b, a & ~b, a ^ b, a < b, xp.maximum(a, b), xp.sum(a), xp.cumsum(b), xp.argmax(b),
                                    xp.any(a, 0), xp.where(a, b, ~b), a.astype("f2")), (drawn(3, 4) > 0, drawn(4) > 0)),
    "halves": Function(lambda x: (x @ x.T, F.softmax(x), x.sum(0), xp.sort(x), xp.cumsum(x, 1), xp.take(x, np.array([1, 0]), 0), x / 3),
                       (drawn(3, 4, dtype="f2"),)),
    "brains": Function(lambda x: (x @ x.T, F.layer_norm(x), x.sum(0), xp.sort(x), xp.where(x > 0, x, -x), xp.tile(x, (2, 1)), x[::-1]),
                       (drawn(3, 4).astype(ng.bfloat16),)),
    "doubles": Function(lambda x: (x @ x.T, F.softmax(x), xp.sin(x) ** 2 + xp.cos(x) ** 2, F.layer_norm(x), xp.log1p(abs(x))),
                        (drawn(3, 4, dtype="f8"),)),
    "small-integers": Function(lambda x, y: (x * x, x - y, x // (y + 1), -x, abs(x), xp.sum(x), xp.max(x, 0), x << 2, xp.sort(x), x @ y,
                                             xp.clip(x, -3, 3), xp.sign(x), x ** 3), (np.arange(-60, 68, 8, dtype=np.int8).reshape(4, 4),
                                                                              np.eye(4, dtype=np.int8) * 3)),
    "unsigned": Function(lambda x, y: (x * x, x - y, x // y, x % y, xp.sum(x), xp.max(x), x >> np.uint64(3), xp.argsort(x), x / y, x > y),
                         (np.array([2**64 - 1, 5, 2**63], np.uint64), np.array([3, 7, 2**62], np.uint64))),
    "wide-shapes": Function(lambda x: (x.reshape(x.shape[0] * 2, -1), xp.broadcast_to(x[:, None], (x.shape[0], 3, 4)), x / x.shape[0],
                                       xp.arange(x.shape[0]), xp.pad(x, ((1, 2), (0, 0))), x[::2], x[-1:], xp.repeat(x, 2, 0)),
                            (drawn(4, 4),), {(0, 0): M}),
    "causal": Function(lambda q, k: F.attention(q, k, k, causal=True), (drawn(2, 3, 5, 4), drawn(2, 3, 5, 4)),
                       {(0, 0): M, (1, 0): M, (0, 2): ng.Dim("t"), (1, 2): ng.Dim("t")}),
    "mixed": Function(lambda q, k: F.attention(q, k, k), (drawn(2, 3, 4, dtype="f2"), drawn(2, 3, 4))),
    "products": Function(lambda x, v: (x.T @ v, v @ x, v @ v, x.T @ x, np.einsum("ij,ik->jk", x, x), np.einsum("i,j->ij", v, v)),
                         (drawn(3, 4), drawn(3)), {(0, 0): M, (1, 0): M}),
    "names": Function(lambda data: {"a b": data["x.y"] + 1, "x.y": data["0"] * 2, "": data["0"]}, ({"x.y": drawn(2), "0": drawn(3)},)),
}
#: Those that the other oracle of exports asks as well; the special functions have one among them that ONNX has not.
FUNCTIONS |= {name: function for name, function in OTHERS.items() if name not in FUNCTIONS and not name.startswith("special")}
CHECKS = tuple(FUNCTIONS)
CUT = tuple(FUNCTIONS)[::5]


def samples(what: str) -> Iterator[tuple[str, Compare]]:
    """A function optimised and as it is traced; and with sizes that are known later, where it has them."""
    function = FUNCTIONS[what]
    for optimised in (True, False):
        yield f"{what}{'' if optimised else ', not optimised'}", partial(_agrees, function, optimised, False)
    if function.open:
        yield f"{what} of any size", partial(_agrees, function, True, True)


def _agrees(function: Function, optimised: bool, opened: bool) -> str | None:
    from tests.oracles.onnx_export.checks import different

    arrays = ng.tree.leaves(function.arguments)
    arrays = [np.asarray(x) for x in arrays]
    graph = ng.trace(function.make, *function.arguments)
    allowed = 2e-5 if all(x.dtype.itemsize > 2 or x.dtype.kind not in "fV" for x in arrays) else 2e-2
    if not opened:
        return different(graph, arrays, allowed, optimised=optimised)
    specs = tuple(ng.spec(tuple(function.open.get((i, a), n) for a, n in enumerate(np.shape(x))), np.asarray(x).dtype)
                  for i, x in enumerate(function.arguments))
    return different(graph, arrays, allowed, what=ng.trace(function.make, *specs))
