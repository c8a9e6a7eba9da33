"""Windows of an array, as a view of it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.graph import Value
from nagraph.ir.op import Array, op
from nagraph.ir.types import TensorType
from nagraph.ops.base import Linear
from nagraph.ops.convolution import Axes, spread, window_count
from nagraph.ops.elementwise import add
from nagraph.ops.movement import reshape
from nagraph.ops.rules import Maybe
from nagraph.ops.slicing import Pad, Slice


@op
class Windows(Linear):
    """The windows of x: y[..., p, ..., k] = x[..., p * stride + k * dilation, ...] on each of `axes`.

    On these axes y has the windows' numbers p; the places k inside a window are new last axes, one for each of `axes`.
    A view: neighbouring windows share elements. Raises TypeRuleError where a window does not fit.
    """

    view = True
    axes: Axes = (0,)
    size: Axes = (2,)
    stride: Axes = (1,)
    dilation: Axes = (1,)

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.axes) == len(self.size) == len(self.stride) == len(self.dilation):
            raise TypeRuleError(f"windows: axes, size, stride and dilation go together, got {self}")
        if len(set(self.axes)) != len(self.axes) or any(not 0 <= a < x.rank for a in self.axes):
            raise TypeRuleError(f"windows: axes {list(self.axes)} of {x} must be distinct and from 0 to {x.rank - 1}")
        if min((*self.size, *self.stride, *self.dilation), default=1) < 1:
            raise TypeRuleError(f"windows: size, stride and dilation are at least 1, got {self}")
        shape = list(x.shape)
        for a, k, s, d in zip(self.axes, self.size, self.stride, self.dilation):
            if spread(k, d) > x.shape[a]:
                raise TypeRuleError(f"windows: a window of {k} elements, {d} apart, does not fit axis {a} of {x}")
            shape[a] = window_count(x.shape[a], spread(k, d), s)
        return x.with_shape((*shape, *self.size))

    def reference(self, x: Array) -> Array:
        reach = tuple(spread(k, d) for k, d in zip(self.size, self.dilation))
        view = np.lib.stride_tricks.sliding_window_view(x, reach, self.axes)
        steps = [slice(None)] * x.ndim
        for a, s in zip(self.axes, self.stride):
            steps[a] = slice(None, None, s)
        found: Array = view[(*steps, *(slice(None, None, d) for d in self.dilation))]
        return found

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        (x,) = operands
        places = list(index[:x.ndim])
        for a, s, d, inside in zip(self.axes, self.stride, self.dilation, index[x.ndim:]):
            places[a] = k.sum([(places[a], s), (inside, d)])
        return int(k.element(x, tuple(places)))

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        """Each place inside the window put back where it came from, and all of them added."""
        (x,) = operands
        found: Value | None = None
        for places in itertools.product(*map(range, self.size)):
            start = (0,) * x.ndim + places
            stop = (*ct.shape[:x.ndim], *(p + 1 for p in places))
            part = reshape(Slice(start, stop, (1,) * ct.ndim)(ct), ct.shape[:x.ndim])
            low, high, inner = [0] * x.ndim, [0] * x.ndim, [0] * x.ndim
            for a, p, s, d in zip(self.axes, places, self.stride, self.dilation):
                low[a], inner[a] = p * d, s - 1
                high[a] = x.shape[a] - low[a] - spread(ct.shape[a], s)
            put = Pad(tuple(low), tuple(high), tuple(inner))(part)
            found = put if found is None else add(found, put)
        return (found,)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (replace(self, axes=tuple(a + 1 for a in self.axes))(*operands),)

    def samples(self, rng: np.random.Generator) -> Any:
        shape = [3] * (max(self.axes, default=0) + 1)
        for a, k, s, d in zip(self.axes, self.size, self.stride, self.dilation):
            shape[a] = spread(k, d) + 2 * s + s // 2
        yield (rng.normal(size=shape),)
