"""What derivative and batching rules of ops are written with: tangents that may be zero, shapes, constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nagraph.errors import TypeRuleError
from nagraph.ir.builder import current
from nagraph.ir.graph import Value
from nagraph.ir.op import Op
from nagraph.ir.operators import functions
from nagraph.ir.types import TensorType

#: A tangent or a cotangent; None is zero.
Maybe = Value | None


def checked(op: Op, rule: str, found: Any, shapes: Sequence[tuple[int, ...]], zeros: bool = True) -> tuple[Any, ...]:
    """What a rule of an op gave, if that is a value of each of these shapes; TypeRuleError if it is not. zeros: None is one as well."""
    if not isinstance(found, (tuple, list)) or len(found) != len(shapes):
        got = len(found) if isinstance(found, (tuple, list)) else f"a {type(found).__name__}"
        raise TypeRuleError(f"{op.name}: its {rule} gives a tuple of {len(shapes)}, got {got}")
    for i, (v, shape) in enumerate(zip(found, shapes)):
        if (v is not None or not zeros) and getattr(v, "shape", None) != shape:
            other = v.type if isinstance(v, Value) else f"a {type(v).__name__}" if v is not None else "None"
            raise TypeRuleError(f"{op.name}: number {i} of what its {rule} gives must have the shape {list(shape)}, got {other}")
    return tuple(found)


def scale(ct: Value, partial: Value | float) -> Value:
    """ct * partial, without a node for a factor of 1."""
    if isinstance(partial, Value) or partial not in (1, -1):
        product: Value = ct * partial
        return product
    return ct if partial == 1 else functions.negative(ct)


def pulled(ct: Value, partial: Value | float, type: TensorType) -> Value:
    """ct * partial, summed to a type; -1 comes after the sum, where there are fewer numbers."""
    if not isinstance(partial, Value) and partial == -1:
        return scale(sum_to(ct, type), -1)
    return sum_to(scale(ct, partial), type)


def add_tangents(a: Maybe, b: Maybe) -> Maybe:
    """a + b where None is zero."""
    if a is None or b is None:
        return b if a is None else a
    result: Value = a + b
    return result


def sum_to(ct: Value, type: TensorType) -> Value:
    """Sum over the axes along which `type` was broadcast to the shape of `ct`: the adjoint of broadcasting."""
    if ct.shape == type.shape:
        return ct
    lead = ct.ndim - type.rank
    axes = tuple(i for i in range(ct.ndim) if i < lead or (type.shape[i - lead] == 1 and ct.shape[i] != 1))
    result: Value = functions.reshape(functions.sum(ct, axis=axes) if axes else ct, type.shape)
    return result


def align_batched(x: Value, rank: int) -> Value:
    """A batched operand with axes of size 1 after its batch axis, so that its example has `rank` axes."""
    missing = rank - (x.ndim - 1)
    if not missing:
        return x
    result: Value = functions.reshape(x, (x.shape[0], *(1,) * missing, *x.shape[1:]))
    return result


def with_batch_axis(x: Value, batched: bool, size: int) -> Value:
    """x with the batch axis in front: repeated for every example if it had none."""
    if batched:
        return x
    result: Value = functions.broadcast_to(x, (size, *x.shape))
    return result


def full(type: TensorType, value: float) -> Value:
    """A tensor filled with one number: a rank-0 constant, broadcast."""
    result: Value = functions.broadcast_to(current().number(value, type.dtype), type.shape)
    return result


def zeros_of(type: TensorType) -> Value:
    """Zeros of a type in the active builder."""
    return full(type, 0)


def ones_of(type: TensorType) -> Value:
    """Ones of a type in the active builder."""
    return full(type, 1)


def or_zeros(c: Maybe, type: TensorType) -> Value:
    """The tangent or cotangent, and zeros of this type where it is None."""
    return zeros_of(type) if c is None else c


def zeros_like(x: Value) -> Value:
    """Zeros of the type of `x`."""
    return full(x.type, 0)
