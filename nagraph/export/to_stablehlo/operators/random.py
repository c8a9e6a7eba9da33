"""Random bits: the same cipher in integers, and so the same bits."""

from __future__ import annotations

import math
from typing import Any

from nagraph.export.to_stablehlo.block import Ref
from nagraph.export.to_stablehlo.body import Body
from nagraph.export.to_stablehlo.registry import translates
from nagraph.export.to_stablehlo.shapes import I64
from nagraph.ir.conversion import number
from nagraph.ir.types import DTYPES, TensorType
from nagraph.ops import random

U32, U64 = DTYPES["u32"], DTYPES["u64"]


def _enciphered(m: Body, key: Ref, high: Ref, low: Ref) -> Ref:
    """The words of counters under keys [..., 2], u64; counters have the axes of the keys, and one more."""
    shape = low.shape
    words = [m.broadcast(m.slice(key, (*(0,) * (key.ndim - 1), w), (*key.shape[:-1], w + 1)), shape) for w in (0, 1)]

    def cipher(m: Any, *xs: Ref) -> list[Ref]:
        s = m.scalars(shape)
        return [random.Threefry().scalar(s, *map(s.of, xs)).raw]

    return m.called("threefry2x32", "threefry2x32", [*words, high, low], cipher)[0]


def _halves(m: Body, words: Ref) -> Ref:
    """Both words of each counter, the first one first, u32[..., 2]."""
    first = m.elementwise("shift_right_logical", words, m.full(32, words.type))
    parts = [m.reshape(m.convert(w, U32), (*w.shape, 1)) for w in (first, words)]
    return m.concatenate(parts, words.ndim)


@translates(random.RandomBits)
def bits(m: Body, node: Any, key: Ref) -> Ref:
    op = node.op
    t = node.result.type
    if 0 in t.shape:
        return m.full(0, t)
    count = math.prod(op.shape)
    counters = count if op.width == 64 else -(-count // 2)
    lead = key.shape[:-1]
    numbers = m.iota(I64, (*lead, counters), len(lead))
    high = m.elementwise("shift_right_logical", numbers, m.full(32, numbers.type))
    words = _enciphered(m, key, m.convert(high, U32), m.convert(numbers, U32))
    if op.width == 32:
        words = m.reshape(_halves(m, words), (*lead, 2 * counters))
        words = m.slice(words, (0,) * words.ndim, (*lead, count))
    return m.reshape(words, t.shape)


@translates(random.FoldIn)
def fold_in(m: Body, node: Any, key: Ref, data: Ref) -> Ref:
    low = m.reshape(data, (*data.shape, 1))
    high = m.full(number(int(random.DERIVED), U32), TensorType(U32, low.shape))
    return m.reshape(_halves(m, _enciphered(m, key, high, low)), key.shape)
