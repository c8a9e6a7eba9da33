"""Random bits: the same cipher, and so the same bits, as on every backend."""

from __future__ import annotations

import math
from typing import Any

from nagraph.backends.mps.rules.elementwise import by_scalars
from nagraph.backends.mps.rules.rule import Rule
from nagraph.backends.mps.scalars import MlxScalars
from nagraph.ir.op import Op
from nagraph.ir.types import DTYPES
from nagraph.ops import random

Array = Any
U32, U64 = DTYPES["u32"], DTYPES["u64"]


def _enciphered(m: Any, key: Array, high: Array, low: Array) -> Array:
    """The words of counters under keys [..., 2], u64; counters have the axes of the keys, and one more."""
    s = MlxScalars(m)
    words = [s.of(m.part(key, (..., slice(w, w + 1)))) for w in (0, 1)]
    return random.Threefry().scalar(s, *words, s.of(high), s.of(low)).raw


def _halves(m: Any, words: Array) -> Array:
    """Both words of each counter, the first one first, u32[..., 2]."""
    first = m.to(m.right_shift(words, m.number(32, U64)), U32)
    return m.stack([first, m.to(words, U32)], axis=-1)


def _bits(m: Any, op: random.RandomBits, key: Array) -> Array:
    count = math.prod(op.shape)
    counters = count if op.width == 64 else -(-count // 2)
    shape = (*key.shape[:-1], *op.shape)
    if not math.prod(shape):
        return m.zeros(list(shape), dtype=key.dtype if op.width == 32 else m.number(0, U64).dtype)
    numbers = m.range(counters, U64)
    words = _enciphered(m, key, m.to(m.right_shift(numbers, m.number(32, U64)), U32), m.to(numbers, U32))
    if op.width == 32:
        words = m.part(m.reshape(_halves(m, words), [*key.shape[:-1], 2 * counters]), (..., slice(0, count)))
    return m.reshape(words, shape)


def _fold_in(m: Any, op: random.FoldIn, key: Array, data: Array) -> Array:
    words = _enciphered(m, key, m.number(random.DERIVED, U32), m.reshape(data, [*data.shape, 1]))
    return m.reshape(_halves(m, words), key.shape)


RULES: dict[type[Op], Rule] = {random.Threefry: by_scalars, random.RandomBits: Rule(_bits), random.FoldIn: Rule(_fold_in)}
