"""Elements in other places: transposing, reshaping, slicing, broadcasting, padding, joining."""

from __future__ import annotations

from nagraph.testing.choice import Choice
from nagraph.testing.rules.rule import Proposal, rule

TRANSPOSED = ("{0}.T", "np.swapaxes({0}, 0, -1)", "np.moveaxis({0}, 0, -1)", "{0}.swapaxes(-1, -2)")
RESHAPED = (
    "{0}.reshape(-1)", "{0}[None]", "{0}[..., None]", "np.ravel({0})", "{0}.reshape({0}.shape[0], -1)", "{0}.reshape(-1, {0}.shape[-1])",
    "np.squeeze({0})", "np.expand_dims({0}, 0)", "{0}.reshape(*{0}.shape[:-1], {0}.shape[-1] // 2, 2)", "{0}.reshape(2, -1)",
)
PARTS = (
    "{0}[1:]", "{0}[:-1]", "{0}[::-1]", "{0}[::2]", "{0}[..., 1:]", "{0}[..., ::2]", "{0}[..., ::-1]", "{0}[0]", "{0}[-1]", "{0}[..., 0]",
    "{0}[:, 1:-1]", "np.flip({0})", "{0}[1:2]", "{0}[..., :1]", "{0}[:0]",
)
ENLARGED = (
    "np.broadcast_to({0}, (2, *{0}.shape))", "np.broadcast_to({0}[..., None], (*{0}.shape, 3))", "np.tile({0}, 2)",
    "np.repeat({0}, 2, axis=0)", "np.pad({0}, 1)", "np.pad({0}, ((1, 2),) + ((0, 0),) * ({0}.ndim - 1))",
    "np.pad({0}, ((0, 0),) * ({0}.ndim - 1) + ((2, 0),))", "np.roll({0}, 1)", "np.roll({0}, -2, axis=0)", "np.repeat({0}, 3, axis=-1)",
)


@rule(2)
def transposed(c: Choice) -> Proposal:
    x = c.value(rank=2)
    order = tuple(int(a) for a in c.rng.permutation(c.scope[x].ndim))
    return c.one((*TRANSPOSED, f"np.transpose({{0}}, {order})")), (x,)


@rule(2)
def reshaped(c: Choice) -> Proposal:
    return c.one(RESHAPED), (c.value(),)


@rule(2)
def part(c: Choice) -> Proposal:
    x = c.value(rank=1)
    axis = c.axis(x)
    return c.one((*PARTS, f"np.flip({{0}}, {axis})", f"np.split({{0}}, [1], axis={axis})[{c.number(0, 1)}]")), (x,)


@rule(1.5)
def enlarged(c: Choice) -> Proposal:
    return c.one(ENLARGED), (c.value(),)


@rule(1.5)
def joined(c: Choice) -> Proposal:
    x = c.value(rank=1)
    axis, same = c.axis(x), c.scope[x].shape
    y = c.value(lambda a: a.shape == same) if c.chance(0.5) else c.value(lambda a: a.ndim == len(same))
    form = c.one(("np.concatenate([{0}, {1}], axis=%)", "np.stack([{0}, {1}], axis=%)", "np.concatenate([{1}, {0}, {1}], axis=%)"))
    return form.replace("%", str(axis)), (x, y)
