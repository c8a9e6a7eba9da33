"""Lanes of machines that make float32 of two float64 in one instruction, as WebAssembly does, where code generation takes one by one."""

from __future__ import annotations

from nagraph.backends.llvm.text.builder import Reg
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.ir.scalar import F32, F64, Scalar
from nagraph.ir.types import DType

#: Lanes of float32 in a vector of the machine.
_LANES = 4


class NarrowingLanes(Lanes):
    """The scalar builder that narrows two lanes at a time."""

    def cast(self, x: Scalar, dtype: DType) -> Scalar:
        if x.dtype != F64 or dtype != F32 or self.width == 1:
            return super().cast(x, dtype)
        parts = [self._narrowed(x.raw, first) for first in range(0, self.width, 2)]
        return Scalar(self, F32, self._joined(parts))

    def _narrowed(self, raw: Reg, first: int) -> Reg:
        """Two lanes as float32, in the lower half of a vector whose upper half is zero: one instruction of the machine."""
        pair = self._shuffled("<2 x double>", raw, Reg(raw.type, "poison"), [first, first + 1])
        short = self.code.convert("fptrunc", pair, "<2 x float>")
        return self._shuffled("<4 x float>", short, Reg(short.type, "zeroinitializer"), range(_LANES))

    def _joined(self, parts: list[Reg]) -> Reg:
        """The lower halves side by side."""
        if len(parts) == 1:
            return self._shuffled("<2 x float>", parts[0], Reg(parts[0].type, "poison"), [0, 1])
        wide = [self._shuffled("<4 x float>", a, b, [0, 1, 4, 5]) for a, b in zip(parts[::2], parts[1::2])]
        while len(wide) > 1:
            lanes = 2 * _width(wide[0])
            wide = [self._shuffled(f"<{lanes} x float>", a, b, range(lanes)) for a, b in zip(wide[::2], wide[1::2])]
        return wide[0]


def _width(r: Reg) -> int:
    return int(r.type[1:].split()[0])
