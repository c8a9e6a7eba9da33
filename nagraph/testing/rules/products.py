"""Matrix products, einsum, convolutions, pooling."""

from __future__ import annotations

from nagraph.testing.choice import Choice, NoChoice, is_float
from nagraph.testing.draw import Array
from nagraph.testing.rules.rule import Proposal, rule

INNER, OUTER, SQUARE = "np.inner({0}, {1})", "np.outer({0}, {1})", "np.tensordot({0}, {0}, axes=([0], [0]))"
PAIRS = "{0}[..., None] @ {1}[..., None, :]"
BY_WEIGHTS = (
    "{0} @ {1}", "np.matmul({0}, {1}) * 0.25", "np.dot({0}, {1})", "np.tensordot({0}, {1}, 1)", "({0} @ {1}).sum(0)",
    "({0} @ {1}).mean(-1)", "({0} @ {1}).mean(-2)",
    "np.tanh({0} @ {1})", "np.einsum('...i,io->...o', {0}, {1})", "np.einsum('...i,io->o...', {0}, {1})",
)
OF_TWO = (
    "{0} @ {1}", "{0} @ {0}.swapaxes(-1, -2)", "{0}.swapaxes(-1, -2) @ {0}", "{1} @ {0}", INNER, OUTER,
    "{0} @ {1}[..., None]", PAIRS, SQUARE,
)
#: What NumPy may be asked to make of two values, in elements: it has done so before the result is known to be too large.
MOST_MADE = 20_000_000
CONVOLUTION = "ng.nn.functional.conv({0}, {1}, stride=%s, padding=%s, dilation=%s%s)"


@rule(2.5)
def product(c: Choice) -> Proposal:
    x = c.value(is_float, rank=1)
    columns = c.one(("1", "2", "3", "17", "64", f"{x}.shape[-1]"))
    dtype = c.one([d for d in c.dtypes if d in ("f16", "bf16", "f32", "f64")])
    return c.one(BY_WEIGHTS), (x, c.fresh(f"({x}.shape[-1], {columns})", dtype))


@rule(1.5)
def product_of_two(c: Choice) -> Proposal:
    text, operands = c.one(OF_TWO), (c.value(is_float, rank=2), c.value(is_float, rank=1))
    if _made(text, *(c.scope[o] for o in operands)) > MOST_MADE:
        raise NoChoice
    return text, operands


def _made(text: str, x: Array, y: Array) -> float:
    """At most how many elements NumPy makes of x, of two axes or more, and y for an expression of OF_TWO."""
    def rows(a: Array, axis: int) -> int:
        return a.size // max(1, a.shape[axis])

    if "swapaxes" in text:
        return x.size // max(1, min(x.shape[-2:])) * max(x.shape[-2:])
    if text == SQUARE:
        return rows(x, 0) ** 2
    if text == INNER:
        return rows(x, -1) * rows(y, -1)
    if text == OUTER:
        return x.size * y.size
    if text == PAIRS:
        return x.size * (y.shape[-1] if x.shape[:-1] == y.shape[:-1] else y.size)
    return max(rows(x, -1) * rows(y, max(-2, -y.ndim)), rows(y, -1) * rows(x, -2))


@rule(1.5)
def einsum(c: Choice) -> Proposal:
    """Any letters of x beside any of them, and a new one, in any order; any of all in the result."""
    x = c.value(is_float, rank=1)
    rank = c.scope[x].ndim
    if rank > 4:
        raise NoChoice
    mine = "ijkl"[:rank]
    shared = [a for a in mine if c.chance(0.6)]
    theirs = "".join(c.rng.permutation(shared)) + c.one(("", "m", "m")) if shared else "m"
    sizes = [f"{x}.shape[{mine.index(a)}]" if a in mine else c.one(("1", "2", "5")) for a in theirs]
    letters = [a for a in dict.fromkeys(mine + theirs) if c.chance(0.6)]
    out = "".join(c.rng.permutation(letters)) if letters else ""
    return f"np.einsum('{mine},{theirs}->{out}', {{0}}, {{1}})", (x, c.fresh(f"({', '.join(sizes)},)", "f32"))


@rule(0.8)
def convolution(c: Choice) -> Proposal:
    x = c.value(is_float, lambda a: a.ndim in (3, 4, 5) and a.shape[1] > 0)
    kernel = ", ".join([c.one(("1", "2", "3"))] * (c.scope[x].ndim - 2))
    if c.chance(0.4):
        shape, groups = f"({x}.shape[1], 1, {kernel})", ", groups={0}.shape[1]"
    else:
        shape, groups = f"({c.one(('1', '2', '5'))}, {x}.shape[1], {kernel})", ""
    text = CONVOLUTION % (c.number(1, 2), c.number(0, 2), c.number(1, 2), groups)
    return c.one((text, text, f"np.moveaxis({text}, 1, -1)", f"np.tanh({text})")), (x, c.fresh(shape, "f32"))


@rule(0.6)
def pooled(c: Choice) -> Proposal:
    x = c.value(is_float, lambda a: a.ndim in (3, 4))
    return c.one(("ng.nn.functional.max_pool({0}, 2)", "ng.nn.functional.avg_pool({0}, 2)", "ng.nn.functional.avg_pool({0}, 3)")), (x,)
