"""Gathering, scattering, blocks that move, one-hot."""

from __future__ import annotations

from nagraph.testing.bodies import updates
from nagraph.testing.choice import Choice, is_float, is_int
from nagraph.testing.rules.rule import Proposal, rule

GATHERED = ("np.take({0}, {1} % {0}.shape[0], axis=0)", "np.take({0}, {1} % {0}.shape[-1], axis=-1)", "{0}[{1} % {0}.shape[0]]",
            "{0}[..., {1} % {0}.shape[-1]]")
SCATTERED = (
    "ng.numpy.add_at({0}, {1} % {0}.shape[0], {0}[{1} % {0}.shape[0]] * 2)", "ng.numpy.max_at({0}, {1} % {0}.shape[0], 1)",
    "ng.numpy.min_at({0}, {1} % {0}.shape[0], {0}[:1])", "ng.numpy.add_at({0}, (slice(1, None), slice(None, 1)), 1)",
    "ng.numpy.set_at({0}, (..., 0), 1)", "ng.numpy.set_at({0}, slice(1, None), {0}[:1])",
)
BLOCKS = ("ng.numpy.dynamic_slice({0}, ({1}, *(0,) * ({0}.ndim - 1)), (min(2, {0}.shape[0]), *{0}.shape[1:]))",
          "ng.numpy.dynamic_update_slice({0}, {0}[:1], ({1}, *(0,) * ({0}.ndim - 1)))")
ONE_HOT = ("ng.numpy.one_hot({0} % 4, 4, f32)", "ng.numpy.one_hot(np.abs({0}) % 3, 3, f64).sum(-1)")


@rule(1.5)
def gathered(c: Choice) -> Proposal:
    x = c.value(rank=1)
    i = c.value(is_int) if c.chance(0.4) else c.fresh(c.one(("(4,)", "(2, 3)", f"({x}.shape[0],)", "()")), "i64")
    return c.one(GATHERED), (x, i)


@rule(0.7)
def gathered_along(c: Choice) -> Proposal:
    x = c.value(is_float, rank=1)
    axis = c.axis(x)
    return f"np.take_along_axis({{0}}, np.argsort({{0}}, axis={axis}, kind='stable'), axis={axis})", (x,)


@rule(1.2)
def scattered(c: Choice) -> Proposal:
    x = c.value(lambda a: is_float(a) or is_int(a), rank=1)
    return c.one(SCATTERED), (x, c.fresh(c.one(("(3,)", "(7,)", "(1,)")), "i32"))


@rule(1.2)
def updated(c: Choice) -> Proposal:
    x, number = c.value(lambda a: is_float(a) or is_int(a), lambda a: a.shape[0] > 0, rank=1), c.chance(0.5)
    text = updates(c, "{0}", "({1} % {0}.shape[0])", "{0}", c.number(1, 3), number)
    return text, (x, c.fresh("()" if number else c.one(("(3,)", "(1,)", "(2, 2)")), "i32"))


@rule(0.7)
def block(c: Choice) -> Proposal:
    return c.one(BLOCKS), (c.value(rank=1), c.fresh("()", "i32"))


@rule(0.5)
def numbered(c: Choice) -> Proposal:
    return c.one(ONE_HOT), (c.value(is_int),)
