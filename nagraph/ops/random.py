"""Random numbers from explicit keys: the same key gives the same numbers everywhere.

A key is two 32-bit words, u32[2]. Use each key once: `split` it for more. Element i of a draw depends on
the key and on i alone (a counter-based generator), so any part of it can be computed by itself.
Bits and uniforms are identical on every backend; what is computed from them by log or cos is within rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.axes import AxisRelation, anywhere
from nagraph.ir.graph import Value
from nagraph.ir.integers import integer, integers, is_integer
from nagraph.ir.op import Array, Cost, op
from nagraph.ir.sizes import Size, same_shape
from nagraph.ir.types import BOOL, DTYPES, FLOATS, INTEGERS, SIGNED, DType, TensorType, as_dtype
from nagraph.ops.arg_extremum import argmax
from nagraph.ops.base import NARROW_FLOATS, Elementwise, Primitive, cast
from nagraph.ops.bits import bitwise_and, right_shift
from nagraph.ops.comparison import greater_equal, less
from nagraph.ops.elementwise import maximum, where
from nagraph.ops.identities import stop_gradient
from nagraph.ops.indexing import iota, take
from nagraph.ops.joining import stack
from nagraph.ops.movement import broadcast_to
from nagraph.ops.operands import Operand, as_array
from nagraph.ops.rounding import nextafter
from nagraph.ops.rules import with_batch_axis
from nagraph.ops.sorting import argsort
from nagraph.ops.special import cos, log, sqrt
from nagraph.ops.width import widen

Shape = tuple[int, ...]
U32, U64, I64, F32, F64 = (DTYPES[n] for n in ("u32", "u64", "i64", "f32", "f64"))

#: The high counter word of derived keys: counters of draws stay below it, so the two never meet.
DERIVED = np.uint32(0x8000_0000)


#: How far each of the eight rounds of the cipher rotates, and the constant of its key schedule.
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = np.uint32(0x1BD1_1BDA)


def threefry2x32(k0: Array, k1: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Threefry-2x32 of the counter (x0, x1) under the key (k0, k1), all u32; shapes broadcast."""
    shape = np.broadcast_shapes(k0.shape, k1.shape, x0.shape, x1.shape)
    a, b = (np.array(np.broadcast_to(x, shape)) for x in (x0, x1))
    encipher(k0, k1, a, b, np.empty_like(a))
    return a, b


#: Counters enciphered at a time, a divisor of 2^32; and the first so many.
BLOCK = 1 << 14
FIRST = np.arange(BLOCK, dtype=np.uint32)


def encipher(k0: Any, k1: Any, x0: Array, x1: Array, turned: Array) -> None:
    """Threefry-2x32 with 20 rounds, in place, with `turned` as scratch.

    Five times: four rounds of add, rotate, exclusive-or, then the next words of the key and the number of the time.
    Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    schedule = (k0, k1, k0 ^ k1 ^ PARITY)
    with np.errstate(over="ignore"):
        x0 += k0
        x1 += k1
        for time in range(1, 6):
            for turn in range(4):
                by = np.uint32(ROTATIONS[(time - 1) % 2 * 4 + turn])
                x0 += x1
                np.right_shift(x1, np.uint32(32) - by, turned)
                x1 <<= by
                x1 |= turned
                x1 ^= x0
            x0 += schedule[time % 3]
            x1 += schedule[(time + 1) % 3] + np.uint32(time)


@op
class Threefry(Elementwise):
    """Threefry-2x32 of counters (x0, x1) under keys (k0, k1), element by element: the first word high, the second low.

    Operands: u32, broadcast. Dtype: u64.
    """

    dtypes = frozenset((U32,))
    per_element = Cost(flops=100)
    weight = 100

    def result_dtype(self, dtype: DType) -> DType:
        return U64

    def reference(self, k0: Array, k1: Array, x0: Array, x1: Array) -> Array:
        a, b = threefry2x32(k0, k1, x0, x1)
        words: Array = np.left_shift(a, np.uint64(32), dtype=np.uint64) | b
        return words

    def scalar(self, s: Any, k0: Any, k1: Any, x0: Any, x1: Any) -> Any:
        schedule = (k0, k1, k0 ^ k1 ^ int(PARITY))
        x0, x1 = x0 + k0, x1 + k1
        for time in range(1, 6):
            for turn in range(4):
                by = ROTATIONS[(time - 1) % 2 * 4 + turn]
                x0 = x0 + x1
                x1 = ((x1 << by) | (x1 >> 32 - by)) ^ x0
            x0, x1 = x0 + schedule[time % 3], x1 + schedule[(time + 1) % 3] + time
        return (s.cast(x0, U64) << 32) | s.cast(x1, U64)

    def samples(self, rng: np.random.Generator) -> Any:
        yield tuple(rng.integers(0, 2**32, size=(4, 3, 5), dtype=np.uint32))


def enciphered(k: Any, key: Value, lead: Sequence[Any], x0: int, x1: int) -> int:
    """In a kernel: the words of a counter under the key at index `lead` of an array of keys."""
    words = (k.element(key, (*lead, k.sum((), w))) for w in (0, 1))
    return int(k.apply(Threefry(), *words, x0, x1))


def check_key(name: str, key: TensorType) -> None:
    if key.dtype != U32 or not key.rank or key.shape[-1] != 2:
        raise TypeRuleError(f"{name}: a key is u32[2] (or an array of keys u32[..., 2]), got {key}; make one with key(seed)")


@op
class RandomBits(Primitive):
    """Uniformly distributed bits: Threefry-2x32 with 20 rounds of a counter under the key.

    For width 64, element i is both words of counter i, the first one high; for width 32, word i mod 2 of counter ⌊i / 2⌋.
    Operand: u32[..., 2]. Shape: the axes of the keys, then `shape`. Dtype: u32 or u64.
    """

    #: Roughly the instructions of one element.
    weight = 100
    shape: Shape = ()
    width: int = 32

    def infer(self, key: TensorType) -> TensorType:
        check_key(self.name, key)
        if self.width not in (32, 64):
            raise TypeRuleError(f"random_bits: width {self.width} is neither 32 nor 64")
        return TensorType(U32 if self.width == 32 else U64, key.shape[:-1] + self.shape)

    def reference(self, key: Array) -> Array:
        bits = np.empty(key.shape[:-1] + self.shape, np.uint32 if self.width == 32 else np.uint64)
        self._write(key, bits, *(np.empty(BLOCK, np.uint32) for _ in range(3)))
        return bits

    def _write(self, key: Array, bits: Array, x0: Array, x1: Array, turned: Array) -> None:
        """Block by block, so that the words of the cipher stay in cache."""
        count = math.prod(self.shape)
        rows = bits.reshape(-1, count) if count else bits.reshape(0, 1)
        for (k0, k1), row in zip(key.reshape(-1, 2), rows):
            counters = count if self.width == 64 else -(-count // 2)
            for start in range(0, counters, BLOCK):
                n = min(BLOCK, counters - start)
                a, b, t = (w[:n] for w in (x0, x1, turned))
                a[...] = start >> 32
                np.add(FIRST[:n], np.uint32(start & 0xFFFF_FFFF), b)
                encipher(k0, k1, a, b, t)
                if self.width == 64:
                    part = row[start:start + n]
                    np.left_shift(a, np.uint64(32), part, dtype=np.uint64)
                    np.bitwise_or(part, b, part)
                else:
                    part = row[2 * start:2 * (start + n)]
                    part[0::2] = a
                    part[1::2] = b[:len(part) // 2]

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        return self._write

    def scratch(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(U32, (BLOCK,)),) * 3

    def axis_relations(self, key: TensorType) -> tuple[AxisRelation, ...]:
        return (anywhere(key.rank - 1 + len(self.shape)),)

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        (key,) = operands
        lead = key.ndim - 1
        number = k.position(k.flatten(index[lead:], self.shape))
        counter = number if self.width == 64 else k.apply(right_shift, number, k.number(1, I64))
        high, low = k.apply(right_shift, counter, k.number(32, I64)), counter
        words = enciphered(k, key, index[:lead], k.cast(high, U32), k.cast(low, U32))
        if self.width == 64:
            return words
        odd = k.apply(bitwise_and, number, k.number(1, I64))
        first = k.apply(right_shift, words, k.number(32, U64))
        return int(k.cast(k.select(k.cast(odd, BOOL), words, first), U32))

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*operands),)

    def cost(self, key: TensorType) -> Cost:
        return Cost(flops=(100 if self.width == 64 else 50) * self.infer(key).size)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.integers(0, 2**32, size=2, dtype=np.uint32),)
        yield (rng.integers(0, 2**32, size=(3, 2), dtype=np.uint32),)


@op
class FoldIn(Primitive):
    """A key made of a key and a number: Threefry-2x32 of the counter (2^31, number).

    Operands: keys u32[..., 2], numbers u32[...]. Result: u32[..., 2].
    """

    def infer(self, key: TensorType, data: TensorType) -> TensorType:
        check_key(self.name, key)
        if data.dtype != U32 or not same_shape(data.shape, key.shape[:-1], self.name):
            raise TypeRuleError(f"fold_in: keys {key} take one u32 number each, got {data}")
        return key

    def reference(self, key: Array, data: Array) -> Array:
        words: Array = np.stack(threefry2x32(key[..., 0], key[..., 1], np.full_like(data, DERIVED), data), axis=-1)
        return words

    def axis_relations(self, key: TensorType, data: TensorType) -> tuple[AxisRelation, ...]:
        return anywhere(key.rank), anywhere(key.rank)

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        key, data = operands
        *lead, word = index
        words = enciphered(k, key, lead, k.number(int(DERIVED), U32), k.element(data, tuple(lead)))
        second = k.cast(k.position(word), BOOL)
        return int(k.cast(k.select(second, words, k.apply(right_shift, words, k.number(32, U64))), U32))

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*(with_batch_axis(v, b, size) for v, b in zip(operands, batched))),)

    def cost(self, key: TensorType, data: TensorType) -> Cost:
        return Cost(flops=100 * data.size)

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.integers(0, 2**32, size=(3, 2), dtype=np.uint32), np.arange(3, dtype=np.uint32)


# -- keys -------------------------------------------------------------------------------------------


def key(seed: Operand) -> Any:
    """The key of an integer seed: its high and its low 32 bits."""
    if isinstance(seed, Value):
        wide = cast(seed, U64)
        return stack([cast(wide >> np.uint64(32), U32), cast(wide & np.uint64(0xFFFF_FFFF), U32)])
    number = int(seed) & (2**64 - 1)
    return np.array([number >> 32, number & 0xFFFF_FFFF], np.uint32)


def fold_in(key: Operand, data: Operand) -> Any:
    """Another key, one for each number: `fold_in(key, layer)`. Numbers count modulo 2^32."""
    number = cast(data, U32) if isinstance(data, Value) else np.asarray(int(data) & 0xFFFF_FFFF, np.uint32)
    return FoldIn()(key, number)


def split(key: Operand, count: int = 2) -> Any:
    """`count` independent keys, u32[count, 2]."""
    key = _key(key)
    if not isinstance(key, Value) and not isinstance(count, Size):
        return FoldIn()(np.broadcast_to(key, (count, 2)), np.arange(count, dtype=np.uint32))
    return FoldIn()(broadcast_to(key, (count, 2)), cast(iota((count,), 0), U32))


def bits(key: Operand, shape: int | Sequence[int] = (), width: int = 32) -> Any:
    """Uniform random integers of 32 or 64 bits."""
    return RandomBits(_shape(shape), integer("bits: width", width))(_key(key))


# -- distributions ----------------------------------------------------------------------------------


def uniform(key: Operand, shape: int | Sequence[int] = (), dtype: Any = F32, low: Operand = 0.0, high: Operand = 1.0) -> Any:
    """Uniform on [low, high), on a grid of 2^-24 (2^-53 for f64) of the interval, rounded to the dtype.

    What would be rounded up to `high` is the largest number below it. An interval without length gives `low`.
    """
    made = _float("uniform", dtype)
    u = _unit(bits(key, shape, 64 if made == F64 else 32), made)
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and (low, high) == (0, 1):
        if made not in NARROW_FLOATS:  # they hold the whole grid
            return u
    else:
        low, high = widen(low), widen(high)
        u = u * (high - low) + low
    x, last = cast(u, made), _last_below(low, high, made)
    return where(x <= last, x, last)


def _last_below(low: Any, high: Any, dtype: DType) -> Any:
    """The largest number of a dtype below `high`; where low >= high there is none, and it is `low`, or what lies beyond."""
    if not isinstance(low, Value) and not isinstance(high, Value):
        low, high = np.asarray(low, F64), np.asarray(high, F64)
    near = cast(high, dtype)
    beyond = greater_equal(near if isinstance(high, Value) else cast(near, F64), high)
    before = where(beyond, nextafter(near, np.asarray(-np.inf, dtype)), near)
    last = where(less(low, high), before, maximum(cast(low, dtype), near))
    return stop_gradient(last) if isinstance(last, Value) else last


def normal(key: Operand, shape: int | Sequence[int] = (), dtype: Any = F32) -> Any:
    """Standard normal by Box and Muller: sqrt(-2 log u) cos(2 pi v), one counter for both u and v (two for f64)."""
    made = _float("normal", dtype)
    if made == F64:
        pair = bits(key, (2, *_shape(shape)), 64)
        first, second = pair[0], pair[1]
    else:
        word = bits(key, shape, 64)
        first, second = cast(word >> np.uint64(32), U32), cast(word & np.uint64(0xFFFF_FFFF), U32)
    # 1 - u lies in (0, 1], where the logarithm is finite.
    u, v = 1 - _unit(first, made), _unit(second, made)
    return cast(sqrt(-2 * log(u)) * cos(2 * math.pi * v), made)


def bernoulli(key: Operand, p: Operand = 0.5, shape: int | Sequence[int] | None = None) -> Any:
    """True with probability p, bool; `shape` is that of p where None."""
    p = p if isinstance(p, Value) else np.asarray(p, np.float32 if np.ndim(p) == 0 else None)
    made = tuple(p.shape) if shape is None else _shape(shape)
    return less(uniform(key, made, F64 if p.dtype == F64 else F32), p)


def exponential(key: Operand, shape: int | Sequence[int] = (), dtype: Any = F32) -> Any:
    """Exponential of rate 1: -log(1 - u), u in float32 at least, so that none is infinite."""
    made = _float("exponential", dtype)
    return cast(-log(1 - uniform(key, shape, F64 if made == F64 else F32)), made)


def gumbel(key: Operand, shape: int | Sequence[int] = (), dtype: Any = F32) -> Any:
    """Standard Gumbel: -log(-log u), u in the middle of one of 2^23 (2^52) parts of (0, 1)."""
    made = _float("gumbel", dtype)
    wide = made == F64
    word = bits(key, shape, 64 if wide else 32)
    part = word >> (np.uint64(12) if wide else np.uint32(9))
    u = (cast(part, F64 if wide else F32) + 0.5) * 2.0 ** (-52 if wide else -23)
    return cast(-log(-log(u)), made)


def categorical(key: Operand, logits: Operand, axis: int = -1, shape: int | Sequence[int] | None = None) -> Any:
    """Numbers drawn with probabilities softmax(logits) over `axis`, i64, as the argmax of logits + gumbel, of 16-bit logits in float32.

    `shape` (that of logits without `axis` where None) may have further axes in front.
    """
    logits = logits if isinstance(logits, Value) else as_array(logits)
    rank = len(logits.shape)
    if not -rank <= axis < rank:
        raise TypeRuleError(f"categorical: axis {axis} is out of range for logits of shape {logits.shape}")
    axis %= rank
    rest = logits.shape[:axis] + logits.shape[axis + 1:]
    made = rest if shape is None else _shape(shape)
    lead = len(made) - len(rest)
    if lead < 0 or made[lead:] != rest:
        raise TypeRuleError(f"categorical: shape {made} must end with that of logits without axis {axis}, {rest}")
    noise = gumbel(key, made[: lead + axis] + (logits.shape[axis],) + made[lead + axis:], F64 if logits.dtype == F64 else F32)
    return argmax(noise + widen(logits), axis=lead + axis)


def randint(key: Operand, shape: int | Sequence[int], low: int, high: int, dtype: Any = np.int64) -> Any:
    """Integers from low to high - 1, as 64 random bits modulo high - low (uneven by at most (high - low) / 2^64)."""
    made = as_dtype(dtype)
    if made not in INTEGERS or not low < high:
        raise TypeRuleError(f"randint: wants low < high and an integer dtype, got {low}, {high}, {made}")
    if low < np.iinfo(made).min or high - 1 > np.iinfo(made).max:
        raise TypeRuleError(f"randint: {low} to {high - 1} does not fit {made}")
    if high - low == 2**64:
        return cast(bits(key, shape, 64), made)
    offset = bits(key, shape, 64) % np.uint64(high - low)
    # Casting wraps, so that adding modulo 2^n gives the right number for every low.
    wide = DTYPES["i64"] if made in SIGNED else U64
    return cast(cast(offset, wide) + np.asarray(low, wide), made)


def permutation(key: Operand, x: int | Operand, axis: int = 0) -> Any:
    """0 ... n - 1 in random order for a number n, else x with `axis` in random order.

    The order is that which sorts 64 random bits for each place.
    """
    if is_integer(x) and not isinstance(x, Value):
        return argsort(bits(key, (integer("permutation: n", x),), 64))
    x = x if isinstance(x, Value) else as_array(x)
    return take(x, argsort(bits(key, (x.shape[axis],), 64)), axis)


def _unit(word: Any, dtype: Any) -> Any:
    """The high bits of a word as a number in [0, 1)."""
    if dtype == F64:
        return cast(word >> np.uint64(11), F64) * 2.0**-53
    return cast(word >> np.uint32(8), F32) * 2.0**-24


def _float(name: str, dtype: Any) -> Any:
    made = as_dtype(dtype)
    if made not in FLOATS:
        raise TypeRuleError(f"{name}: dtype {made} is not a floating one")
    return made


def _key(key: Operand) -> Any:
    return key if isinstance(key, Value) else as_array(key)


def _shape(shape: int | Sequence[int]) -> Shape:
    return integers("random: shape", shape)
