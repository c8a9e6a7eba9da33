"""Movement of elements, and sizes: each function writes what StableHLO has for shapes that are known, or for those that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nagraph.elementary import narrow
from nagraph.export.to_stablehlo.block import Block, Module, Ref
from nagraph.export.to_stablehlo.scalars import Scalars
from nagraph.export.to_stablehlo.text import array_text
from nagraph.ir.conversion import number
from nagraph.ir.size_bounds import at_least
from nagraph.ir.sizes import Dim, Extreme, Floor, Size, dims, larger
from nagraph.ir.types import BOOL, DTYPES, INTEGERS, SIGNED, DType, TensorType, is_float

F32, I64 = DTYPES["f32"], DTYPES["i64"]
NARROW = narrow.NARROW


class Shaped(Block):
    """A block with the operations that move elements, compare and convert them."""

    def __init__(self, module: Module, dimensions: Mapping[Dim, Ref] | None = None):
        super().__init__(module)
        #: Dimensions of sizes, as numbers: i64.
        self.dimensions = dict(dimensions or {})

    # -- numbers and sizes ----------------------------------------------------------------------------------

    def full(self, value: Any, t: TensorType) -> Ref:
        """A tensor of which every element is this number."""
        if t.symbolic:
            return self.broadcast(self.number(value, t.dtype), t.shape)
        made = number(value, t.dtype)
        return self.once((t, made.tobytes()), lambda: self.splat(made, t))

    def number(self, value: Any, dtype: DType) -> Ref:
        return self.full(value, TensorType(dtype, ()))

    def size(self, n: Any) -> Ref:
        """A size as a number, i64."""
        return self.number(n, I64) if type(n) is int else self.once(n, lambda: self._size(n))

    def _size(self, n: Size) -> Ref:
        if isinstance(n, Dim):
            return self.dimensions[n]
        if isinstance(n, Floor):
            top, bottom = self.size(n.top), self.size(n.bottom)
            if not at_least(n.top, 0):  # rounded down: less what is left by a divisor that is positive
                rest = self.elementwise("remainder", self.elementwise("add", self.elementwise("remainder", top, bottom), bottom), bottom)
                top = self.elementwise("subtract", top, rest)
            return self.elementwise("divide", top, bottom)
        if isinstance(n, Extreme):
            first, *rest = map(self.size, n.of)
            for other in rest:
                first = self.elementwise("minimum" if n.kind == "min" else "maximum", first, other)
            return first
        total: int | Ref = 0
        under_all: int | Ref = 1  # of all terms together: a sum of quotients that is whole need not have whole terms
        for monomial, c in n.terms:
            over: int | Ref = c
            under: int | Ref = 1
            for atom, power in monomial:
                for _ in range(power):
                    over = self.calculated("multiply", over, self.size(atom))
                for _ in range(-power):
                    under = self.calculated("multiply", under, self.size(atom))
            total = self.calculated("add", self.calculated("multiply", total, under), self.calculated("multiply", over, under_all))
            under_all = self.calculated("multiply", under_all, under)
        found = self.calculated("divide", total, self.calculated("multiply", under_all, n.divisor))
        return self.number(found, I64) if isinstance(found, int) else found

    def calculated(self, name: str, x: int | Ref, y: int | Ref) -> int | Ref:
        """A sum, a product or a quotient, of which what is known now is not written."""
        if name == "add" and 0 in (x, y) or name == "multiply" and 1 in (x, y):
            return y if x in (0, 1) and x == (name == "multiply") else x
        if name == "multiply" and 0 in (x, y):
            return 0
        if name == "divide" and y == 1:
            return x
        return self.elementwise(name, *(self.number(v, I64) if isinstance(v, int) else v for v in (x, y)))

    def sizes(self, ns: Sequence[Any]) -> Ref:
        """Sizes as one row of numbers, i64."""
        if not dims(tuple(ns)):
            return self.constant(np.array(ns, np.int64))
        return self.once(tuple(ns), lambda: self.concatenate([self.reshape(self.size(n), (1,)) for n in ns], 0))

    # -- movement -------------------------------------------------------------------------------------------

    def placed(self, x: Ref, shape: Sequence[int], axes: Sequence[int]) -> Ref:
        """x repeated to a shape, its axes standing at these places of it."""
        t = TensorType(x.dtype, tuple(shape))
        if t.symbolic:
            return self.do("dynamic_broadcast_in_dim", (x, self.sizes(shape)), t, broadcast_dimensions=array_text(axes))
        return self.do("broadcast_in_dim", (x,), t, broadcast_dimensions=array_text(axes))

    def broadcast(self, x: Ref, shape: Sequence[int]) -> Ref:
        """x repeated by NumPy's rule."""
        return x if x.shape == tuple(shape) else self.placed(x, shape, range(len(shape) - x.ndim, len(shape)))

    def reshape(self, x: Ref, shape: Sequence[int]) -> Ref:
        t = TensorType(x.dtype, tuple(shape))
        if t == x.type:
            return x
        if t.symbolic or x.type.symbolic:
            return self.do("dynamic_reshape", (x, self.sizes(shape)), t)
        return self.do("reshape", (x,), t)

    def transpose(self, x: Ref, axes: Sequence[int]) -> Ref:
        """The axes in another order."""
        t = TensorType(x.dtype, tuple(x.shape[a] for a in axes))
        return x if tuple(axes) == tuple(range(x.ndim)) else self.do("transpose", (x,), t, permutation=array_text(axes))

    def iota(self, dtype: DType, shape: Sequence[int], axis: int) -> Ref:
        """The index along an axis, counted in what holds it."""
        t = TensorType(F32 if dtype in NARROW and type(shape[axis]) is int and shape[axis] <= 1 << 24 else I64, tuple(shape))
        if t.symbolic:
            found = self.do("dynamic_iota", (self.sizes(shape),), t, iota_dimension=f"{axis} : i64")
        else:
            found = self.do("iota", (), t, iota_dimension=f"{axis} : i64")
        return self.cast(found, dtype)

    def concatenate(self, xs: Sequence[Ref], axis: int) -> Ref:
        first = xs[0].type
        shape = tuple(sum(x.shape[a] for x in xs) if a == axis else n for a, n in enumerate(first.shape))
        return xs[0] if len(xs) == 1 else self.do("concatenate", xs, first.with_shape(shape), dimension=f"{axis} : i64")

    def reverse(self, x: Ref, axes: Sequence[int]) -> Ref:
        return self.do("reverse", (x,), x.type, dimensions=array_text(axes))

    def slice(self, x: Ref, start: Sequence[int], stop: Sequence[int], step: Sequence[int] | None = None) -> Ref:
        """Every step-th element from start up to stop, on each axis."""
        step = step or (1,) * x.ndim
        t = x.type.with_shape(tuple(-(-(b - a) // s) for a, b, s in zip(start, stop, step)))
        if t == x.type:
            return x
        if dims((tuple(start), tuple(stop))):
            return self.do("real_dynamic_slice", (x, self.sizes(start), self.sizes(stop), self.sizes(step)), t)
        return self.do("slice", (x,), t, start_indices=array_text(start), limit_indices=array_text(stop), strides=array_text(step))

    def pad(self, x: Ref, fill: Ref, low: Sequence[int], high: Sequence[int], inner: Sequence[int]) -> Ref:
        """x with `fill` around it and between its elements; negative amounts cut."""
        amounts = list(zip(low, high, inner))
        t = x.type.with_shape(tuple(a + b + n + _between(n, i) for (a, b, i), n in zip(amounts, x.shape)))
        if not any(any(type(v) is not int or v for v in row) for row in amounts):
            return x
        if dims(tuple(amounts)):
            return self.do("dynamic_pad", (x, fill, self.sizes(low), self.sizes(high), self.sizes(inner)), t)
        return self.do("pad", (x, fill), t, edge_padding_low=array_text(low), edge_padding_high=array_text(high),
                       interior_padding=array_text(inner))

    def block_at(self, x: Ref, starts: Sequence[Ref], sizes: Sequence[int]) -> Ref:
        """The block of these sizes that begins at `starts`, i64, where it fits."""
        t = x.type.with_shape(tuple(sizes))
        if not x.ndim:
            return x
        if t.symbolic:
            first = self.concatenate([self.reshape(s, (1,)) for s in starts], 0)
            stop = self.elementwise("add", first, self.sizes(sizes))
            return self.do("real_dynamic_slice", (x, first, stop, self.sizes((1,) * x.ndim)), t)
        return self.do("dynamic_slice", (x, *starts), t, slice_sizes=array_text(sizes))

    def with_block(self, x: Ref, update: Ref, starts: Sequence[Ref]) -> Ref:
        """x with the block that begins at `starts`, i64, replaced."""
        return self.do("dynamic_update_slice", (x, update, *starts), x.type) if x.ndim else update

    def with_room(self, x: Ref, n: Any, axis: int) -> Ref:
        """x with one more row on an axis of n that may be none, so that a loop's body has something to read and to write."""
        none = (0,) * x.ndim
        one = tuple(int(a == axis) for a in range(x.ndim))
        return x if at_least(n, 1) else self.pad(x, self.number(0, x.dtype), none, one, none)

    # -- elements -------------------------------------------------------------------------------------------

    def elementwise(self, name: str, *xs: Ref, dtype: DType | None = None) -> Ref:
        """An operation on operands of one shape, which the result has as well."""
        return self.do(name, xs, xs[0].type if dtype is None else xs[0].type.with_dtype(dtype))

    def compare(self, how: str, x: Ref, y: Ref) -> Ref:
        kind = "FLOAT" if is_float(x.dtype) else "SIGNED" if x.dtype in SIGNED else "UNSIGNED"
        return self.do("compare", (x, y), x.type.with_dtype(BOOL), comparison_direction=f"#stablehlo<comparison_direction {how}>",
                       compare_type=f"#stablehlo<comparison_type {kind}>")

    def select(self, condition: Ref, x: Ref, y: Ref) -> Ref:
        return self.do("select", (condition, x, y), x.type)

    def convert(self, x: Ref, dtype: DType) -> Ref:
        """StableHLO's conversion."""
        return x if x.dtype == dtype else self.do("convert", (x,), x.type.with_dtype(dtype))

    def cast(self, x: Ref, dtype: DType) -> Ref:
        """Our conversion: each element rounded once, floats to integers truncated, and true what is not 0."""
        if dtype == BOOL and x.dtype != BOOL:
            return self.compare("NE", x, self.full(0, x.type))
        if dtype in NARROW and x.dtype.itemsize >= 4 and (x.dtype in INTEGERS or x.dtype == DTYPES["f64"]):
            s = self.scalars(x.shape)
            s.doubles = True  # integers of 64 bits are marked in what holds 53 of them
            x = narrow.single(s, s.of(x)).raw
        return self.convert(x, dtype)

    def scalars(self, shape: Sequence[int]) -> Scalars:
        """The builder by which scalar rules are written for whole tensors of a shape."""
        return Scalars(self, tuple(shape))


def _between(n: Any, inner: Any) -> Any:
    """How many elements stand between n that have `inner` between neighbours."""
    return larger(n - 1, 0) * inner if type(inner) is not int or inner else 0
