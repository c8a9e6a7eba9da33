"""Constants: arrays held by the graph, equal by bits, shared by snapshots."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nagraph.ir.cached import cached_property
from nagraph.ir.conversion import number
from nagraph.ir.op import Array, Cost, Op, keep, op
from nagraph.ir.types import DType, TensorType, as_dtype, type_of


class Data:
    """An immutable array that compares by type and bits. copy=False: of memory that nobody writes to, such as that of a mapped file."""

    __slots__ = ("array", "__dict__")

    def __init__(self, array: Any, copy: bool = True):
        made = np.array(array, dtype=as_dtype(np.asarray(array).dtype), order="C", copy=copy or None)
        made.flags.writeable = False
        self.array: Array = made

    def holds(self, array: Any) -> bool:
        """Whether an array of this shape and dtype, in any byte order and layout, has these bits now."""
        now = np.asarray(array, dtype=self.array.dtype, order="C").reshape(-1)
        return bool(np.array_equal(now.view(np.uint8), self.array.reshape(-1).view(np.uint8)))

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.array.reshape(-1).view(np.uint8).data).hexdigest()

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        bits = self.array.tobytes() if self.array.nbytes <= 64 else self.sha256
        return (self.array.dtype.name, self.array.shape, bits)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Data) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)


def is_unchanging(array: Array) -> bool:
    """Whether nobody can write to an array: it is read-only, and so is what it is a view of, down to the memory itself."""
    memory: Any = array
    while isinstance(memory, np.ndarray):
        if memory.flags.writeable:
            return False
        if memory.flags.owndata:
            return True
        memory = memory.base
    return memory is not None and memoryview(memory).readonly


@op
class Constant(Op):
    """A constant tensor: y = value. Shape and dtype are those of the array."""

    name = "const"
    small = False
    host = False
    value: Data

    @classmethod
    def of(cls, array: Any) -> Constant:
        return cls(array if isinstance(array, Data) else Data(array))

    @classmethod
    def number(cls, value: bool | int | float, dtype: DType) -> Constant:
        """A number in a dtype; Python's that are equal in type and bits are one op. TypeRuleError for an integer that does not fit."""
        if type(value) not in (bool, int, float):
            return cls.of(number(value, dtype))
        key = type(value), value or str(value), dtype  # 0.0 is not -0.0
        found = _NUMBERS.get(key)
        if found is None:
            found = cls.of(number(value, dtype))
            keep(_NUMBERS, key, found)
        return found

    @property
    def array(self) -> Array:
        return self.value.array

    def infer(self) -> TensorType:
        return type_of(self.value.array)

    def reference(self) -> Array:
        return self.value.array

    def vjp(self, cotangents: Any, results: Any, operands: Any) -> tuple[()]:
        return ()

    def jvp(self, tangents: Any, results: Any, operands: Any) -> tuple[None]:
        return (None,)

    def batch(self, size: int, operands: Any, batched: Any) -> Any:
        raise AssertionError("a constant has no operand that could be batched")

    def cost(self) -> Cost:
        return Cost()

    def samples(self, rng: np.random.Generator) -> Iterator[tuple[()]]:
        yield ()


_NUMBERS: dict[tuple[type, Any, DType], Constant] = {}
