"""Loops, branches, batches, derivatives and checkpoints, with bodies of their own."""

from __future__ import annotations

from nagraph.testing.bodies import ANALYTIC, KINKED, WHOLE, expression, updates
from nagraph.testing.choice import Choice, is_float, is_int
from nagraph.testing.rules.rule import Proposal, rule

#: Bodies whose results depend on one element each; and any.
POINTWISE = (*ANALYTIC, *KINKED)
ANY = (*POINTWISE, *WHOLE)


@rule(1.2)
def loop(c: Choice) -> Proposal:
    x = c.value(is_float, lambda a: a.ndim >= 1 and 0 < a.shape[0] <= 20)
    kinds = ANY if c.scope[x].ndim > 1 else POINTWISE
    carry, made = (expression(c, names, c.number(1, 3), kinds) for names in (["c", "x"], ["x", "c"]))
    reverse = c.one(("", ", reverse=True"))
    return f"ng.scan(lambda c, x: (np.tanh({carry}), {made}), {{0}}[0] * 0.5, {{0}}{reverse})[{c.number(0, 1)}]", (x,)


@rule(0.8)
def loop_with_invariants(c: Choice) -> Proposal:
    """A carry that never changes, values that follow from it and from what is captured, one step or all, and results that nobody reads."""
    x = c.value(is_float, lambda a: a.ndim >= 1 and 0 < a.shape[0] <= 20)
    kinds = ANY if c.scope[x].ndim > 1 else POINTWISE
    invariant, captured, made = (expression(c, [name], c.number(1, 3), kinds) for name in ("k", "{0}[0]", "k"))
    step = f"lambda c, k, x: ((np.tanh(c * ({invariant}) + x), k, x), {c.one((made, captured, 'c', 'x', 'k'))})"
    xs = c.one(("{0}", "{0}", "{0}[:1]"))
    first = "({0}[0] * 0.5, np.tanh({0}[-1]), {0}[0])"
    return f"ng.scan(lambda s, x: ({step})(s[0], s[1], x), {first}, {xs}){c.one(('[0][0]', '[1]'))}", (x,)


@rule(0.4)
def known_branch(c: Choice) -> Proposal:
    one, two, three = (expression(c, ["u"], c.number(1, 2), POINTWISE) for _ in range(3))
    inner = f"ng.cond({{0}}.sum() > 0.25, lambda u: {one}, lambda u: {two}, u)"
    return c.one((f"ng.cond({c.one((True, False))}, lambda u: {one}, lambda u: {two}, {{0}})",
                  f"ng.cond({{0}}.sum() > 0.25, lambda u: {inner}, lambda u: {three}, {{0}})")), (c.value(is_float),)


@rule(0.8)
def branch(c: Choice) -> Proposal:
    x = c.value(is_float)
    one, two = (expression(c, ["u"], c.number(1, 3), POINTWISE) for _ in range(2))
    return c.one((f"ng.cond({{0}}.sum() > 0.25, lambda u: {one}, lambda u: {two}, {{0}})",
                  f"ng.vmap(lambda u: ng.cond(u.sum() > 0.25, lambda u: {one}, lambda u: {two}, u))({{0}})")), (x,)


@rule(0.8)
def repetition(c: Choice) -> Proposal:
    body = expression(c, ["v"], c.number(1, 2), POINTWISE)
    step = f"lambda s: (s[0] + 1, (lambda v: np.tanh({body}))(s[1]))"
    return f"ng.while_loop(lambda s: s[0] < {c.number(0, 4)}, {step}, (0, {{0}}), max_steps=5)[1]", (c.value(is_float),)


@rule(0.8)
def updating_loop(c: Choice) -> Proposal:
    x = c.value(lambda a: is_float(a) or is_int(a), lambda a: a.ndim >= 1 and a.shape[0] > 0)
    places, other = f"np.arange({c.number(1, 5)}) * {c.number(1, 3)} % {{0}}.shape[0]", c.one(("{0}", "c", "-{0}"))
    made = updates(c, "c", "t", other, c.number(1, 2), number=True)
    read = c.one(("c[0]", "c[t]", "c.sum()", "ng.numpy.take({0}, t, axis=0)"))
    steps = f"s[0] * {c.number(1, 2)} % {{0}}.shape[0]"
    return c.one((f"ng.scan(lambda c, t: ({made}, {read}), {{0}}, {places})[{c.number(0, 1)}]",
                  f"ng.while_loop(lambda s: s[0] < {c.number(1, 4)}, lambda s: (s[0] + 1, (lambda c, t: {made})(s[1], {steps})), "
                  "(0, {0}), max_steps=4)[1]")), (x,)


@rule()
def batched(c: Choice) -> Proposal:
    x = c.value(is_float, lambda a: a.ndim >= 1 and 0 < a.shape[0] <= 70)
    body = expression(c, ["u"], c.number(1, 4), ANY)
    more = {1: "ng.vmap(lambda u: np.cumsum(u))({0})", 2: "ng.vmap(lambda u: u @ u.T)({0})"}.get(c.scope[x].ndim - 1)
    plain = (f"ng.vmap(lambda u: {body})({{0}})", f"ng.vmap(lambda u: {body}, out_axes=-1)({{0}})")
    return c.one((*plain, more) if more else plain), (x,)


#: Elements of whose derivatives the oracle takes one after another.
MOST_STEPS = 5000


@rule()
def derivative(c: Choice) -> Proposal:
    body = expression(c, ["u"], c.number(1, 4), ANALYTIC)
    x = c.value(is_float, lambda a: a.size <= MOST_STEPS)
    return c.one((f"ng.grad(lambda u: ({body}).sum())({{0}})",
                  f"ng.grad(lambda u: ng.checkpoint(lambda u: {body})(u).sum())({{0}})")), (x,)


@rule(0.6)
def recomputed(c: Choice) -> Proposal:
    return f"ng.checkpoint(lambda u: {expression(c, ['u'], c.number(2, 5), ANY)})({{0}})", (c.value(is_float),)
