"""What ops have in common: how they are called, and the families elementwise, linear and multilinear."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from nagraph.errors import MissingRuleError, NagraphError, TypeRuleError
from nagraph.ir.axes import AxisRelation, broadcast_axes, every_axis
from nagraph.ir.builder import active, current
from nagraph.ir.cached import cached_property
from nagraph.ir.conversion import converted
from nagraph.ir.graph import Value
from nagraph.ir.location import caller_location, located
from nagraph.ir.op import Array, Box, Cost, Op, keep, op
from nagraph.ir.operators import functions
from nagraph.ir.promotion import WEAK, floating, result_type, scalar_array
from nagraph.ir.sizes import Size
from nagraph.ir.types import BOOL, DTYPES, FLOATS, INTEGERS, SHORT_NAMES, DType, TensorType, as_dtype, is_float, type_of
from nagraph.ops.operands import (
    F64,
    Operand,
    aligned_box,
    as_array,
    broadcast_shapes,
    dtype_item,
    is_weak,
    mark_weak,
    size_value,
    warn_of_float64,
    weak_float,
)
from nagraph.ops.rules import Maybe, add_tangents, align_batched, pulled, scale, zeros_like

F32 = DTYPES["f32"]
NARROW_FLOATS = frozenset((DTYPES["f16"], DTYPES["bf16"]))
NUMERIC = INTEGERS | FLOATS
ANY = NUMERIC | {BOOL}


class Primitive(Op):
    """An op that is called as a function: on values it emits a node, on arrays it computes with NumPy."""

    #: Whether 16-bit floats are computed in float32 and rounded once.
    widens: ClassVar[bool] = False

    def prepare(self, operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        """The operands after promotion: each a value or an array of its final dtype."""
        return tuple([o if isinstance(o, Value) else as_array(o) for o in operands])

    def __call__(self, *operands: Operand) -> Any:
        return self._apply(operands, self.prepare(operands))

    def _apply(self, operands: tuple[Operand, ...], ready: tuple[Operand, ...]) -> Any:
        """The results of operands that `prepare` has made ready."""
        traced = [isinstance(o, Value) for o in ready]
        if any(traced) or active() is not None and (not ready or self.dims):
            builder = current()
            results = builder.emit(self, ready if all(traced) else [o if isinstance(o, Value) else builder.constant(o) for o in ready])
            if operands and is_weak(operands[0]) and all([is_weak(o) for o in operands]) and any([isinstance(o, Value) for o in operands]):
                for r in results:
                    mark_weak(r)
            return results[0] if len(results) == 1 else results
        try:
            return self.evaluate(*ready)
        except NagraphError as error:
            raise located(error, caller_location()) from None

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        if not any(t.dtype in NARROW_FLOATS for t in (*operands, *results)):
            return super().into(operands, results)
        count = len(operands)

        def write(*arrays: Array) -> None:
            found = self.evaluate(*arrays[:count])
            for result, y in zip(arrays[count:], found if isinstance(found, tuple) else (found,)):
                np.copyto(result, y)

        return write

    def evaluate(self, *arrays: Array) -> Any:
        """Check the types, then compute by the reference; results have exactly the inferred types."""
        types = self.result_types(*map(type_of, arrays))
        if self.widens:
            arrays = tuple(a.astype(F32) if a.dtype in NARROW_FLOATS else a for a in arrays)
        with np.errstate(all="ignore"):
            results = self.reference(*arrays)
            # Row-major, but for views: NumPy's reductions add in an order that depends on strides, and so on nothing else.
            order: Any = "K" if self.view else "C"
            if len(types) == 1 and not isinstance(results, tuple):
                return np.asarray(results, dtype=types[0].dtype, order=order)
            found = results if isinstance(results, tuple) else (results,)
            if len(found) != len(types):
                one = "is 1 result" if len(types) == 1 else f"are {len(types)} results"
                raise TypeRuleError(f"{self.name}: by its type rule there {one}, its reference gave {len(found)}")
            return tuple(np.asarray(r, dtype=t.dtype, order=order) for r, t in zip(found, types))


def convert(operand: Operand, dtype: DType) -> Operand:
    """The operand in `dtype`: arrays and scalars are converted, values get a visible cast node."""
    if isinstance(operand, Value):
        return cast(operand, dtype)
    if type(operand) in WEAK:
        return scalar_array(operand, dtype)
    if isinstance(operand, Size):
        return size_value(operand, dtype)
    array = as_array(operand)
    return array if array.dtype == dtype else cast(array, dtype)


class Elementwise(Primitive):
    """Base of the ops that apply a scalar function at every index; operands broadcast as in NumPy, dtypes are equal after promotion."""

    widens = True
    weight = 1
    #: The dtypes that operands may have after promotion.
    dtypes: ClassVar[frozenset[DType]] = NUMERIC
    #: How integers and bools are promoted: "keep", or "float" for functions that NumPy computes in floating point.
    promotes: ClassVar[str] = "keep"
    #: Operands that keep their own dtype (the condition of a select).
    separate: ClassVar[frozenset[int]] = frozenset()
    #: Operations per element.
    per_element: ClassVar[Cost] = Cost(flops=1)

    def __call__(self, *operands: Operand) -> Any:
        """The result. What promotion makes of operands of these kinds (values of one floating dtype, Python numbers) is found out once."""
        kinds = tuple([o.type if isinstance(o, Value) and not o.weak else type(o) for o in operands])
        known = self._unpromoted.get(kinds)
        if known is None:
            ready = self.prepare(operands)
            result = self._apply(operands, ready)
            self._learn(kinds, operands, ready, result)
            return result
        return current().emit(self, operands, *known)[0]

    def _learn(self, kinds: tuple[Any, ...], operands: tuple[Operand, ...], ready: tuple[Operand, ...], result: Any) -> None:
        """Keep the result's type for these kinds, if promotion changed no value and gave numbers the dtype of the values."""
        values = [isinstance(k, TensorType) for k in kinds]
        if not any(values) or not all(v or k in WEAK for v, k in zip(values, kinds)):
            return
        dtype = next(o.dtype for i, o in enumerate(ready) if i not in self.separate)
        if dtype in FLOATS and all([r is o if v else r.dtype == dtype for v, o, r in zip(values, operands, ready)]):
            keep(self._unpromoted, kinds, ((result.type,), None if all(values) else dtype))

    @cached_property
    def _unpromoted(self) -> dict[tuple[Any, ...], tuple[tuple[TensorType, ...], DType | None]]:
        """For kinds of operands (types, or types of Python numbers), none of them promoted: what `Emitter.emit` takes beside operands."""
        return {}

    def prepare(self, operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        """The operands after promotion. For values of floating dtypes and Python numbers it follows from these dtypes alone."""
        self._check_count(operands)
        together = [o for i, o in enumerate(operands) if i not in self.separate]
        items = [dtype_item(o) for o in together]
        if self.promotes == "float" and all(isinstance(i, np.dtype) and i not in FLOATS for i in items):
            items = [floating(i) for i in items if isinstance(i, np.dtype)]  # each in the floats that hold it, as NumPy finds its loop
        dtype = result_type(*items)
        if dtype == F64 and not any(isinstance(i, np.dtype) for i in items):
            dtype = weak_float(together)
        warn_of_float64(self.name, dtype, together)
        if self.promotes == "float":
            dtype = floating(dtype)
        return tuple(
            (o if isinstance(o, Value) else as_array(o)) if i in self.separate else convert(o, dtype)
            for i, o in enumerate(operands)
        )

    def result_dtype(self, dtype: DType) -> DType:
        """The result's dtype where it is not the operands'."""
        return dtype

    @classmethod
    @functools.cache
    def count(cls) -> int:
        """The number of operands: that of the reference."""
        reference = cls.reference
        if isinstance(reference, np.ufunc):
            return reference.nin
        return sum(p.name != "self" for p in inspect.signature(reference).parameters.values())

    def _check_count(self, operands: Sequence[Any]) -> None:
        if len(operands) != self.count():
            raise TypeRuleError(f"{self.name} takes {self.count()} operand{'s' * (self.count() != 1)}, got {len(operands)}")

    def infer(self, *operands: Any, **_: Any) -> TensorType:
        self._check_count(operands)
        together = [t for i, t in enumerate(operands) if i not in self.separate]
        dtype = together[0].dtype
        if any(t.dtype != dtype for t in together):
            raise TypeRuleError(f"{self.name}: dtypes differ: {' and '.join(map(str, together))}; cast one of them")
        if dtype not in self.dtypes:
            allowed = ", ".join(SHORT_NAMES[d] for d in SHORT_NAMES if d in self.dtypes)
            raise TypeRuleError(f"{self.name}: {together[0]} has dtype {SHORT_NAMES[dtype]}; it takes {allowed}")
        return TensorType(self.result_dtype(dtype), broadcast_shapes(self.name, *operands))

    def axis_relations(self, *operands: TensorType) -> tuple[AxisRelation, ...]:
        first = operands[0].shape
        shape = first if all([t.shape == first for t in operands]) else broadcast_shapes(self.name, *operands)
        return tuple([broadcast_axes(t.shape, shape) for t in operands])

    def in_order(self, order: tuple[int, ...]) -> Op:
        return self

    @cached_property
    def has_element(self) -> bool:
        cls = type(self)
        return not self.host and (cls.scalar is not Op.scalar or cls.element is not Elementwise.element)

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        found: int = k.apply(self, *(k.element(x, k.broadcast(index, x.shape)) for x in operands))
        return found

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        reference = self.reference
        if isinstance(reference, np.ufunc) and not any(t.dtype in NARROW_FLOATS for t in (*operands, *results)):
            try:
                loop = reference.resolve_dtypes((*(t.dtype for t in operands), None))
            except TypeError:
                loop = ()
            if loop == (*(t.dtype for t in operands), results[0].dtype):
                if reference in (np.maximum, np.minimum):  # these take their result by name alone
                    return lambda x, y, z: reference(x, y, out=z)
                return reference
        return super().into(operands, results)

    def in_place(self, count: int) -> Sequence[int]:
        return range(count)

    def partials(self, *values: Any, **_: Any) -> tuple[Value | float | None, ...]:
        """partials(y, *xs): dy/dx for each operand x; None where it is zero. vjp and jvp follow."""
        raise MissingRuleError(f"op {self.name} has no derivative")

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (ct,) = cotangents
        if ct is None:
            return (None,) * len(operands)
        partials = self.partials(results[0], *operands)
        return tuple(None if p is None else pulled(ct, p, x.type) for p, x in zip(partials, operands, strict=True))

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        partials = self.partials(results[0], *operands)
        total: Maybe = None
        for t, p in zip(tangents, partials, strict=True):
            if t is not None and p is not None:
                total = add_tangents(total, scale(t, p))
        return (None if total is None else functions.broadcast_to(total, results[0].shape),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        rank = max(x.ndim - b for x, b in zip(operands, batched))
        return (self(*(align_batched(x, rank) if b else x for x, b in zip(operands, batched))),)

    def narrow(self, box: Box, *operands: TensorType) -> tuple[Op, Sequence[Box]]:
        return self, [aligned_box(box, t.shape) for t in operands]

    def cost(self, *operands: Any, **_: Any) -> Cost:
        size = self.infer(*operands).size
        return Cost(*(c * size for c in self.per_element))


class Linear(Primitive):
    """Base of the ops that are linear in operand 0 (or in the operands `linear`) and in no other: the adjoint gives both derivatives."""

    linear: ClassVar[tuple[int, ...]] = (0,)

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        """The cotangents of the linear operands, in the order of `linear`; only their types may be read."""
        raise MissingRuleError(f"op {self.name} declares itself linear but has no adjoint")

    def linear_in(self, operands: tuple[Value, ...]) -> tuple[int, ...]:
        return self.linear

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        out: list[Maybe] = [None] * len(operands)
        (ct,) = cotangents
        if ct is not None:
            for i, c in zip(self.linear_in(operands), self.adjoint(ct, operands), strict=True):
                out[i] = c
        return tuple(out)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        which = self.linear_in(operands)
        if all(tangents[i] is None for i in which):
            return (None,)
        moved = tuple(
            (t if t is not None else zeros_like(x)) if i in which else x
            for i, (t, x) in enumerate(zip(tangents, operands))
        )
        return (self(*moved),)

    def cost(self, *operands: Any, **_: Any) -> Cost:
        return Cost()


class Multilinear(Primitive):
    """Base of the ops that are linear in each operand with the others held fixed (products, contractions)."""

    def adjoint_in(self, index: int, ct: Value, operands: tuple[Value, ...]) -> Value:
        """The cotangent of operand `index`."""
        raise MissingRuleError(f"op {self.name} declares itself multilinear but has no adjoint")

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (ct,) = cotangents
        if ct is None:
            return (None,) * len(operands)
        return tuple(self.adjoint_in(i, ct, operands) for i in range(len(operands)))

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        total: Maybe = None
        for i, t in enumerate(tangents):
            if t is not None:
                total = add_tangents(total, self(*operands[:i], t, *operands[i + 1:]))
        return (total,)


# -- conversion, which promotion needs -----------------------------------------------------------------


@op
class Cast(Linear):
    """Conversion to another dtype: y = dtype(x), rounding to nearest even; float to integer truncates.

    Shape: kept. Dtype: the attribute. Out-of-range float to integer is undefined, as in NumPy.
    """

    dtype: DType

    def infer(self, x: TensorType) -> TensorType:
        return x.with_dtype(self.dtype)

    def reference(self, x: Array) -> Array:
        return converted(x, self.dtype)

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        if self.dtype in NARROW_FLOATS:
            return super().into(operands, results)
        return lambda x, y: np.copyto(y, x, casting="unsafe")

    def axis_relations(self, x: TensorType) -> tuple[AxisRelation, ...]:
        return (every_axis(x.rank),)

    def in_order(self, order: tuple[int, ...]) -> Op:
        return self

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        found: int = k.cast(k.element(operands[0], index), self.dtype)
        return found

    def scalar(self, s: Any, x: Any) -> Any:
        return s.cast(x, self.dtype)

    def narrow(self, box: Box, x: TensorType) -> tuple[Op, Sequence[Box]]:
        return self, [box]

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (x,) = operands
        return (cast(ct, x.dtype) if is_float(x.dtype) and is_float(self.dtype) else None,)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return super().jvp(tangents, results, operands) if is_float(self.dtype) else (None,)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*operands),)

    def cost(self, x: TensorType) -> Cost:
        return Cost(flops=x.size)

    def samples(self, rng: np.random.Generator) -> Any:
        x = rng.normal(size=(3, 4))
        yield (np.abs(x) if self.dtype.kind == "u" else x,)  # what an integer can't hold is another one on each CPU
        yield (np.arange(5),)


def cast(x: Operand, dtype: Any) -> Any:
    """x in `dtype`; x itself where it has it already. A weak x becomes strong."""
    target = as_dtype(dtype)
    x = x if isinstance(x, Value) else as_array(x)
    if not isinstance(x, Value):
        return converted(x, target)
    if x.dtype == target and not x.weak:
        return x
    return current().emit(Cast(target), (x,))[0]

