"""Pooling: maxima and sums over windows of the last axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.graph import Value
from nagraph.ir.integers import integers, is_integer
from nagraph.ir.op import Array, Cost, op
from nagraph.ir.sizes import dims, same_shape
from nagraph.ir.types import DTYPES, TensorType, is_float
from nagraph.ops.arg_extremum import ArgMax
from nagraph.ops.base import Linear, cast
from nagraph.ops.comparison import equal, logical_and
from nagraph.ops.convolution import ConvGeneral, Pairs, pads, per_axis, window_count
from nagraph.ops.elementwise import divide, floor_divide, multiply
from nagraph.ops.folding import Folding
from nagraph.ops.indexing import Gather, iota
from nagraph.ops.movement import reshape
from nagraph.ops.operands import Operand, as_array
from nagraph.ops.reduction import Max, Sum, lowest
from nagraph.ops.rules import Maybe, full, with_batch_axis, zeros_like
from nagraph.ops.width import widened

Axes = tuple[int, ...]


def pooled_shape(name: str, x: TensorType, window: Axes, stride: Axes, padding: Pairs) -> Axes:
    """The shape of x with the windows' numbers in place of its last axes."""
    d = len(window)
    if not d == len(stride) == len(padding) or x.rank < d:
        raise TypeRuleError(f"{name}: window {window}, stride {stride} and padding {padding} do not fit x {x}")
    if min((*window, *stride), default=1) < 1 or any(not 0 <= p < k for k, pair in zip(window, padding) for p in pair):
        raise TypeRuleError(
            f"{name}: window {window} and stride {stride} are at least 1, padding {padding} less than the window"
        )
    lead = x.rank - d
    counts = (window_count(n + low + high, k, s) for n, k, s, (low, high) in zip(x.shape[lead:], window, stride, padding))
    return x.shape[:lead] + tuple(counts)


def windows_of(x: Array, window: Axes, stride: Axes, padding: Pairs, fill: Any) -> Array:
    """A view [*lead, *out, *window] of the padded x."""
    d = len(window)
    lead = x.ndim - d
    padded = np.pad(x, ((0, 0),) * lead + padding, constant_values=fill)
    missing = tuple(max(k - n, 0) for k, n in zip(window, padded.shape[lead:]))
    if any(missing):
        counts = tuple(window_count(n, k, s) for n, k, s in zip(padded.shape[lead:], window, stride))
        return np.zeros((*x.shape[:lead], *counts, *window), x.dtype)
    view = np.lib.stride_tricks.sliding_window_view(padded, window, tuple(range(lead, x.ndim)))
    return view[(slice(None),) * lead + tuple(slice(None, None, s) for s in stride)]


class _Window(Folding):
    """Folds over windows of the last axes."""

    window: Axes
    stride: Axes
    padding: Pairs

    def fold_extents(self, x: TensorType) -> Axes:  # type: ignore[override]
        return self.window

    def _seen(self, k: Any, x: Value, index: Sequence[Any], reduced: Sequence[Any], fill: Any) -> tuple[int, list[Any]]:
        """The element of x in the window, `fill` in the padding; and its index on the last axes."""
        lead = x.ndim - len(self.window)
        places, mask = [], None
        for p, t, size, s, (low, _) in zip(index[lead:], reduced, x.shape[lead:], self.stride, self.padding):
            places.append(k.sum([(p, s), (t, 1)], -low))
            if not k.always(places[-1], size):
                mask = k.within(places[-1], size, 1, mask)
        with k.masked(mask):
            value = k.element(x, (*index[:lead], *places))
        return value if mask is None else k.select(mask, value, k.number(fill, x.dtype)), places


@op
class WindowMax(_Window):
    """Largest element of each window over the last axes: y[p] = max over k of x[p * stride + k - low].

    Shape: leading axes kept, then the windows' numbers. Dtype: kept; nan wins. Padding never wins.
    """

    window: Axes = (2,)
    stride: Axes = (2,)
    padding: Pairs = ((0, 0),)

    def infer(self, x: TensorType) -> TensorType:
        return x.with_shape(pooled_shape(self.name, x, self.window, self.stride, self.padding))

    def reference(self, x: Array) -> Array:
        windows = windows_of(x, self.window, self.stride, self.padding, lowest(x.dtype))
        y: Array = np.max(windows, axis=tuple(range(-len(self.window), 0)))
        return y

    def fold_terms(self, k: Any, operands: tuple[Value, ...], index: Sequence[Any], reduced: Sequence[Any]) -> tuple[int, ...]:
        value, _ = self._seen(k, operands[0], index, reduced, lowest(operands[0].dtype))
        return (value,)

    @property
    def fold_op(self) -> Max:
        return Max((0,))

    def _places(self, x: Value) -> Value:
        found: Value = WindowArgmax(self.window, self.stride, self.padding)(x)
        return found

    def vjp(
        self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]
    ) -> tuple[Maybe, ...]:
        (ct,) = cotangents
        (x,) = operands
        if ct is None:
            return (None,)
        put = WindowPut(x.shape[x.ndim - len(self.window):], self.window, self.stride, self.padding)
        return (put(ct, self._places(x)),)

    def jvp(
        self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]
    ) -> tuple[Maybe, ...]:
        (t,) = tangents
        return (None if t is None else at_places(t, self._places(operands[0]), len(self.window)),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*operands),)

    def cost(self, x: TensorType) -> Cost:
        return Cost(flops=self.infer(x).size * math.prod(self.window))

    def samples(self, rng: np.random.Generator) -> Any:
        shape = (2, *(2 * k + 1 for k in self.window))
        yield (rng.permutation(math.prod(shape)).reshape(shape).astype(np.float64),)
        yield (rng.integers(-4, 5, size=shape),)


@op
class WindowArgmax(_Window):
    """Where `window_max` finds its element: its number among the last axes of x, row-major, the first one of equals."""

    window: Axes = (2,)
    stride: Axes = (2,)
    padding: Pairs = ((0, 0),)

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(DTYPES["i64"], pooled_shape(self.name, x, self.window, self.stride, self.padding))

    def reference(self, x: Array) -> Array:
        d = len(self.window)
        spatial = x.shape[x.ndim - d:]
        windows = windows_of(x, self.window, self.stride, self.padding, lowest(x.dtype))
        numbers = windows_of(np.arange(math.prod(spatial)).reshape(spatial), self.window, self.stride, self.padding, -1)
        flat = windows.reshape(*windows.shape[:-d], math.prod(self.window))
        # Padding never wins, not even where all elements are as low as it.
        inside = numbers.reshape(*numbers.shape[:-d], math.prod(self.window)) >= 0
        rank = np.where(inside, 1 + (flat == np.max(flat, axis=-1, keepdims=True)) + 2 * (flat != flat), 0)
        found = np.argmax(rank, axis=-1)[..., None]
        wide = np.broadcast_to(numbers.reshape(inside.shape), rank.shape)
        y: Array = np.take_along_axis(wide, found, axis=-1)[..., 0]
        return y

    def fold_terms(self, k: Any, operands: tuple[Value, ...], index: Sequence[Any], reduced: Sequence[Any]) -> tuple[int, ...]:
        (x,) = operands
        value, places = self._seen(k, x, index, reduced, lowest(x.dtype))
        inside = None
        for i, n in zip(places, x.shape[x.ndim - len(places):]):
            inside = k.within(i, n, 1, inside)
        number = k.position(k.flatten(places, x.shape[x.ndim - len(places):]))
        if inside is not None:  # padding never wins, not even where all elements are as low as it
            number = k.select(inside, number, k.number(np.iinfo(np.int64).max, DTYPES["i64"]))
        return value, number

    @property
    def fold_op(self) -> ArgMax:
        return ArgMax(0)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*operands),)

    def cost(self, x: TensorType) -> Cost:
        return Cost(flops=self.infer(x).size * math.prod(self.window))

    def samples(self, rng: np.random.Generator) -> Any:
        yield from WindowMax(self.window, self.stride, self.padding).samples(rng)


@op
class WindowPut(Folding, Linear):
    """Elements of windows added where they come from: y[i] = sum of u[p] over the windows p with places[p] = i.

    Operands: u, and i64 places as `window_argmax` numbers them, of one shape. Linear in u.
    Shape: leading axes kept, then `sizes`. It is what carries the cotangent of `window_max` back.
    """

    widens = True
    sizes: Axes = (4,)
    window: Axes = (2,)
    stride: Axes = (2,)
    padding: Pairs = ((0, 0),)

    def infer(self, u: TensorType, places: TensorType) -> TensorType:
        result = u.with_shape(u.shape[:u.rank - len(self.sizes)] + self.sizes)
        expected = pooled_shape(self.name, result, self.window, self.stride, self.padding)
        if places.dtype != DTYPES["i64"] or not all(same_shape(s, u.shape, self.name) for s in (places.shape, expected)):
            raise TypeRuleError(f"{self.name}: u is {u} and places {places}; windows over {result} have the shape {list(expected)}")
        return result

    def reference(self, u: Array, places: Array) -> Array:
        d = len(self.sizes)
        lead, size = math.prod(u.shape[:u.ndim - d]), math.prod(self.sizes)
        offsets = places.reshape(lead, -1 if lead else 0) + size * np.arange(lead)[:, None]
        sums = np.zeros(lead * size, u.dtype)
        np.add.at(sums, offsets.reshape(-1), u.reshape(-1))
        return sums.reshape(*u.shape[:u.ndim - d], *self.sizes)

    def fold_extents(self, u: TensorType, places: TensorType) -> Axes:  # type: ignore[override]
        return tuple(-(-w // s) for w, s in zip(self.window, self.stride))

    def fold_terms(self, k: Any, operands: tuple[Value, ...], index: Sequence[Any], reduced: Sequence[Any]) -> tuple[int, ...]:
        """Element i is in the windows p with p * stride <= i + low < p * stride + window: a few from ⌊(i + low) / stride⌋ down."""
        u, places = operands
        lead = u.ndim - len(self.sizes)
        windows, mask = [], None
        for i, back, s, count, (low, high), n in zip(index[lead:], reduced, self.stride, u.shape[lead:], self.padding, self.sizes):
            at = k.sum([(i, 1)], low)
            last = at if s == 1 else k.dynamic(k.apply(floor_divide, k.position(at), k.number(s, DTYPES["i64"])), (n + low + high) // s + 1)
            windows.append(k.sum([(last, 1), (back, -1)]))
            mask = k.within(windows[-1], count, 1, mask)
        with k.masked(mask):
            place = k.element(places, (*index[:lead], *windows))
            value = k.element(u, (*index[:lead], *windows))
        hit = k.apply(logical_and, mask, k.apply(equal, place, k.position(k.flatten(index[lead:], self.sizes))))
        chosen = k.select(hit, value, k.number(0, u.dtype))
        return (chosen,)

    @property
    def fold_op(self) -> Sum:
        return Sum((0,))

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (at_places(ct, operands[1], len(self.sizes)),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*(with_batch_axis(v, b, size) for v, b in zip(operands, batched))),)

    def cost(self, u: TensorType, places: TensorType) -> Cost:
        return Cost(flops=u.size * math.prod(self.window))

    def samples(self, rng: np.random.Generator) -> Any:
        x = rng.permutation(2 * math.prod(self.sizes)).reshape(2, *self.sizes).astype(np.float64)
        places = WindowArgmax(self.window, self.stride, self.padding)(x)
        yield rng.normal(size=places.shape), places


def at_places(t: Value, places: Value, d: int) -> Value:
    """The elements of t, over the last d axes, that `places` number."""
    if not places.size:
        return full(TensorType(t.dtype, places.shape), 0)
    lead = math.prod(t.shape[:t.ndim - d])
    flat = reshape(places, (lead, places.size // lead))
    result: Value = reshape(Gather((0, 1))(reshape(t, (lead, t.size // lead)), iota(flat.shape, 0), flat), places.shape)
    return result


@op
class WindowSum(_Window, Linear):
    """Sum of each window over the last axes: y[p] = sum over k of x[p * stride + k - low].

    Shape: leading axes kept, then the windows' numbers. Dtype: kept; 16-bit floats accumulate in float32.
    """

    widens = True
    window: Axes = (2,)
    stride: Axes = (2,)
    padding: Pairs = ((0, 0),)

    def infer(self, x: TensorType) -> TensorType:
        return x.with_shape(pooled_shape(self.name, x, self.window, self.stride, self.padding))

    def reference(self, x: Array) -> Array:
        windows = windows_of(x, self.window, self.stride, self.padding, 0)
        return np.sum(windows, axis=tuple(range(-len(self.window), 0)), dtype=x.dtype)

    def fold_terms(self, k: Any, operands: tuple[Value, ...], index: Sequence[Any], reduced: Sequence[Any]) -> tuple[int, ...]:
        value, _ = self._seen(k, operands[0], index, reduced, 0)
        return (value,)

    @property
    def fold_op(self) -> Sum:
        return Sum((0,))

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        """The input gradient of a convolution with a kernel of ones."""
        (x,) = operands
        if not ct.size or not x.size:
            return (zeros_like(x),)
        lead = x.ndim - len(self.window)
        rows = math.prod(x.shape[:lead])
        ones = full(TensorType(ct.dtype, (1, 1, *self.window)), 1)
        once = (1,) * len(self.window)
        forward = ConvGeneral(self.stride, self.padding, once, once, 1)
        flat = reshape(ct, (rows, 1, *ct.shape[lead:]))
        return (reshape(forward.input_gradient(flat, ones, (rows, 1, *x.shape[lead:])), x.shape),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*operands),)

    def cost(self, x: TensorType) -> Cost:
        return Cost(flops=self.infer(x).size * math.prod(self.window))

    def samples(self, rng: np.random.Generator) -> Any:
        yield from WindowMax(self.window, self.stride, self.padding).samples(rng)


def _window(x: Any, window: int | Sequence[int], stride: Any, padding: Any) -> tuple[Axes, Axes, Pairs]:
    rank = max(len(x.shape) - 2, 0) if is_integer(window) else len(integers("pooling: window", window))
    if len(x.shape) < rank or not rank:
        raise TypeRuleError(f"pooling: x of shape {x.shape} must be [N, C, *spatial] with an axis for each of the window")
    sizes = per_axis("window", window, rank)
    strides = sizes if stride is None else per_axis("stride", stride, rank)
    return sizes, strides, pads(padding, tuple(x.shape[len(x.shape) - rank:]), sizes, strides)


def max_pool(x: Operand, window: int | Sequence[int], stride: Any = None, padding: Any = 0) -> Any:
    """Maximum over windows of x [N, C, *spatial]; stride is the window where None; padding as in `conv`."""
    x = x if isinstance(x, Value) else as_array(x)
    return WindowMax(*_window(x, window, stride, padding))(x)


@widened
def avg_pool(
    x: Operand, window: int | Sequence[int], stride: Any = None, padding: Any = 0, count_padding: bool = True
) -> Any:
    """Mean over windows of x [N, C, *spatial]; padding counts as zeros, or not at all with count_padding=False."""
    x = x if isinstance(x, Value) else as_array(x)
    sizes, strides, pairs = _window(x, window, stride, padding)
    if not is_float(x.dtype):
        raise TypeRuleError(f"avg_pool: x has dtype {x.dtype}; cast it to a floating dtype")
    total = WindowSum(sizes, strides, pairs)(x)
    if count_padding:
        return multiply(total, 1 / math.prod(sizes))
    spatial = x.shape[len(x.shape) - len(sizes):]
    if dims(spatial):
        return divide(total, cast(WindowSum(sizes, strides, pairs)(full(TensorType(DTYPES["f32"], spatial), 1)), x.dtype))
    ones = np.ones(spatial, np.float32)
    counts = np.sum(windows_of(ones, sizes, strides, pairs, 0), axis=tuple(range(-len(sizes), 0)))
    return divide(total, counts.astype(x.dtype))
