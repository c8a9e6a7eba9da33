"""Sums of products over shared axes: one op, and NumPy's functions written with it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.axes import SAME, AxisRelation
from nagraph.ir.graph import Value
from nagraph.ir.integers import integer, integers, is_integer
from nagraph.ir.op import Array, Box, Cost, Op, op, shared, whole
from nagraph.ir.operators import functions
from nagraph.ir.promotion import result_type
from nagraph.ir.sizes import same
from nagraph.ir.types import TensorType
from nagraph.ops.base import NARROW_FLOATS, Multilinear, convert
from nagraph.ops.elementwise import multiply
from nagraph.ops.folding import Folding
from nagraph.ops.movement import reshape, transpose
from nagraph.ops.operands import Operand, as_array, dtype_item, normalize_axis, shape_of

Axes = tuple[int, ...]


def promoted(operands: Sequence[Operand]) -> tuple[Operand, ...]:
    """The operands in their common dtype."""
    dtypes = {o.dtype if isinstance(o, Value) and not o.weak else None for o in operands}
    if len(dtypes) == 1 and None not in dtypes:
        return tuple(operands)
    dtype = result_type(*map(dtype_item, operands))
    return tuple([convert(o, dtype) for o in operands])


def free_axes(rank: int, *taken: Axes) -> Axes:
    """The axes that are in none of the given groups, in order."""
    used = {a for axes in taken for a in axes}
    return tuple(a for a in range(rank) if a not in used)


@op
class DotGeneral(Folding, Multilinear):
    """Contraction: z[b, i, j] = sum over k of x[b, i, k] y[b, k, j], each letter a group of axes.

    `contract` and `batch_axes` are pairs: the axes of x and the axes of y that belong together.
    Shape: batch axes in the order given, the other axes of x, the other axes of y. Dtype: equal, kept;
    16-bit floats accumulate in float32, integers wrap, on bools it is `or` of `and`.
    Raises TypeRuleError where sizes of paired axes or dtypes differ.
    """

    widens = True
    contracts = True
    contract: tuple[Axes, Axes] = ((), ())
    batch_axes: tuple[Axes, Axes] = ((), ())

    def prepare(self, operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        return promoted(operands)

    def free(self, x_rank: int, y_rank: int) -> tuple[Axes, Axes]:
        """The axes of x and of y that are neither contracted nor batch."""
        return (
            free_axes(x_rank, self.contract[0], self.batch_axes[0]),
            free_axes(y_rank, self.contract[1], self.batch_axes[1]),
        )

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        if x.dtype != y.dtype:
            raise TypeRuleError(f"dot: dtypes differ: x {x}, y {y}; cast one of them")
        for side, t, rank in ((0, "x", x.rank), (1, "y", y.rank)):
            axes = self.contract[side] + self.batch_axes[side]
            if len(set(axes)) != len(axes) or any(not 0 <= a < rank for a in axes):
                raise TypeRuleError(f"dot: axes {axes} of {t} must be distinct and from 0 to {rank - 1}; x {x}, y {y}")
        for word, pairs in (("contracted", self.contract), ("batch", self.batch_axes)):
            if len(pairs[0]) != len(pairs[1]):
                raise TypeRuleError(f"dot: {word} axes come in pairs, got {pairs[0]} of x and {pairs[1]} of y")
            for i, j in zip(*pairs):
                if not same(x.shape[i], y.shape[j], "dot"):
                    raise TypeRuleError(
                        f"dot: {word} sizes differ: x {x} axis {i} is {x.shape[i]}, y {y} axis {j} is {y.shape[j]}"
                    )
        x_free, y_free = self.free(x.rank, y.rank)
        shape = [x.shape[a] for a in self.batch_axes[0] + x_free] + [y.shape[a] for a in y_free]
        return TensorType(x.dtype, tuple(shape))

    def as_matrices(self, x: TensorType, y: TensorType) -> tuple[Axes, Axes, Axes, Axes, Axes]:
        """Orders of axes and shapes [batch..., rows, n] and [batch..., n, columns] of the operands as matrices, and the result's.

        Batch axes stay apart: merging them would copy operands whose axes were transposed.
        """
        x_free, y_free = self.free(x.rank, y.rank)
        batch = tuple(x.shape[a] for a in self.batch_axes[0])
        rows, columns = (math.prod(t.shape[a] for a in free) for t, free in ((x, x_free), (y, y_free)))
        n = math.prod(x.shape[a] for a in self.contract[0])
        return (self.batch_axes[0] + x_free + self.contract[0], (*batch, rows, n),
                self.batch_axes[1] + self.contract[1] + y_free, (*batch, n, columns), (*batch, rows, columns))

    def reference(self, x: Array, y: Array) -> Array:
        types = TensorType(x.dtype, x.shape), TensorType(y.dtype, y.shape)
        x_order, x_shape, y_order, y_shape, _ = self.as_matrices(*types)
        z: Array = np.matmul(x.transpose(x_order).reshape(x_shape), y.transpose(y_order).reshape(y_shape))
        free = self.free(x.ndim, y.ndim)
        shape = [x.shape[a] for a in self.batch_axes[0] + free[0]] + [y.shape[a] for a in free[1]]
        return z.reshape(shape)

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        if results[0].dtype in NARROW_FLOATS:
            return super().into(operands, results)
        x_order, x_shape, y_order, y_shape, z_shape = self.as_matrices(*operands)

        def write(x: Array, y: Array, z: Array) -> None:
            np.matmul(x.transpose(x_order).reshape(x_shape), y.transpose(y_order).reshape(y_shape), z.reshape(z_shape))

        return write

    def most_rows(self, x: TensorType, y: TensorType) -> int:  # type: ignore[override]
        """Rows of the product are rows of x: the free axes of y stay together."""
        return max(1, math.prod(x.shape[a] for a in range(x.rank) if a not in self.contract[0]))

    def fold_extents(self, x: TensorType, y: TensorType) -> Axes:  # type: ignore[override]
        return tuple(x.shape[a] for a in self.contract[0])

    def axis_relations(self, x: TensorType, y: TensorType) -> tuple[AxisRelation, ...]:
        free = self.free(x.rank, y.rank)
        return (*self.batch_axes[0], *free[0], *(SAME for _ in free[1])), (*self.batch_axes[1], *(SAME for _ in free[0]), *free[1])

    def fold_terms(self, k: Any, operands: tuple[Value, ...], index: Sequence[Any], reduced: Sequence[Any]) -> tuple[int, ...]:
        x, y = operands
        count = len(self.batch_axes[0])
        x_free, y_free = self.free(x.ndim, y.ndim)
        found = []
        for v, side, free, start in ((x, 0, x_free, count), (y, 1, y_free, count + len(x_free))):
            at = dict(zip(self.batch_axes[side], index)) | dict(zip(self.contract[side], reduced)) | dict(zip(free, index[start:]))
            found.append(k.element(v, tuple(at[a] for a in range(v.ndim))))
        return tuple(found)

    @property
    def fold_op(self) -> None:
        return None

    def adjoint_in(self, index: int, ct: Value, operands: tuple[Value, ...]) -> Value:
        """The cotangent contracted with the other operand over that operand's free axes."""
        other = operands[1 - index]
        mine, theirs = (0, 1) if index == 0 else (1, 0)
        free = self.free(operands[0].ndim, operands[1].ndim)
        count = len(self.batch_axes[0])
        start = count + (len(free[0]) if index == 0 else 0)
        ct_axes = tuple(range(start, start + len(free[theirs])))
        axes, batch = (ct_axes, free[theirs]), (tuple(range(count)), self.batch_axes[theirs])
        # The product's axes: batch, this operand's free axes, then the other's contracted axes in their own order.
        partner = dict(zip(self.contract[theirs], self.contract[mine]))
        contracted = tuple(partner[a] for a in sorted(partner))
        order = self.batch_axes[mine] + free[mine] + contracted
        turned = self.batch_axes[mine] + contracted + free[mine]
        if turned == tuple(sorted(turned)) != order:  # the product the other way round needs no transposition
            swapped: Value = DotGeneral((axes[1], axes[0]), (batch[1], batch[0]))(other, ct)
            return swapped
        result: Value = _arrange(DotGeneral(axes, batch)(ct, other), order)
        return result

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        def shifted(pairs: tuple[Axes, Axes]) -> tuple[Axes, Axes]:
            x, y = (tuple(a + b for a in axes) for axes, b in zip(pairs, batched))
            return x, y

        contract, axes = shifted(self.contract), shifted(self.batch_axes)
        if all(batched):
            return (DotGeneral(contract, ((0, *axes[0]), (0, *axes[1])))(*operands),)
        z = DotGeneral(contract, axes)(*operands)
        place = len(axes[0]) + (0 if batched[0] else len(self.free(operands[0].ndim, operands[1].ndim - 1)[0]))
        order = (place, *(a for a in range(z.ndim) if a != place))
        return (_transpose(z, order),)

    def narrow(self, box: Box, x: TensorType, y: TensorType) -> tuple[Op, Sequence[Box]]:
        """Batch axes and free axes in part, contracted ones whole."""
        parts = iter(box)
        batch = [next(parts) for _ in self.batch_axes[0]]
        found = []
        for side, (t, free) in enumerate(zip((x, y), self.free(x.rank, y.rank))):
            part = dict(enumerate(whole(t.shape))) | dict(zip(self.batch_axes[side], batch)) | {a: next(parts) for a in free}
            found.append(tuple(part[a] for a in range(t.rank)))
        return self, found

    def cost(self, x: TensorType, y: TensorType) -> Cost:
        return Cost(flops=2.0 * self.infer(x, y).size * math.prod(x.shape[a] for a in self.contract[0]))

    def samples(self, rng: np.random.Generator) -> Any:
        sides = tuple(zip(self.contract, self.batch_axes))
        shapes = [[2 + side] * (2 + max((*c, *b), default=-1)) for side, (c, b) in enumerate(sides)]
        for pairs in (self.contract, self.batch_axes):
            for i, j in zip(*pairs):
                shapes[0][i] = shapes[1][j] = 4
        yield tuple(rng.normal(size=s) for s in shapes)
        yield tuple(rng.integers(-4, 5, size=s) for s in shapes)


def _transpose(x: Any, order: Axes) -> Any:
    if order == tuple(range(len(order))):
        return x
    result: Value = transpose(x, order)
    return result


def _order(labels: Sequence[int]) -> Axes:
    """The order that puts the axes of a value, of which axis i belongs at place labels[i], in their places."""
    return tuple(sorted(range(len(labels)), key=labels.__getitem__))


def _arrange(x: Any, labels: Sequence[int]) -> Any:
    """x, whose axis i belongs at place labels[i], with its axes in their places."""
    return _transpose(x, _order(labels))


def dot_general(x: Operand, y: Operand, contract: tuple[Axes, Axes], batch: tuple[Axes, Axes] = ((), ())) -> Any:
    """Contract paired axes of x and y; paired batch axes come first in the result."""
    c, b = ((tuple(map(int, p[0])), tuple(map(int, p[1]))) for p in (contract, batch))
    return DotGeneral(c, b)(x, y)


def matmul(x: Operand, y: Operand) -> Any:
    """Matrix product of the last two axes, the others broadcast: x[..., i, k] y[..., k, j].

    A rank-1 operand is a row on the left, a column on the right, and loses that axis in the result.
    Raises TypeRuleError for rank-0 operands and for sizes that do not fit.
    """
    x, y = promoted((x, y))
    drop_x, drop_y, contract, batch, order = _matmul(shape_of(x), shape_of(y))
    return _transpose(shared(DotGeneral, contract, batch)(_without(x, drop_x), _without(y, drop_y)), order)


@functools.lru_cache(4096)
def _matmul(a: Axes, b: Axes) -> tuple[Axes, Axes, tuple[Axes, Axes], tuple[Axes, Axes], Axes]:
    """How operands of these shapes are multiplied: axes of x and of y that are dropped, pairs of axes of what is left of them that are
    contracted, pairs of batch axes, and the order of the axes of that product in the result."""
    if not a or not b:
        raise TypeRuleError(f"matmul: operands have at least 1 axis, got shapes {a} and {b}; use multiply for scalars")
    lead_x, lead_y = a[:-2], b[:-2]
    rank = max(len(lead_x), len(lead_y))
    shared: list[tuple[int, int]] = []
    places_x: dict[int, int] = {}
    places_y: dict[int, int] = {}
    drop_x, drop_y = [], []
    for place in range(rank):
        i, j = place - rank + len(lead_x), place - rank + len(lead_y)
        if i < 0:
            places_y[j] = place
        elif j < 0:
            places_x[i] = place
        elif a[i] == b[j]:
            shared.append((i, j))
        elif b[j] == 1:
            places_x[i] = place
            drop_y.append(j)
        elif a[i] == 1:
            places_y[j] = place
            drop_x.append(i)
        elif not same(a[i], b[j], "matmul"):
            raise TypeRuleError(f"matmul: shapes {a} and {b} do not broadcast: axis {place - rank - 2} is {a[i]} and {b[j]}")
    # Axes of size 1 that broadcast are dropped: they would only stand beside the other operand's axis.
    kept_x, kept_y = ({old: new for new, old in enumerate(i for i in range(len(shape)) if i not in drop)}
                      for shape, drop in ((a, drop_x), (b, drop_y)))
    contract = ((kept_x[len(a) - 1],), (kept_y[max(len(b) - 2, 0)],))
    batch = (tuple(kept_x[i] for i, _ in shared), tuple(kept_y[j] for _, j in shared))
    labels = [rank - len(lead_x) + i for i, _ in shared]
    labels += [places_x[i] for i in range(len(lead_x)) if i in places_x] + [rank] * (len(a) > 1)
    labels += [places_y[j] for j in range(len(lead_y)) if j in places_y] + [rank + 1] * (len(b) > 1)
    return tuple(drop_x), tuple(drop_y), contract, batch, _order(labels)


def _without(x: Any, axes: Axes) -> Any:
    """x without these axes of size 1."""
    if not axes:
        return x
    return reshape(x, tuple(n for i, n in enumerate(shape_of(x)) if i not in axes))


def dot(x: Operand, y: Operand) -> Any:
    """NumPy's dot: the last axis of x with the last but one of y (its only one for rank 1); rank 0 multiplies."""
    x, y = promoted((x, y))
    a, b = shape_of(x), shape_of(y)
    if not a or not b:
        return multiply(x, y)
    return DotGeneral(((len(a) - 1,), (max(len(b) - 2, 0),)), ((), ()))(x, y)


def tensordot(x: Operand, y: Operand, axes: int | tuple[Any, Any] = 2) -> Any:
    """Sum of products over `axes`: a number n (the last n of x, the first n of y), or a pair of axes or sequences."""
    x, y = promoted((x, y))
    a, b = len(shape_of(x)), len(shape_of(y))
    if is_integer(axes):
        count = integer("tensordot: axes", axes)
        if not 0 <= count <= min(a, b):
            raise TypeRuleError(f"tensordot: axes={count} must be from 0 to the smaller rank, {min(a, b)}")
        pair: tuple[Any, Any] = (range(a - count, a), range(count))
    else:
        pair = axes  # type: ignore[assignment]
        if len(pair) != 2:
            raise TypeRuleError(f"tensordot: axes is a number or a pair, one entry for each operand; got {axes!r}")
    contract = tuple(
        tuple(normalize_axis("tensordot", i, rank) for i in integers("tensordot: axes", p)) for p, rank in zip(pair, (a, b)))
    return DotGeneral((contract[0], contract[1]), ((), ()))(x, y)


def vdot(x: Operand, y: Operand) -> Any:
    """Sum of the products of all elements of two operands of equal size."""
    x, y = promoted((x, y))
    return DotGeneral(((0,), (0,)), ((), ()))(reshape(x, (-1,)), reshape(y, (-1,)))


def inner(x: Operand, y: Operand) -> Any:
    """Sum of products over the last axes of both; rank 0 multiplies."""
    x, y = promoted((x, y))
    a, b = len(shape_of(x)), len(shape_of(y))
    return DotGeneral(((a - 1,), (b - 1,)), ((), ()))(x, y) if a and b else multiply(x, y)


def outer(x: Operand, y: Operand) -> Any:
    """z[i, j] = x[i] y[j] over all elements of both."""
    x, y = (o if isinstance(o, Value) else as_array(o) for o in (x, y))
    return multiply(reshape(x, (-1, 1)), reshape(y, (1, -1)))


functions.register(matmul=matmul)
