"""Random graphs for the left side of a rule, from its pattern alone: any ranks, sizes 0 and 1, broadcasting, attributes drawn to fit."""

import dataclasses
import math

import numpy as np

from nagraph.errors import NagraphError
from nagraph.ir.builder import Builder, current
from nagraph.ir.op import REGISTRY
from nagraph.ir.types import BOOL, DTYPES, TensorType, is_float
from nagraph.rewrite.pattern import Apply, Attribute, Hole, Number, Numeral

NUMERALS = [2.0, 0.5, 1.0, -1.0, 3.0, 0.0, -0.0, np.inf, np.nan, -0.125]


def shape(rng, low=0, high=3):
    """A shape of small sizes, of which one in eight is 0."""
    return tuple(int(n) for n in rng.choice([0, 1, 1, 2, 2, 3, 3, 4], rng.integers(low, high + 1)))


def broadcastable(rng, full):
    """A shape that broadcasts to `full`: leading axes left out, sizes replaced by 1."""
    kept = full[rng.integers(0, len(full) + 1) if rng.random() < 0.3 else 0:]
    return tuple(1 if rng.random() < 0.25 else n for n in kept)


def subset(rng, rank):
    return tuple(a for a in range(rank) if rng.random() < 0.5)


def _reshape(rng, x):
    kept = [n for n in x.shape if n != 1 or rng.random() < 0.5]
    choice = rng.integers(5)
    if choice == 0 or not kept:
        return x.shape
    if choice == 1:
        return (1,) * int(rng.integers(0, 3)) + x.shape
    if choice == 2:
        return (math.prod(x.shape),)
    return tuple(int(n) for n in rng.permutation([*kept, *[1] * int(rng.integers(0, 2))]))


def _broadcast(rng, x):
    grown = tuple(int(rng.choice([0, 1, 2, 3])) if n == 1 and rng.random() < 0.7 else n for n in x.shape)
    return (shape(rng, 0, 2) if rng.random() < 0.5 else ()) + grown


def _slice(rng, x):
    if rng.random() < 0.2:
        return {"start": (0,) * x.rank, "stop": x.shape, "step": (1,) * x.rank}
    start = tuple(int(rng.integers(0, n + 1)) for n in x.shape)
    return {"start": start, "stop": tuple(int(rng.integers(a, n + 1)) for a, n in zip(start, x.shape)),
            "step": tuple(int(rng.integers(1, 4)) for _ in x.shape)}


def _pad(rng, x):
    """Often up to 4 elements on an axis, so that two of them meet."""
    low = tuple(int(rng.integers(0, max(1, 5 - n))) for n in x.shape)
    high = tuple(4 - n - a if rng.random() < 0.9 and n + a <= 4 else int(rng.integers(0, 3)) for n, a in zip(x.shape, low))
    if rng.random() < 0.2:
        low = high = (0,) * x.rank
    inner = tuple(int(rng.random() < 0.1) for _ in low)
    return {"low": low, "high": high, "inner": inner, "value": float(rng.choice([0.0, 0.0, 0.0, -0.0, 1.0]))}


def _dot(rng, x, y):
    free, pairs = list(range(y.rank)), []
    for a in range(x.rank):
        fitting = [b for b in free if y.shape[b] == x.shape[a]]
        if fitting and rng.random() < 0.6:
            b = int(rng.choice(fitting))
            free.remove(b)
            pairs.append((a, b))
    cut = int(rng.integers(0, len(pairs) + 1)) if rng.random() < 0.5 else 0
    batch, contract = sorted(pairs[:cut]), pairs[cut:]

    def sides(found):
        return (tuple(a for a, _ in found), tuple(b for _, b in found))

    return {"contract": sides(contract), "batch_axes": sides(batch)}


#: For each op with attributes, some that fit operands of these types.
ATTRIBUTES = {
    "reshape": lambda rng, x: {"shape": _reshape(rng, x)},
    "transpose": lambda rng, x: {"axes": tuple(int(a) for a in (rng.permutation(x.rank) if rng.random() < 0.8 else range(x.rank)))},
    "broadcast": lambda rng, x: {"shape": _broadcast(rng, x)},
    "slice": _slice, "pad": _pad, "dot_general": _dot,
    "flip": lambda rng, x: {"axes": subset(rng, x.rank)},
    "concatenate": lambda rng, *xs: {"axis": int(rng.integers(0, max(1, xs[0].rank)))},
    "cast": lambda rng, x: {"dtype": x.dtype if rng.random() < 0.3 else list(DTYPES.values())[rng.integers(len(DTYPES))]},
    **dict.fromkeys(("sum", "max", "min", "prod", "all", "any"), lambda rng, x: {"axes": subset(rng, x.rank)}),
}


def number(rng, value, dtype, full):
    """A constant of this value: a scalar, or a whole array; of a zero also one with both signs, which is no such constant."""
    if rng.random() < 0.5:
        return value
    array = np.full(broadcastable(rng, full), value).astype(dtype)
    if value == 0 and is_float(dtype) and rng.random() < 0.3:
        array = np.where(rng.random(array.shape) < 0.5, array, -array)
    return current().constant(array)


def left_side(rule, rng, dtype):
    """The graph of a rule's left side for random operands; None where they do not fit one another."""
    full = shape(rng)
    values, bound = {}, {}

    def hole(name):
        if name not in values:
            own = shape(rng) if rng.random() < 0.1 else broadcastable(rng, full)
            if rng.random() < 0.3 and own:  # one size of its own, as joined parts have
                at = int(rng.integers(len(own)))
                own = (*own[:at], int(rng.integers(0, 4)), *own[at + 1:])
            values[name] = builder.input(TensorType(BOOL if name == "c" else dtype, own), name)
        return values[name]

    def build(p):
        if isinstance(p, Hole):
            return hole(p.name)
        if isinstance(p, Number):
            return number(rng, p.value, dtype, full)
        if isinstance(p, Numeral):
            value = bound.setdefault(p.name, float(rng.choice(NUMERALS)) if is_float(dtype) else int(rng.integers(0, 6)))
            return number(rng, value, dtype, full)
        assert isinstance(p, Apply)
        operands = [build(o) for o in p.operands]
        cls = REGISTRY[p.name]
        types = [o.type for o in operands if hasattr(o, "type")]
        given = ATTRIBUTES[p.name](rng, *types) if dataclasses.fields(cls) else {}
        for key, wanted in p.attributes:
            given[key] = bound.setdefault(wanted.name, given[key]) if isinstance(wanted, Attribute) else wanted
        return cls(**given)(*operands)

    with Builder() as builder:
        try:
            made = build(rule.left)
            return builder.graph("left", [made])
        except (NagraphError, TypeError, OverflowError):
            return None
