"""Lanes: the scalar builder of the LLVM backend. A scalar becomes a vector of lanes, or one register if the width is 1."""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.backends.llvm.text.builder import FunctionBuilder, Reg, constant, suffix, vector, vector_parts
from nagraph.elementary.narrow import NARROW, single
from nagraph.ir.scalar import F32, F64, I32, I64, U32, Scalar, ScalarBuilder
from nagraph.ir.types import BOOL, DTYPES, INTEGERS, SIGNED, UNSIGNED, DType

F16, BF16 = DTYPES["f16"], DTYPES["bf16"]

COMPARE_FLOAT = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
KNOWN = {"zeroinitializer": 0, "false": 0, "true": 1}
ROUND = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "roundeven"}


def element_type(dtype: DType) -> str:
    """How a lane of the dtype is held: 16-bit floats by their bits, bools by one bit."""
    if dtype == BOOL:
        return "i1"
    if dtype in NARROW:
        return "i16"
    if dtype == F32:
        return "float"
    if dtype == F64:
        return "double"
    return f"i{8 * dtype.itemsize}"


def memory_type(dtype: DType) -> str:
    """How memory holds it: bools take a byte."""
    return "i8" if dtype == BOOL else element_type(dtype)


def literal(value: Any, dtype: DType) -> str:
    """The text of a constant."""
    if dtype == BOOL:
        return "true" if value else "false"
    if dtype in NARROW:
        return str(int(np.asarray(value, dtype).view(np.uint16)))
    if dtype in (F32, F64):
        with np.errstate(all="ignore"):
            bits = struct.pack(">d", float(np.asarray(value, dtype)))
        return f"0x{bits.hex().upper()}"
    width = 8 * dtype.itemsize
    wrapped = int(value) % (1 << width)
    return str(wrapped - (1 << width) if wrapped >> (width - 1) else wrapped)


def known(x: Scalar) -> int | None:
    """The integer or bool that a constant has in every lane. What guards a constant divisor is decided here and now."""
    text = x.raw.text.removeprefix("splat (").removesuffix(")").split()[-1]
    if text in KNOWN:
        return KNOWN[text]
    if not text.lstrip("-").isdigit():
        return None
    return int(text) % (1 << 8 * x.dtype.itemsize) if x.dtype in UNSIGNED else int(text)


class Lanes(ScalarBuilder):
    """The scalar builder that writes into `code`: a scalar is a vector of `width` lanes."""

    def __init__(self, code: FunctionBuilder, width: int):
        self.code = code
        self.width = width
        self.scales = code.module.target.scales_by_powers

    def type(self, dtype: DType) -> str:
        return vector(self.width, element_type(dtype))

    def scalar(self, dtype: DType, raw: Reg) -> Scalar:
        return Scalar(self, dtype, raw)

    def constant(self, value: Any, dtype: DType) -> Scalar:
        return Scalar(self, dtype, constant(self.type(dtype), literal(value, dtype)))

    def splat(self, x: Scalar) -> Scalar:
        """A value of one lane in every lane."""
        if self.width == 1:
            return Scalar(self, x.dtype, x.raw)
        kind = self.type(x.dtype)
        if x.raw.text.lstrip("-").isdigit() or x.raw.text.startswith("0x") or x.raw.text in ("true", "false"):
            return Scalar(self, x.dtype, constant(kind, x.raw.text))
        first = self.code.emit(kind, f"insertelement {kind} poison, {x.raw}, i64 0")
        return Scalar(self, x.dtype, self.code.emit(kind, f"shufflevector {first}, {kind} poison, <{self.width} x i32> zeroinitializer"))

    # -- arithmetic -----------------------------------------------------------------------------------------

    def _binary(self, floating: str, integral: str, x: Scalar, y: Scalar) -> Scalar:
        name = integral if x.dtype in INTEGERS else floating
        return Scalar(self, x.dtype, self.code.binary(name, x.raw, y.raw))

    def add(self, x: Scalar, y: Scalar) -> Scalar:
        return self._binary("fadd", "add", x, y)

    def sub(self, x: Scalar, y: Scalar) -> Scalar:
        return self._binary("fsub", "sub", x, y)

    def mul(self, x: Scalar, y: Scalar) -> Scalar:
        return self._binary("fmul", "mul", x, y)

    def div(self, x: Scalar, y: Scalar) -> Scalar:
        return self._binary("fdiv", "sdiv" if x.dtype in SIGNED else "udiv", x, y)

    def rem(self, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.code.binary("srem" if x.dtype in SIGNED else "urem", x.raw, y.raw))

    def neg(self, x: Scalar) -> Scalar:
        if x.dtype in INTEGERS:
            return self.sub(self.constant(0, x.dtype), x)
        return Scalar(self, x.dtype, self.code.unary("fneg", x.raw))

    def abs(self, x: Scalar) -> Scalar:
        if x.dtype not in INTEGERS:
            return self._call("fabs", x)
        if x.dtype not in SIGNED:
            return x
        return Scalar(self, x.dtype, self.code.intrinsic("abs", x.raw.type, x.raw, Reg("i1", "false")))

    def fma(self, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
        return self._call("fma", x, y, z)

    def sqrt(self, x: Scalar) -> Scalar:
        return self._call("sqrt", x)

    def round(self, how: str, x: Scalar) -> Scalar:
        return self._call(ROUND[how], x)

    def scale(self, x: Scalar, n: Scalar) -> Scalar:
        """x times 2 to the n, by AVX-512's instruction, whole registers at a time: it is not one of LLVM's own operations."""
        code, element = self.code, element_type(x.dtype)
        most, least = (n // x.dtype.itemsize for n in (64, 16))
        width = max(least, min(self.width, most))
        kind = vector(width, element)
        name = f"llvm.x86.avx512.mask.scalef.p{element[0] if element == 'double' else 's'}.{8 * width * x.dtype.itemsize}"
        lanes = "i8" if width <= 8 else "i16"
        rounding = [Reg("i32", "4")] if width == most else []  # 4: as the thread is set, to nearest
        rest = [Reg(kind, "zeroinitializer"), Reg(lanes, "-1"), *rounding]
        parts = [code.call(name, kind, *pair, *rest) for pair in zip(*(self.registers(v.raw, kind) for v in (x, n)))]
        return Scalar(self, x.dtype, self.from_registers(parts, x.raw.type))

    def registers(self, raw: Reg, kind: str) -> list[Reg]:
        """The lanes as vectors of this kind; what they lack has any value."""
        width = vector_parts(kind)[0]
        if self.width == width:
            return [raw]
        if self.width == 1:
            return [self.code.emit(kind, f"insertelement {kind} poison, {raw}, i64 0")]
        return [self._shuffled(kind, raw, Reg(raw.type, "poison"), [i if i < self.width else -1 for i in range(first, first + width)])
                for first in range(0, self.width, width)]

    def from_registers(self, parts: list[Reg], kind: str) -> Reg:
        """Vectors of this kind side by side as lanes: the inverse of `registers`."""
        if self.width == 1:
            return self.code.emit(kind, f"extractelement {parts[0]}, i64 0")
        while len(parts) > 1:
            width = 2 * vector_parts(parts[0].type)[0]
            wide = vector(width, vector_parts(kind)[1])
            parts = [self._shuffled(wide, a, b, range(width)) for a, b in zip(parts[::2], parts[1::2])]
        (whole,) = parts
        return whole if whole.type == kind else self._shuffled(kind, whole, Reg(whole.type, "poison"), range(self.width))

    def _shuffled(self, kind: str, a: Reg, b: Reg, lanes: Sequence[int]) -> Reg:
        """Lanes of two vectors side by side, by their numbers; -1 is any."""
        places = ", ".join(f"i32 {'poison' if i < 0 else i}" for i in lanes)
        return self.code.emit(kind, f"shufflevector {a}, {b.type} {b.text}, <{len(lanes)} x i32> <{places}>")

    def copysign(self, x: Scalar, y: Scalar) -> Scalar:
        return self._call("copysign", x, y)

    def _call(self, name: str, x: Scalar, *others: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.code.intrinsic(name, x.raw.type, x.raw, *(o.raw for o in others)))

    # -- choice and bits --------------------------------------------------------------------------------------

    def compare(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype in INTEGERS and (a := known(x)) is not None and (b := known(y)) is not None:
            return self.constant(getattr(operator, how)(a, b), BOOL)
        if x.dtype in (F32, F64):
            name = f"fcmp {COMPARE_FLOAT[how]}"
        elif how in ("eq", "ne"):
            name = f"icmp {how}"
        else:
            name = f"icmp {'s' if x.dtype in SIGNED else 'u'}{how}"
        return Scalar(self, BOOL, self.code.compare(name, x.raw, y.raw))

    def select(self, condition: Scalar, x: Scalar, y: Scalar) -> Scalar:
        if (chosen := known(condition)) is not None:
            return x if chosen else y
        return Scalar(self, x.dtype, self.code.select(condition.raw, x.raw, y.raw))

    def rarely(self, condition: Scalar, compute: Callable[[], Sequence[Scalar]], usual: Sequence[Scalar]) -> list[Scalar]:
        code, kind = self.code, condition.raw.type
        needed = condition.raw if self.width == 1 else code.call(f"llvm.vector.reduce.or.{suffix(kind)}", "i1", condition.raw)
        before = code.block
        with code.when(needed):
            chosen = super().rarely(condition, compute, usual)
            last = code.block
        return [Scalar(self, x.dtype, code.emit(x.raw.type, f"phi {x.raw.type} [ {y.raw.text}, %{before} ], [ {x.raw.text}, %{last} ]"))
                for x, y in zip(chosen, usual, strict=True)]

    def bits(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.code.binary(how, x.raw, y.raw))

    def shift(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        name = "shl" if how == "left" else "ashr" if x.dtype in SIGNED else "lshr"
        return Scalar(self, x.dtype, self.code.binary(name, x.raw, y.raw))

    # -- conversion ---------------------------------------------------------------------------------------------

    def bitcast(self, x: Scalar, dtype: DType) -> Scalar:
        kind = self.type(dtype)
        return Scalar(self, dtype, x.raw if x.raw.type == kind else self.code.convert("bitcast", x.raw, kind))

    def cast(self, x: Scalar, dtype: DType) -> Scalar:
        if x.dtype == dtype:
            return x
        if x.dtype in NARROW:
            wide = self._widen_half(x) if x.dtype == F16 else self._widen_bfloat(x)
            return self.cast(wide, dtype)
        if dtype == BOOL:
            return self.compare("ne", x, self.constant(0, x.dtype))
        if dtype == F16:
            return self._to_half(single(self, x))
        if dtype == BF16:
            return self._to_bfloat(single(self, x))
        return Scalar(self, dtype, self._convert(x, dtype))

    def _convert(self, x: Scalar, dtype: DType) -> Reg:
        """A conversion between bools, integers, float32 and float64."""
        kind = self.type(dtype)
        if x.dtype in (F32, F64):
            if dtype in (F32, F64):
                return self.code.convert("fpext" if dtype == F64 else "fptrunc", x.raw, kind)
            if dtype == DTYPES["u64"]:
                return self._to_u64(x)
            # Other integers by way of wider signed ones, which wraps around as NumPy does.
            way = I32 if dtype.itemsize < 4 else dtype if dtype in SIGNED else I64
            whole = self.code.convert("fptosi", x.raw, self.type(way))
            return whole if self.type(way) == kind else self.code.convert("trunc", whole, kind)
        if dtype in (F32, F64):
            return self.code.convert("sitofp" if x.dtype in SIGNED else "uitofp", x.raw, kind)
        raw: Reg = x.raw
        here, there = vector_parts(raw.type)[1], element_type(dtype)
        if here == there:
            return raw
        if int(here[1:]) > int(there[1:]):
            return self.code.convert("trunc", x.raw, kind)
        return self.code.convert("sext" if x.dtype in SIGNED else "zext", x.raw, kind)

    def _to_u64(self, x: Scalar) -> Reg:
        """A float as u64; negative numbers wrap around."""
        kind = self.type(I64)
        negative = self.compare("lt", x, self.constant(0, x.dtype))
        return self.code.select(negative.raw, self.code.convert("fptosi", x.raw, kind), self.code.convert("fptoui", x.raw, kind))

    # 16-bit floats by integer arithmetic: the same bits on every CPU.

    def _widen_bfloat(self, x: Scalar) -> Scalar:
        bits = self.code.convert("zext", x.raw, self.type(U32))
        return self.bitcast(Scalar(self, U32, bits) << 16, F32)

    def _to_bfloat(self, x: Scalar) -> Scalar:
        """float32 as bfloat16, rounded to nearest, halves to even; nan stays a quiet nan with its sign."""
        bits = self.bitcast(x, U32)
        rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
        nan = ((bits >> 16) & 0x8000) | 0x7FC0
        return self._low_half(self.select(self.is_nan(x), nan, rounded), BF16)

    def _widen_half(self, x: Scalar) -> Scalar:
        bits = Scalar(self, U32, self.code.convert("zext", x.raw, self.type(U32)))
        sign = (bits & 0x8000) << 16
        rest = bits & 0x7FFF
        normal = (rest << 13) + (112 << 23)
        special = (rest << 13) | (255 << 23)
        # A subnormal is its integer times 2^-24, exactly.
        small = self.bitcast(self.cast(self.bitcast(rest, I32), F32) * 2.0**-24, U32)
        chosen = self.select(rest >= 0x7C00, special, self.select(rest >= 0x0400, normal, small))
        return self.bitcast(chosen | sign, F32)

    def _to_half(self, x: Scalar) -> Scalar:
        """float32 as float16, rounded to nearest, halves to even. Method: the addition of a power of two rounds subnormals."""
        bits = self.bitcast(x, U32)
        sign = (bits >> 16) & 0x8000
        rest = bits & 0x7FFFFFFF
        normal = (rest + (((rest >> 13) & 1) + 0xFFF) - (112 << 23)) >> 13
        small = self.bitcast(self.bitcast(rest, F32) + 0.5, U32) - 0x3F000000
        special = self.select(rest > 0x7F800000, ((rest >> 13) & 0x3FF) | 0x7E00, self.constant(0x7C00, U32))
        chosen = self.select(rest >= 0x47800000, special, self.select(rest >= 0x38800000, normal, small))
        return self._low_half(chosen | sign, F16)

    def _low_half(self, bits: Scalar, dtype: DType) -> Scalar:
        return Scalar(self, dtype, self.code.convert("trunc", bits.raw, self.type(dtype)))
