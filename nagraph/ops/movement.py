"""Movement: the same numbers at other indices. All of it is linear; reshape, transpose, broadcast and slice are views."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.axes import IN_ORDER, AxisRelation, broadcast_axes, every_axis
from nagraph.ir.builder import current
from nagraph.ir.conversion import converted
from nagraph.ir.graph import Value
from nagraph.ir.integers import integer, integers
from nagraph.ir.op import Array, Box, Cost, Op, op, shared, whole
from nagraph.ir.operators import functions
from nagraph.ir.size_bounds import at_least
from nagraph.ir.sizes import same, whole_quotient
from nagraph.ir.types import BOOL, DType, TensorType, as_dtype
from nagraph.ops.base import Linear, Primitive
from nagraph.ops.operands import aligned_box, as_array, common_shape, is_axis_of_scalar, normalize_axes, normalize_axis, shape_of
from nagraph.ops.rules import Maybe, align_batched, sum_to

Shape = tuple[int, ...]


@op
class Reshape(Linear):
    """The same elements in row-major order under another shape of the same size."""

    view = True
    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        if not same(math.prod(self.shape), x.size, "reshape"):
            raise TypeRuleError(f"reshape: {x} has {x.size} elements, shape {list(self.shape)} has {math.prod(self.shape)}")
        return x.with_shape(self.shape)

    def reference(self, x: Array) -> Array:
        return x.reshape(self.shape)

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        shape = operands[0].shape
        return lambda x, y: np.copyto(y.reshape(shape), x)  # y is contiguous, so its reshape is a view

    def axis_relations(self, x: TensorType) -> tuple[AxisRelation, ...]:
        return (IN_ORDER,)

    def with_sizes(self, result: TensorType, x: TensorType) -> Reshape:
        return Reshape(result.shape)

    def operand_shown(self, y: Array, x: TensorType) -> Array | None:
        try:
            return np.reshape(y, x.shape, copy=False)
        except ValueError:
            return None

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        (x,) = operands
        found: int = k.element(x, k.unflatten(k.flatten(index, self.shape), x.shape))
        return found

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (reshape(ct, operands[0].shape),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (reshape(operands[0], (size, *self.shape)),)

    def narrow(self, box: Box, x: TensorType) -> tuple[Op, Sequence[Box]] | None:
        """Axes that are the same before and after keep their part; those that are merged or taken apart must be whole."""
        if 0 in x.shape:
            return None
        found = list(whole(x.shape))
        for before, after in _same_elements(x.shape, self.shape):
            long = [[a for a in axes if shape[a] != 1] for axes, shape in ((before, x.shape), (after, self.shape))]
            if all(box[a] == (0, self.shape[a]) for a in after):
                continue
            if len(long[0]) != 1 or len(long[1]) != 1:
                return None
            found[long[0][0]] = box[long[1][0]]
        return Reshape(tuple(b - a for a, b in box)), [tuple(found)]

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=(math.prod(self.shape),)),)


@op
class Transpose(Linear):
    """Axes in another order: y.shape[i] = x.shape[axes[i]]."""

    view = True
    axes: Shape

    def infer(self, x: TensorType) -> TensorType:
        if sorted(self.axes) != list(range(x.rank)):
            raise TypeRuleError(f"transpose: axes {list(self.axes)} are no permutation of the {x.rank} axes of {x}")
        return x.with_shape(tuple(x.shape[a] for a in self.axes))

    def reference(self, x: Array) -> Array:
        return x.transpose(self.axes)

    def axis_relations(self, x: TensorType) -> tuple[AxisRelation, ...]:
        return (self.axes,)

    def operand_shown(self, y: Array, x: TensorType) -> Array:
        return y.transpose(np.argsort(self.axes))

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        found: int = k.element(operands[0], tuple(index[self.axes.index(i)] for i in range(len(index))))
        return found

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (transpose(ct, tuple(int(i) for i in np.argsort(self.axes))),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (transpose(operands[0], (0, *(a + 1 for a in self.axes))),)

    def narrow(self, box: Box, x: TensorType) -> tuple[Op, Sequence[Box]]:
        return self, [tuple(box[self.axes.index(i)] for i in range(len(box)))]

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=range(2, 2 + len(self.axes))),)


@op
class Broadcast(Linear):
    """x repeated along new leading axes and along axes of size 1, by NumPy's rule."""

    view = True
    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        lead = len(self.shape) - x.rank
        if lead < 0 or any(a != 1 and not same(a, b, "broadcast_to") for a, b in zip(x.shape, self.shape[lead:])):
            raise TypeRuleError(f"broadcast_to: {x} does not broadcast to shape {list(self.shape)}; sizes must be equal or 1")
        return x.with_shape(self.shape)

    def reference(self, x: Array) -> Array:
        return np.broadcast_to(x, self.shape)

    def axis_relations(self, x: TensorType) -> tuple[AxisRelation, ...]:
        return (broadcast_axes(x.shape, self.shape),)

    def with_sizes(self, result: TensorType, x: TensorType) -> Broadcast:
        return Broadcast(result.shape)

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        found: int = k.element(operands[0], k.broadcast(index, operands[0].shape))
        return found

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (sum_to(ct, operands[0].type),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (broadcast_to(align_batched(operands[0], len(self.shape)), (size, *self.shape)),)

    def narrow(self, box: Box, x: TensorType) -> tuple[Op, Sequence[Box]]:
        return Broadcast(tuple(b - a for a, b in box)), [aligned_box(box, x.shape)]

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=self.shape[-1:]),)


@op
class Flip(Linear):
    """The order reversed on some axes."""

    view = True
    axes: Shape

    def infer(self, x: TensorType) -> TensorType:
        normalize_axes("flip", self.axes, x.rank)
        return x

    def reference(self, x: Array) -> Array:
        return np.flip(x, self.axes)

    def axis_relations(self, x: TensorType) -> tuple[AxisRelation, ...]:
        return (every_axis(x.rank, self.axes),)

    def in_order(self, order: Shape) -> Flip:
        return Flip(tuple(sorted(map(order.index, self.axes))))

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        (x,) = operands
        turned = (k.sum([(i, -1)], n - 1) if a in self.axes else i for a, (i, n) in enumerate(zip(index, x.shape)))
        return int(k.element(x, tuple(turned)))

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (self(ct),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (Flip(tuple(a + 1 for a in self.axes))(operands[0]),)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=(3,) * (max(self.axes) + 1)),)


@op
class Iota(Primitive):
    """The index along one axis: y[i] = i[axis]."""

    dtype: DType
    shape: Shape
    axis: int

    def infer(self) -> TensorType:
        if not 0 <= self.axis < len(self.shape):
            raise TypeRuleError(f"iota: axis {self.axis} is out of range for shape {list(self.shape)}")
        if self.dtype == BOOL:
            raise TypeRuleError("iota: the dtype must be a number")
        return TensorType(self.dtype, self.shape)

    def reference(self) -> Array:
        n = self.shape[self.axis]
        line = converted(np.arange(n), self.dtype).reshape([n if i == self.axis else 1 for i in range(len(self.shape))])
        return np.broadcast_to(line, self.shape)

    def axis_relations(self) -> tuple[AxisRelation, ...]:
        return ()

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        return int(k.cast(k.position(index[self.axis]), self.dtype))

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        raise AssertionError("iota has no operand that could be batched")

    def cost(self) -> Any:
        return Cost()

    def vjp(self, cotangents: Any, results: Any, operands: Any) -> tuple[()]:
        return ()

    def jvp(self, tangents: Any, results: Any, operands: Any) -> tuple[None]:
        return (None,)

    def samples(self, rng: np.random.Generator) -> Any:
        yield ()


def _same_elements(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of one size, in the smallest groups that hold as many elements: [2, 12] and [2, 3, 4, 1]."""
    found, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        before, after = [i], [j]
        p, q = (shape[at] if at < len(shape) else 1 for shape, at in ((old, i), (new, j)))
        i, j = i + 1, j + 1
        while p != q:
            if i < len(old) and at_least(q - p, 1):
                p, i = p * old[i], i + 1
            elif j < len(new) and at_least(p - q, 1):
                q, j = q * new[j], j + 1
            else:  # sizes that are known later: nobody knows which product is larger
                i, j, p = len(old), len(new), q
        found.append(([a for a in range(before[0], i) if a < len(old)], [a for a in range(after[0], j) if a < len(new)]))
    return found


def reshape(x: Any, shape: int | Sequence[int]) -> Any:
    """x under another shape; one size may be -1 and follows from the others."""
    sizes = list(integers("reshape: shape", shape))
    total = math.prod(shape_of(x))
    if sizes.count(-1) == 1:
        known = -math.prod(sizes)
        if not type(known) is type(total) is int:
            sizes[sizes.index(-1)] = whole_quotient(total, known, "reshape: ")
        elif (known == 0 and total) or (known and total % known):
            raise TypeRuleError(f"reshape: {total} elements do not divide into shape {sizes}")
        else:
            sizes[sizes.index(-1)] = total // known if known else 0
    if any([s < 0 for s in sizes]):
        raise TypeRuleError(f"reshape: at most one size is -1, the others at least 0; got {sizes}")
    return x if isinstance(x, Value) and x.shape == tuple(sizes) else shared(Reshape, tuple(sizes))(x)


def transpose(x: Any, axes: Sequence[int] | None = None) -> Any:
    """x with its axes in the order given; None reverses them."""
    rank = len(shape_of(x))
    order = tuple(range(rank))[::-1] if axes is None else tuple(
        a % rank if -rank <= a < rank else a for a in integers("transpose: axes", axes))
    return x if isinstance(x, Value) and order == tuple(range(rank)) else shared(Transpose, order)(x)


permute_dims = transpose


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """x with two axes exchanged."""
    rank = len(shape_of(x))
    a, b = normalize_axis("swapaxes", axis1, rank), normalize_axis("swapaxes", axis2, rank)
    order = list(range(rank))
    order[a], order[b] = b, a
    return transpose(x, order)


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """x with axes moved to other places; the others keep their order."""
    rank = len(shape_of(x))
    sources, targets = ([normalize_axis("moveaxis", a, rank) for a in integers("moveaxis: axis", axes)]
                        for axes in (source, destination))
    if len(sources) != len(targets):
        raise TypeRuleError(f"moveaxis: {len(sources)} source axes but {len(targets)} destinations")
    order = [a for a in range(rank) if a not in sources]
    for target, s in sorted(zip(targets, sources)):
        order.insert(target, s)
    return transpose(x, order)


def broadcast_to(x: Any, shape: int | Sequence[int]) -> Any:
    """x repeated to a shape, by NumPy's rule."""
    sizes = integers("broadcast_to: shape", shape)
    return x if isinstance(x, Value) and x.shape == sizes else shared(Broadcast, sizes)(x)


def broadcast_arrays(*xs: Any) -> list[Any]:
    """All operands broadcast to their common shape."""
    shape = common_shape("broadcast_arrays", [tuple(shape_of(x)) for x in xs])
    if any(isinstance(x, Value) for x in xs):
        ready = [x if isinstance(x, Value) else as_array(x) for x in xs]
        xs = tuple(x if isinstance(x, Value) else current().constant(x) for x in ready)
    return [broadcast_to(x, shape) for x in xs]


def expand_dims(x: Any, axis: int | Sequence[int]) -> Any:
    """x with axes of size 1 put in, at places counted in the result."""
    axes = integers("expand_dims: axis", axis)
    rank = len(shape_of(x)) + len(axes)
    places = normalize_axes("expand_dims", axes, rank)
    sizes = iter(shape_of(x))
    return reshape(x, [1 if i in places else next(sizes) for i in range(rank)])


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Any:
    """x without axes of size 1: those named, or all."""
    shape = shape_of(x)
    if axis is None:
        return reshape(x, [s for s in shape if s != 1])
    if is_axis_of_scalar(axis, len(shape)):
        return reshape(x, ())
    places = normalize_axes("squeeze", axis, len(shape))
    for a in places:
        if not same(shape[a], 1, "squeeze"):
            raise TypeRuleError(f"squeeze: axis {a} of shape {list(shape)} has size {shape[a]}, not 1")
    return reshape(x, [s for i, s in enumerate(shape) if i not in places])


def ravel(x: Any) -> Any:
    """x as one row of elements."""
    return reshape(x, -1)


def flip(x: Any, axis: int | Sequence[int] | None = None) -> Any:
    """x reversed on the axes given; None is all of them."""
    axes = normalize_axes("flip", axis, len(shape_of(x)))
    return Flip(axes)(x) if axes else x


def iota(dtype: Any, shape: Sequence[int], axis: int = 0) -> Any:
    """The index along one axis, as a tensor of this shape."""
    return Iota(as_dtype(dtype), integers("iota: shape", shape), integer("iota: axis", axis))()


functions.register(reshape=reshape, broadcast_to=broadcast_to)
