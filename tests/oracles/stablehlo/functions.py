"""Functions that ask for what StableHLO writes in ways of its own; and ways of exporting: from an executable, as bytecode, given away."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.export.subject import Subject
from nagraph.export.to_stablehlo import running
from nagraph.export.to_stablehlo.exporting import verified
from nagraph.export.to_stablehlo.writing import module_text
from tests.oracles.exported import Function
from tests.oracles.sampling import Compare

xp, F = ng.numpy, ng.nn.functional
F32 = np.float32


def drawn(*shape: int, dtype: str = "f4") -> Any:
    return np.asarray(np.random.default_rng(shape).normal(size=shape)).astype(dtype)


N, H = ng.Dim("n", min=0), ng.Dim("h", min=6)


def _composites(x: Any) -> Any:
    """Composites in composites, the same ones twice, with options and without."""
    y = F.attention(x, F.layer_norm(x), F.layer_norm(x), causal=True)
    return F.softmax(F.softmax(y), axis=0), F.gelu(y)


def _writes(x: Any, u: Any, at: Any) -> Any:
    """Of updates at one place the last one counts, whatever the order in which they come."""
    return (xp.set_at(x, at, u), xp.add_at(x, at, u), xp.max_at(x, at, u), xp.min_at(x, at, u), x[at],
            xp.set_at(x, (at, xp.arange(7) % 3), u[:, 0]))


def _gradients(x: Any, w: Any) -> Any:
    def loss(x: Any, w: Any) -> Any:
        y = F.conv(x, w, stride=2, padding=1)
        return xp.sum(F.max_pool(y, 2, stride=1) ** 2) + xp.sum(y)

    return ng.grad(loss, argnums=(0, 1))(x, w)


def _grouped(x: Any, w: Any) -> Any:
    return (F.conv(x, w, groups=2, dilation=2, padding=2), F.conv_transpose(x, w, stride=2, padding=1, groups=2),
            F.avg_pool(x, 3, stride=2, padding=1, count_padding=False))


def _running(x: Any) -> Any:
    sums = xp.cumsum(x > 0, 1), xp.cumsum(x, 0, reverse=True)
    return *(f(x, axis) for axis in (0, 1) for f in (xp.cumsum, xp.cumprod, xp.cummax)), *sums


def _cached(cache: Any, rows: Any) -> Any:
    """What generation does: blocks written where a counter is, and all that is there read."""
    def step(carry: Any, row: Any) -> Any:
        at, cache = carry
        cache = xp.dynamic_update_slice(cache, row[None], (at, 0))
        seen = xp.where(xp.arange(cache.shape[0])[:, None] <= at, cache, 0)
        return (at + 1, cache), seen.sum(0)

    return ng.scan(step, (np.int32(2), cache), rows), ng.scan(lambda c, row: (c * 0.5 + row, c), rows.sum(0), rows, reverse=True)


def _bounded(x: Any) -> Any:
    """A loop that would go on beyond the steps that it may take, and one that ends before."""
    return [ng.while_loop(lambda s: s[0].sum() < 1e3, lambda s: (s[0] * s[0] + 1, s[1] + 1), (x, 0), max_steps=most) for most in (2, 20)]


def _odd(x: Any) -> Any:
    """Sizes that are computed: products, quotients, differences, the larger of two."""
    n = x.shape[0]
    return (x.reshape(-1, 3), x[: n // 2], x[1::2], xp.pad(x, ((0, 1), (0, 0))).reshape((n + 1) // 2, -1), x[np.maximum(n - 4, 0):],
            x / n, xp.arange(n), xp.broadcast_to(x[:1], (n, 3)), xp.take(x, xp.arange(n)[::-1], 0))


def _special(x: Any) -> Any:
    names = "sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arctanh exp2 expm1 cbrt".split()
    others = F.gelu(x), F.sigmoid(x), F.softplus(x), xp.nextafter(x, 1), xp.copysign(x, -x), xp.fmod(x, 0.3), xp.log2(abs(x) + 0.1)
    return *(getattr(xp, n)(x) for n in names), *others


def _of_a_slice(x: Any, at: Any, i: Any) -> Any:
    """Slices of slices whose starts are beyond the end, which are clipped each by itself; and a place of a slice that is written."""
    y = xp.dynamic_slice(x * 2, (at, 0), (2, 3))
    row = xp.dynamic_slice(y, (i, 0), (1, 3))
    return xp.dynamic_slice(y, (i, at), (1, 2)), xp.max_at(y, i % 2, 1), xp.dynamic_update_slice(y, row, (0, 0))


FUNCTIONS: dict[str, Function] = {
    "composites": Function(_composites, (drawn(2, 5, 4),)),
    "writes": Function(_writes, (drawn(5, 3), drawn(7, 3), np.array([0, 2, -1, 0, 9, -9, 2])), {
        (0, 1): ng.Dim("m", min=3), (1, 1): ng.Dim("m", min=3)}),
    "gradients": Function(_gradients, (drawn(2, 3, 9, 8), drawn(4, 3, 3, 3)), {(0, 2): H}),
    "grouped": Function(_grouped, (drawn(1, 4, 7, 6), drawn(4, 2, 3, 3))),
    "running": Function(_running, (drawn(4, 3),), {(0, 0): N, (0, 1): ng.Dim("m")}),
    "running-of-none": Function(_running, (drawn(0, 3),), {(0, 0): N}),
    "cached": Function(_cached, (drawn(6, 3), drawn(3, 3)), {(0, 0): ng.Dim("c", min=6), (1, 0): N}),
    "cached-none": Function(_cached, (drawn(6, 3), drawn(0, 3)), {(1, 0): N}),
    "of-a-slice": Function(_of_a_slice, (drawn(3, 3), np.array(5), np.array(-3))),
    "bounded": Function(_bounded, (drawn(3) / 4,), {(0, 0): ng.Dim("m")}),
    "odd": Function(_odd, (drawn(7, 3),), {(0, 0): 2 * ng.Dim("k") + 3}),
    "special": Function(_special, (drawn(50) / 4,), {(0, 0): N}),
    "special-doubles": Function(_special, (drawn(50, dtype="f8") / 4,)),
    "special-halves": Function(_special, (drawn(50, dtype="f2") / 4,)),
}


def _from_an_executable(different: Any) -> str | None:
    """Fused regions are opened, convolutions are products over windows."""
    function = FUNCTIONS["gradients"]
    exe = ng.compile(ng.trace(function.make, *function.arguments))
    found: str | None = different(exe.graph, list(function.arguments))
    return found


def _as_bytecode(different: Any) -> str | None:
    """What is read back from a portable artifact gives the same bits."""
    x = drawn(2, 5, 4)
    text = module_text(Subject.of(_composites, ng.spec(x.shape)))
    pairs = zip(running.run(running.read(running.bytecode(text)), [x]), running.run(text, [x]), strict=True)
    return None if all(np.array_equal(a, b) for a, b in pairs) else "its bits differ"


def _given_away(different: Any) -> str | None:
    """A donated argument is updated, and weights are part of the module."""
    step = ng.jit(lambda state, w: ({"w": state["w"] - 0.1 * w}, w.sum()), donate_argnames="state")
    subject = Subject.of(step, ({"w": ng.spec((40, 3))}, drawn(40, 3)))
    text = module_text(subject)
    if "tf.aliasing_output = 0" not in text or 'dense<"0x' not in text:
        return "it is not marked, or the weights are no constant"
    return None if verified(subject, text).startswith("agrees") else "it differs"


WAYS = {"from-an-executable": _from_an_executable, "as-bytecode": _as_bytecode, "given-away": _given_away}
CHECKS = (*FUNCTIONS, *WAYS)
CUT = ("writes", "gradients", "running", "running-of-none", "of-a-slice", "cached", "bounded", "odd", "as-bytecode")


def samples(what: str, different: Any) -> Iterator[tuple[str, Compare]]:
    """A way, or a function."""
    if what in WAYS:
        yield what, partial(WAYS[what], different)
        return
    yield from asked(what, FUNCTIONS[what], different)


def asked(what: str, function: Function, different: Any) -> Iterator[tuple[str, Compare]]:
    """A function of sizes that are known later, where it has some, optimised, and as it is traced."""
    graph = ng.trace(function.make, *function.arguments)
    arrays = [np.asarray(x) for x in ng.tree.leaves(function.arguments)]
    if function.open:
        specs = [ng.spec(tuple(function.open.get((i, a), n) for a, n in enumerate(np.shape(x))), np.asarray(x).dtype)
                 for i, x in enumerate(function.arguments)]
        yield f"{what} of any size", lambda: different(graph, arrays, what=ng.trace(function.make, *specs))
    for optimised in (True, False):
        yield f"{what}{'' if optimised else ', not optimised'}", partial(different, graph, arrays, optimised)
