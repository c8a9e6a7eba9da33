"""Elements write the instructions of a stage by asking ops for one element of a value at an affine index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nagraph.ir.constant import Constant
from nagraph.ir.conversion import number
from nagraph.ir.graph import Value
from nagraph.ir.op import Op
from nagraph.ir.types import DTYPES, DType, TensorType
from nagraph.kernel.affine import Affine, atom, bounds, split, strides, total
from nagraph.kernel.context import KernelContext
from nagraph.kernel.form import Apply, Instruction, Load, Number, Position, Running, Within
from nagraph.ops.base import F32, NARROW_FLOATS, Cast, Primitive
from nagraph.ops.comparison import less
from nagraph.ops.elementwise import Select, add, floor_divide, maximum, minimum, remainder

I64 = DTYPES["i64"]
Index = tuple[Affine, ...]


class Elements:
    """Elements are the body of one stage while it is written: ops call them back from their `element` rules.

    An instruction is named by its number in the body, and an instruction that is there already is not written again.
    """

    def __init__(self, context: KernelContext):
        self.context = context
        self.body: list[Instruction] = []
        self.known: dict[Instruction, int] = {}
        self.mask: int | None = None
        #: Bounds of the integers that instructions compute, by the atoms that these are.
        self._dynamic: dict[int, int] = {}
        self._met: dict[tuple[Value, Index, int | None], int] = {}

    # -- instructions -----------------------------------------------------------------------------------------

    def _add(self, instruction: Instruction) -> int:
        if instruction not in self.known:
            self.known[instruction] = len(self.body)
            self.body.append(instruction)
        return self.known[instruction]

    def number(self, value: Any, dtype: DType) -> int:
        return self._add(Number(number(value, dtype).tobytes(), dtype))

    def position(self, index: Affine) -> int:
        """The value of an affine expression, as i64."""
        if not index.terms:
            return self.number(index.offset, I64)
        if index.offset == 0 and len(index.terms) == 1 and index.terms[0][0] < 0 and index.terms[0][1] == 1:
            return -1 - index.terms[0][0]  # it is an instruction's value already
        return self._add(Position(index))

    def within(self, index: Affine, size: int, step: int = 1, also: int | None = None) -> int:
        """Whether 0 <= index < size and `step` divides it, and `also`, or else whatever masks the elements around."""
        return self._add(Within(index, size, step, self.mask if also is None else also))

    def running(self, fold: int, dtype: DType, result: DType) -> int:
        """The state of a fold of this stage after the current point."""
        return self.cast(self._add(Running(fold, dtype)), result)

    def apply(self, op: Op, *arguments: int) -> int:
        """The value of an op. One that widens computes of 16-bit floats in float32: casts stand before it and behind it."""
        dtypes = [self.body[a].dtype for a in arguments]
        found = op.infer(*(TensorType(d, ()) for d in dtypes))
        assert isinstance(found, TensorType)
        if isinstance(op, Primitive) and op.widens and not NARROW_FLOATS.isdisjoint(dtypes):
            return self.cast(self.apply(op, *map(self.wide, arguments)), found.dtype)
        return self._add(Apply(op, arguments, found.dtype))

    def wide(self, value: int) -> int:
        """A value in the dtype in which it is computed with: 16-bit floats in float32."""
        found = self.body[value]
        if found.dtype not in NARROW_FLOATS:
            return value
        return self.number(found.value, F32) if isinstance(found, Number) else self.cast(value, F32)

    def cast(self, value: int, dtype: DType) -> int:
        return value if self.body[value].dtype == dtype else self.apply(Cast(dtype), value)

    def select(self, condition: int, x: int, y: int) -> int:
        return self.apply(Select(), condition, x, y)

    # -- indices ----------------------------------------------------------------------------------------------------

    def extents(self) -> dict[int, int]:
        return {**dict(enumerate(self.context.extents)), **self._dynamic}

    def dynamic(self, value: int, size: int) -> Affine:
        """An integer that an instruction computes, known to be from 0 to size - 1, as an atom."""
        self._dynamic[-1 - value] = size
        return atom(-1 - value)

    def sum(self, parts: Iterable[tuple[Affine, int]], offset: int = 0) -> Affine:
        return total(parts, offset)

    def always(self, index: Affine, size: int, step: int = 1) -> bool:
        """Whether 0 <= index / step < size and `step` divides the index, wherever it is asked for."""
        low, high = bounds(index, self.extents())
        whole = not any(part % step for part in (index.offset, *(c for _, c in index.terms)))
        return low >= 0 and high < size * step and whole

    def quotient(self, index: Affine, step: int) -> Affine:
        """index / step, where `step` divides it; anything elsewhere."""
        if step == 1:
            return index
        if not any(part % step for part in (index.offset, *(c for _, c in index.terms))):
            return Affine(index.offset // step, tuple((a, c // step) for a, c in index.terms))
        _, high = bounds(index, self.extents())
        return self.dynamic(self.apply(floor_divide, self.position(index), self.number(step, I64)), max(high // step + 1, 1))

    def flatten(self, index: Sequence[Affine], shape: Sequence[int]) -> Affine:
        return total(zip(index, strides(shape)))

    def unflatten(self, flat: Affine, shape: Sequence[int]) -> Index:
        """The index into a shape of its element number `flat`: by affine division, else by integer arithmetic."""
        index: list[Affine] = []
        rest = flat
        for size, step in zip(shape, strides(shape)):
            if size == 1:
                index.append(Affine())
                continue
            parts = split(rest, step, self.extents())
            if parts is None:
                number = self.position(rest)
                by = self.number(step, I64)
                parts = (self.dynamic(self.apply(floor_divide, number, by), size),
                         self.dynamic(self.apply(remainder, number, by), step))
            index.append(parts[0])
            rest = parts[1]
        return tuple(index)

    def clamped(self, value: int, size: int, wraps: bool = False) -> Affine:
        """An integer clipped to 0 ... size - 1, as an index; with `wraps` negative ones count from the end."""
        if self.body[value].dtype == DTYPES["u64"]:
            value = self.apply(minimum, value, self.number(max(size - 1, 0), DTYPES["u64"]))
        value = self.cast(value, I64)
        zero, last = self.number(0, I64), self.number(max(size - 1, 0), I64)
        if wraps:
            value = self.select(self.apply(less, value, zero), self.apply(add, value, self.number(size, I64)), value)
        value = self.apply(minimum, self.apply(maximum, value, zero), last)
        return self.dynamic(value, max(size, 1))

    # -- elements ------------------------------------------------------------------------------------------------------

    def element(self, value: Value, index: Sequence[Affine]) -> int:
        """The element of a value at an index, computed in this stage or read from memory."""
        key = (value, tuple(index), self.mask)
        if key not in self._met:
            self._met[key] = self._element(value, tuple(index))
        return self._met[key]

    def _element(self, value: Value, index: Index) -> int:
        context = self.context
        if not value.type.size:  # never wanted: the loop has no points, or the mask is false
            return self.number(0, value.dtype)
        kept = self.kept(value, index)
        if kept is not None:
            return kept
        if value in context.operands:
            number = context.operands[value]
            layout = context.layouts[number]
            return self._add(Load(number, total(zip(index, layout.strides), layout.offset), value.dtype, self.mask))
        node = context.graph.producers[value]
        if isinstance(node.op, Constant):
            return self.number(node.op.array.reshape(-1)[0], value.dtype)
        found: int = node.op.element(self, node.operands, index)
        return found

    def kept(self, value: Value, index: Index) -> int | None:
        """The element as an earlier stage keeps it; None if it is to be computed here, as always where no stage keeps anything."""
        return None

    @contextmanager
    def masked(self, mask: int | None) -> Iterator[None]:
        """Masks what is written inside: it reads nothing where the bool `mask` is false; None changes nothing."""
        before, self.mask = self.mask, self.mask if mask is None else mask
        yield
        self.mask = before

    def broadcast(self, index: Sequence[Affine], shape: Sequence[int]) -> Index:
        """The index into an operand of this shape that NumPy's broadcasting makes of a result's."""
        return tuple(i if n != 1 else Affine() for i, n in zip(index[len(index) - len(shape):], shape))
