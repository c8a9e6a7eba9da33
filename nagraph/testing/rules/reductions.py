"""Reductions, running sums and products, sorting."""

from __future__ import annotations

from nagraph.testing.choice import Choice, is_float, is_int
from nagraph.testing.rules.rule import Proposal, rule

REDUCTIONS = ("{0}.sum(%)", "{0}.mean(%)", "{0}.max(%)", "np.min({0}, %)", "{0}.sum(axis=%)", "np.prod(np.sign({0}) * 1, %)")
STATISTICS = ("np.var({0}, axis=%)", "np.std({0} + 1, axis=%, keepdims=True)", "(({0} > 0) * 1).sum(%)", "np.any({0} > 0, axis=%)",
              "np.all({0} > -1, axis=%)", "ng.nn.functional.logsumexp({0}, axis=%)")
ALONG = ("np.cumsum({0}, axis=%)", "np.argmax({0}, axis=%)", "np.argmin({0}, axis=%)", "np.sort({0}, axis=%)",
         "np.argsort({0}, axis=%, kind='stable')", "np.cumprod(np.tanh({0}), axis=%)", "ng.numpy.cummax({0}, axis=%)")


@rule(2.5)
def reduced(c: Choice) -> Proposal:
    x = c.value(lambda a: is_float(a) or is_int(a))
    return c.one(REDUCTIONS).replace("%", c.axes(x) + c.one(("", ", keepdims=True"))), (x,)


@rule()
def statistic(c: Choice) -> Proposal:
    x = c.value(is_float)
    return c.one(STATISTICS).replace("%", c.axes(x)), (x,)


@rule()
def along_an_axis(c: Choice) -> Proposal:
    x = c.value(rank=1)
    return c.one(ALONG).replace("%", str(c.axis(x))), (x,)


@rule(0.5)
def largest(c: Choice) -> Proposal:
    return f"ng.numpy.top_k({{0}}, min(2, {{0}}.shape[-1]))[{c.number(0, 1)}]", (c.value(is_float, rank=1),)
