"""Convolution over any number of spatial axes; both of its gradients are convolutions again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.graph import Value
from nagraph.ir.integers import integer, integers, is_integer
from nagraph.ir.op import Array, Cost, op
from nagraph.ir.sizes import larger, same
from nagraph.ir.types import TensorType, type_of
from nagraph.ops.base import Multilinear
from nagraph.ops.contraction import promoted
from nagraph.ops.folding import Folding
from nagraph.ops.movement import flip, reshape, transpose
from nagraph.ops.operands import Operand, as_array
from nagraph.ops.rules import with_batch_axis, zeros_like

Axes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def spread(size: int, step: int) -> int:
    """The number of places from the first to the last of `size` elements, each `step` from the one before."""
    return size if step == 1 else larger((size - 1) * step + 1, 0)


def window_count(size: int, window: int, stride: int) -> int:
    """How many windows fit: 0 where the window is longer than the axis."""
    return (size - window) // stride + 1 if size >= window else 0


@op
class ConvGeneral(Folding, Multilinear):
    """Cross-correlation: y[n, o, p] = sum over c, k of x[n, c, p * stride + k * dilation - low] w[o, c, k].

    x is [N, C, *spatial], w is [O, C / groups, *kernel], y is [N, O, *out]; outside of x are `padding`
    (low, high) zeros per axis (negative ones cut off), between its elements lhs_dilation - 1.
    Group g of the channels of x meets group g of the channels of w. Dtype: equal, kept; 16-bit floats
    accumulate in float32. Raises TypeRuleError where ranks, channels, groups or dtypes do not fit.
    """

    widens = True
    stride: Axes = (1,)
    padding: Pairs = ((0, 0),)
    dilation: Axes = (1,)
    lhs_dilation: Axes = (1,)
    groups: int = 1

    def prepare(self, operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        return promoted(operands)

    def infer(self, x: TensorType, w: TensorType) -> TensorType:
        d = len(self.stride)
        if x.dtype != w.dtype:
            raise TypeRuleError(f"conv: dtypes differ: x {x}, w {w}; cast one of them")
        if not d == len(self.padding) == len(self.dilation) == len(self.lhs_dilation):
            raise TypeRuleError(f"conv: stride, padding, dilation and lhs_dilation have one entry per axis, got {self}")
        if x.rank != d + 2 or w.rank != d + 2:
            raise TypeRuleError(f"conv: with {d} spatial axes x and w have {d + 2} axes, got x {x}, w {w}")
        if min(*self.stride, *self.dilation, *self.lhs_dilation, self.groups) < 1:
            raise TypeRuleError(f"conv: stride, dilation, lhs_dilation and groups are at least 1, got {self}")
        if not same(w.shape[1] * self.groups, x.shape[1], "conv") or w.shape[0] % self.groups:
            raise TypeRuleError(
                f"conv: channels do not fit: x {x} has {x.shape[1]}, w {w} takes {w.shape[1]} in each of "
                f"{self.groups} groups, and gives {w.shape[0]}, which the groups must divide"
            )
        if 0 in w.shape[2:]:
            raise TypeRuleError(f"conv: the kernel of w {w} is empty")
        out = [
            window_count(larger(spread(n, ld) + low + high, 0), spread(k, dil), s)
            for n, k, s, (low, high), dil, ld in zip(
                x.shape[2:], w.shape[2:], self.stride, self.padding, self.dilation, self.lhs_dilation
            )
        ]
        return TensorType(x.dtype, (x.shape[0], w.shape[0], *out))

    def reference(self, x: Array, w: Array) -> Array:
        """One matrix product for each tap of the kernel, over a strided view of the padded x."""
        shape = self.infer(type_of(x), type_of(w)).shape
        n, o, out = shape[0], shape[1], shape[2:]
        c, g = x.shape[1], self.groups
        padded = self._padded(x)
        y = np.zeros((n, g, o // g, math.prod(out)), x.dtype)
        if not y.size:
            return y.reshape(shape)
        taps = w.reshape(g, o // g, c // g, *w.shape[2:])
        whole = (slice(None),) * 3
        for tap in np.ndindex(*w.shape[2:]):
            windows = tuple(
                slice(k * d, k * d + (m - 1) * s + 1, s) for k, d, m, s in zip(tap, self.dilation, out, self.stride)
            )
            seen = padded[whole[:2] + windows].reshape(n, g, c // g, -1)
            y += np.matmul(taps[whole + tap], seen)
        return y.reshape(shape)

    def fold_extents(self, x: TensorType, w: TensorType) -> Axes:  # type: ignore[override]
        return w.shape[1:]

    def fold_terms(self, k: Any, operands: tuple[Value, ...], index: Sequence[Any], reduced: Sequence[Any]) -> tuple[int, ...]:
        x, w = operands
        n, o, *out = index
        c, *tap = reduced
        group = k.unflatten(o, (self.groups, w.shape[0] // self.groups))[0]
        places, mask = [], None
        for p, t, size, s, (low, _), dil, ld in zip(out, tap, x.shape[2:], self.stride, self.padding, self.dilation, self.lhs_dilation):
            at = k.sum([(p, s), (t, dil)], -low)
            if not k.always(at, size, ld):
                mask = k.within(at, spread(size, ld), ld, mask)
            places.append(k.quotient(at, ld))
        where = (n, k.sum([(group, w.shape[1]), (c, 1)]), *places)
        with k.masked(mask):
            seen = k.element(x, where)
        return seen, k.element(w, (o, c, *tap))

    @property
    def fold_op(self) -> None:
        return None

    def _padded(self, x: Array) -> Array:
        """x with zeros between its elements and around it, or cut where the padding is negative."""
        sizes = [spread(n, ld) for n, ld in zip(x.shape[2:], self.lhs_dilation)]
        whole = (slice(None),) * 2
        wide = np.zeros((*x.shape[:2], *sizes), x.dtype)
        wide[whole + tuple(slice(None, None, ld) for ld in self.lhs_dilation)] = x
        wide = np.pad(wide, ((0, 0), (0, 0), *((max(low, 0), max(high, 0)) for low, high in self.padding)))
        cut = tuple(slice(max(-low, 0), max(n - max(-high, 0), 0)) for n, (low, high) in zip(wide.shape[2:], self.padding))
        return wide[whole + cut]

    def adjoint_in(self, index: int, ct: Value, operands: tuple[Value, ...]) -> Value:
        x, w = operands
        if 0 in (ct.size, operands[0].size, operands[1].size):
            return zeros_like(operands[index])
        return self.input_gradient(ct, w, x.shape) if index == 0 else self.weight_gradient(ct, x, w.shape)

    def input_gradient(self, ct: Value, w: Value, x_shape: Axes) -> Value:
        """The kernel flipped, its channels exchanged; what was stride is now the dilation of ct."""
        g, (o, c), kernel = self.groups, w.shape[:2], w.shape[2:]
        rest = tuple(range(3, w.ndim + 1))
        if g == 1:
            swapped = transpose(w, (1, 0, *range(2, w.ndim)))
        else:
            swapped = reshape(transpose(reshape(w, (g, o // g, c, *kernel)), (0, 2, 1, *rest)), (g * c, o // g, *kernel))
        padding = []
        for n, m, k, s, (low, _), dil, ld in self._sizes(x_shape, ct.shape, w.shape):
            reach = spread(k, dil) - 1
            padding.append((reach - low, spread(n, ld) - spread(m, s) + low))
        conv = ConvGeneral(self.lhs_dilation, tuple(padding), self.dilation, self.stride, g)
        result: Value = conv(ct, flip(swapped, tuple(range(2, w.ndim))))
        return result

    def weight_gradient(self, ct: Value, x: Value, w_shape: Axes) -> Value:
        """x convolved with ct, the batch in the role of the channels; stride and dilation exchange."""
        g, n, c, spatial = self.groups, x.shape[0], w_shape[1], x.shape[2:]
        rest = tuple(range(3, x.ndim + 1))
        swap = (1, 0, *range(2, x.ndim))
        if g == 1:
            channels = transpose(x, swap)
        else:
            channels = reshape(transpose(reshape(x, (n, g, c, *spatial)), (2, 1, 0, *rest)), (c, g * n, *spatial))
        padding = []
        for size, m, k, s, (low, _), dil, ld in self._sizes(x.shape, ct.shape, w_shape):
            padding.append((low, spread(k, dil) - spread(size, ld) - low + spread(m, s) - 1))
        conv = ConvGeneral(self.dilation, tuple(padding), self.stride, self.lhs_dilation, g)
        result: Value = transpose(conv(channels, transpose(ct, swap)), swap)
        return result

    def _sizes(self, x: Axes, y: Axes, w: Axes) -> Any:
        return zip(x[2:], y[2:], w[2:], self.stride, self.padding, self.dilation, self.lhs_dilation)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        """Examples join the batch of x; where the kernels differ, they join the groups."""
        x, w = operands
        if not batched[1]:
            y = self(reshape(x, (size * x.shape[1], *x.shape[2:])), w)
            return (reshape(y, (size, x.shape[1], *y.shape[1:])),)
        kernels = reshape(w, (size * w.shape[1], *w.shape[2:]))
        if not batched[0] and self.groups == 1:
            y = self(x, kernels)
        else:
            x = with_batch_axis(x, batched[0], size)
            joined = reshape(
                transpose(x, (1, 0, *range(2, x.ndim))), (x.shape[1], size * x.shape[2], *x.shape[3:])
            )
            conv = ConvGeneral(self.stride, self.padding, self.dilation, self.lhs_dilation, self.groups * size)
            y = conv(joined, kernels)
        y = reshape(y, (y.shape[0], size, w.shape[1], *y.shape[2:]))
        return (transpose(y, (1, 0, *range(2, y.ndim))),)

    def cost(self, x: TensorType, w: TensorType) -> Cost:
        return Cost(flops=2.0 * self.infer(x, w).size * math.prod(w.shape[1:]))

    def samples(self, rng: np.random.Generator) -> Any:
        d = len(self.stride)
        x, w = (2, 2 * self.groups, *range(6, 6 + d)), (3 * self.groups, 2, *range(2, 2 + d))
        yield rng.normal(size=x), rng.normal(size=w)
        yield rng.integers(-4, 5, size=x), rng.integers(-4, 5, size=w)


def per_axis(name: str, value: int | Sequence[int], count: int) -> Axes:
    """One number for all axes, or one for each. TypeRuleError for another count."""
    made = integers(name, value) * (count if is_integer(value) else 1)
    if len(made) != count:
        raise TypeRuleError(f"{name} has {len(made)} entries for {count} spatial axes: {made}")
    return made


def pads(padding: Any, sizes: Axes, windows: Axes, strides: Axes) -> Pairs:
    """Padding as pairs: from a number, "valid", "same" (out = ceil(n / stride)), numbers, or pairs."""
    if padding == "valid":
        return ((0, 0),) * len(sizes)
    if padding == "same":
        totals = [larger((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, windows, strides)]
        return tuple((t // 2, t - t // 2) for t in totals)
    if isinstance(padding, str):
        raise TypeRuleError(f'padding {padding!r} is neither "same" nor "valid" nor numbers')
    given = [padding] * len(sizes) if is_integer(padding) else list(padding)
    pairs = [integers("padding", p) * (2 if is_integer(p) else 1) for p in given]
    if len(pairs) != len(sizes) or any(len(p) != 2 for p in pairs):
        raise TypeRuleError(f"padding {padding} must be a number, or for each of {len(sizes)} spatial axes a number or a pair")
    return tuple((low, high) for low, high in pairs)


def conv(
    x: Operand,
    w: Operand,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Any:
    """Convolution (cross-correlation) of x [N, C, *spatial] with w [O, C / groups, *kernel].

    `padding` is a number, one per axis, a pair per axis, "same" or "valid".
    """
    x, w = (o if isinstance(o, Value) else as_array(o) for o in (x, w))
    d = max(len(x.shape) - 2, 0)
    strides, dilations = per_axis("stride", stride, d), per_axis("dilation", dilation, d)
    windows = tuple(spread(k, s) for k, s in zip(w.shape[2:], dilations))
    pairs = pads(padding, x.shape[2:], windows, strides)
    return ConvGeneral(strides, pairs, dilations, (1,) * d, integer("conv: groups", groups))(x, w)


def conv_transpose(
    x: Operand,
    w: Operand,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Any:
    """The transpose of `conv`: x [N, C, *spatial] with w [C, O / groups, *kernel].

    Size of the result: (n - 1) stride - 2 padding + (k - 1) dilation + 1 + output_padding.
    """
    x, w = (o if isinstance(o, Value) else as_array(o) for o in (x, w))
    d, groups = max(len(x.shape) - 2, 0), integer("conv_transpose: groups", groups)
    if len(w.shape) != d + 2 or not same(w.shape[0], x.shape[1], "conv_transpose") or w.shape[0] % groups:
        raise TypeRuleError(
            f"conv_transpose: x has shape {x.shape}, w {w.shape}; w must be [C, O / groups, *kernel] with the C of x, "
            f"which groups={groups} must divide"
        )
    strides, dilations = per_axis("stride", stride, d), per_axis("dilation", dilation, d)
    low, extra = per_axis("padding", padding, d), per_axis("output_padding", output_padding, d)
    c, o, kernel = w.shape[0], w.shape[1], tuple(w.shape[2:])
    grouped = transpose(reshape(w, (groups, c // groups, o, *kernel)), (0, 2, 1, *range(3, d + 3)))
    flipped = flip(reshape(grouped, (groups * o, c // groups, *kernel)), tuple(range(2, d + 2)))
    pairs = tuple((spread(k, s) - 1 - p, spread(k, s) - 1 - p + e) for k, s, p, e in zip(kernel, dilations, low, extra))
    return ConvGeneral((1,) * d, pairs, dilations, strides, groups)(x, flipped)
