"""Random bits: the counter-based generator in operators on unsigned integers, so that masks are the same ones."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from nagraph.export.to_onnx.operators.indexing import number
from nagraph.export.to_onnx.registry import Untranslatable, translation
from nagraph.export.to_onnx.scope import DOMAIN
from nagraph.ir.builder import build
from nagraph.ir.graph import Graph
from nagraph.ir.node import Node
from nagraph.ir.sizes import Size
from nagraph.ir.types import DTYPES, TensorType
from nagraph.ops import random
from nagraph.ops.random import DERIVED

U32, U64 = DTYPES["u32"], DTYPES["u64"]
_LOW, _SHIFT = np.array(0xFFFF_FFFF, np.uint64), np.array(32, np.uint64)


@functools.cache
def _cipher() -> Graph:
    """The generator of one counter; its operators broadcast."""
    return build("threefry", [TensorType(U32, ())] * 4, lambda *words: (random.Threefry()(*words),))


def _words(w: Any, key: Any, x0: Any, x1: Any, axes: int) -> str:
    """u64: the words of counters under keys, as a call of a function of the model. axes: how many axes of counters follow those of keys."""
    k0, k1 = (w.emit("Gather", key, np.array(i), axis=-1) for i in (0, 1))
    if axes and key.rank > 1:
        after = np.arange(key.rank - 1, key.rank - 1 + axes)
        k0, k1 = (w.emit("Unsqueeze", k, after) for k in (k0, k1))
    return str(w.emit(w.common.function_of("threefry", _cipher()), k0, k1, x0, x1, domain=DOMAIN))


def _halves(w: Any, words: str) -> tuple[str, str]:
    """The high and the low words, u32."""
    high = w.emit("BitShift", words, _SHIFT, direction="RIGHT")
    return w.cast(high, U32), w.cast(w.emit("BitwiseAnd", words, _LOW), U32)


@translation(random.RandomBits)
def random_bits(w: Any, node: Node, key: Any) -> str:
    """Element i has counter i, or, with 32 bits, a half of counter i / 2: these are made in pairs, and the last one may be cut off."""
    op: Any = node.op
    count: Any = math.prod(op.shape)
    counters = count if op.width == 64 else -(-count // 2)
    if not isinstance(counters, Size) and counters >= 2**32:
        raise Untranslatable(f"it makes {count:,} elements, and counters beyond 2^32 are not written; draw parts under keys of their own")
    line = w.cast(w.emit("Range", np.array(0), number(w, counters), np.array(1)), U32)
    words = _words(w, key, np.array(0, U32), line, 1)
    shape = w.shape(node.result.shape)
    if op.width == 64:
        return str(w.emit("Reshape", words, shape, allowzero=1))
    last = np.array([key.rank])
    pairs = w.emit("Concat", *(w.emit("Unsqueeze", half, last) for half in _halves(w, words)), axis=-1)
    flat = w.emit("Reshape", pairs, w.shape((*key.shape[:-1], 2 * counters)), allowzero=1)
    if count != 2 * counters:
        flat = w.emit("Slice", flat, np.array([0]), w.size(count), np.array([key.rank - 1]))
    return str(w.emit("Reshape", flat, shape, allowzero=1))


@translation(random.FoldIn)
def fold_in(w: Any, node: Node, key: Any, data: Any) -> str:
    last = np.array([data.rank])
    halves = _halves(w, _words(w, key, np.array(DERIVED), data, 0))
    return str(w.emit("Concat", *(w.emit("Unsqueeze", half, last) for half in halves), axis=-1))
