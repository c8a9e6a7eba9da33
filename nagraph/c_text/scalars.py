"""C scalars: the scalar builder of C text. A scalar is a constant variable, or a literal."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from nagraph.c_text.text import Text
from nagraph.c_text.words import Literal, Words
from nagraph.elementary.narrow import NARROW, single
from nagraph.ir.scalar import F32, F64, I32, I64, U32, U64, Scalar, ScalarBuilder
from nagraph.ir.types import BOOL, DTYPES, FLOATS, INTEGERS, SHORT_NAMES, SIGNED, UNSIGNED, DType

U16 = DTYPES["u16"]
COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
BITS = {"and": "&", "or": "|", "xor": "^"}
#: Signed integers whose overflow C leaves open: functions of the dialect wrap around.
OPEN = frozenset((I32, I64))


class CScalars(ScalarBuilder):
    """The scalar builder that writes into `text`, in the words of a dialect: each result is a constant variable of its own."""

    def __init__(self, text: Text, words: Words):
        self.text, self.words = text, words
        #: Of the variable that was made last, its name and the expression that it is.
        self.last: tuple[str, str] = ("", "")
        self.doubles = words.doubles

    def define(self, dtype: DType, expression: str) -> Scalar:
        """A new variable."""
        name = self.text.fresh()
        self.text.line(f"const {self.words.type(dtype)} {name} = {expression};")
        self.last = name, expression
        return Scalar(self, dtype, name)

    def inlined(self, x: Scalar) -> str:
        """A value that is wanted once: the expression of the variable that the last line made, without that line; else its name."""
        if self.text.lines and x.raw == self.last[0] and self.text.lines[-1].endswith(f" {x.raw} = {self.last[1]};"):
            self.text.lines.pop()
            return self.last[1]
        return str(x.raw)

    def constant(self, value: Any, dtype: DType) -> Scalar:
        return Scalar(self, dtype, self.words.literal(value, dtype))

    # -- arithmetic -----------------------------------------------------------------------------------------

    def _binary(self, name: str, symbol: str, x: Scalar, y: Scalar) -> Scalar:
        return self._call(name, x, y) if x.dtype in OPEN else self.define(x.dtype, f"{x.raw} {symbol} {y.raw}")

    def _call(self, name: str, *arguments: Scalar) -> Scalar:
        """What the dialect's function of this name gives, of the dtype of its first argument."""
        dtype = arguments[0].dtype
        return self.define(dtype, f"{self.words.helper(name, dtype)}({', '.join(str(x.raw) for x in arguments)})")

    def add(self, x: Scalar, y: Scalar) -> Scalar:
        return self._binary("add", "+", x, y)

    def sub(self, x: Scalar, y: Scalar) -> Scalar:
        return self._binary("sub", "-", x, y)

    def mul(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype == U16:  # the product of two ints overflows
            return self.define(U16, f"({self.words.type(U32)}){x.raw} * {y.raw}")
        return self._binary("mul", "*", x, y)

    def div(self, x: Scalar, y: Scalar) -> Scalar:
        return self.define(x.dtype, f"{x.raw} / {y.raw}")

    def rem(self, x: Scalar, y: Scalar) -> Scalar:
        return self.define(x.dtype, f"{x.raw} % {y.raw}")

    def neg(self, x: Scalar) -> Scalar:
        return self.sub(self.constant(0, x.dtype), x) if x.dtype in INTEGERS else self.define(x.dtype, f"-{x.raw}")

    def abs(self, x: Scalar) -> Scalar:
        return self._call("abs", x) if x.dtype in FLOATS or x.dtype in SIGNED else x

    def fma(self, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
        return self._call("fma", x, y, z)

    def sqrt(self, x: Scalar) -> Scalar:
        return self._call("sqrt", x)

    def round(self, how: str, x: Scalar) -> Scalar:
        return self._call(how, x)

    def copysign(self, x: Scalar, y: Scalar) -> Scalar:
        return self._call("copysign", x, y)

    def maximum(self, x: Scalar, y: Scalar) -> Scalar:
        return self._call("max", x, y)

    def minimum(self, x: Scalar, y: Scalar) -> Scalar:
        return self._call("min", x, y)

    # -- choice and bits --------------------------------------------------------------------------------------

    def compare(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype in INTEGERS and (a := known(x)) is not None and (b := known(y)) is not None:
            return self.constant(getattr(operator, how)(a, b), BOOL)
        if x.dtype not in FLOATS and x.raw == y.raw:  # compilers warn of what is always so
            return self.constant(how in ("le", "ge", "eq"), BOOL)
        if x.dtype in UNSIGNED and known(y) == 0 and how in ("lt", "ge"):
            return self.constant(how == "ge", BOOL)
        return self.define(BOOL, f"{x.raw} {COMPARE[how]} {y.raw}")

    def select(self, condition: Scalar, x: Scalar, y: Scalar) -> Scalar:
        chosen = known(condition)
        if chosen is not None:
            return x if chosen else y
        return self.define(x.dtype, f"{condition.raw} ? {x.raw} : {y.raw}")

    def rarely(self, condition: Scalar, compute: Callable[[], Sequence[Scalar]], usual: Sequence[Scalar]) -> list[Scalar]:
        found = [Scalar(self, x.dtype, self.text.fresh()) for x in usual]
        for made, x in zip(found, usual):
            self.text.line(f"{self.words.type(x.dtype)} {made.raw} = {x.raw};")
        with self.text.block(f"if ({condition.raw})"):
            for made, x in zip(found, compute(), strict=True):
                self.text.line(f"{made.raw} = {x.raw};")
        return found

    def bits(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        return self.define(x.dtype, f"{x.raw} {BITS[how]} {y.raw}")

    def shift(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        if how == "right":
            return self.define(x.dtype, f"{x.raw} >> {y.raw}")
        if x.dtype in OPEN:
            return self._call("shl", x, y)
        return self.define(x.dtype, f"{x.raw} << {y.raw}" if x.dtype.itemsize >= 4 else f"({self.words.type(U32)}){x.raw} << {y.raw}")

    # -- conversion ---------------------------------------------------------------------------------------------

    def bitcast(self, x: Scalar, dtype: DType) -> Scalar:
        return x if x.dtype == dtype else self.define(dtype, f"{self.words.bitcast(dtype, x.dtype)}({x.raw})")

    def cast(self, x: Scalar, dtype: DType) -> Scalar:
        if x.dtype == dtype:
            return x
        if x.dtype in NARROW:
            return self.cast(self.define(F32, f"{self.words.helper('float', x.dtype)}({x.raw})"), dtype)
        if dtype == BOOL:
            return self.compare("ne", x, self.constant(0, x.dtype))
        if dtype in NARROW:
            return self.define(dtype, f"{self.words.helper(SHORT_NAMES[dtype], F32)}({single(self, x).raw})")
        kind = self.words.type(dtype)
        if x.dtype in (F32, F64) and dtype in INTEGERS:
            if dtype == U64:  # negative numbers wrap around
                return self.define(U64, self.words.wrapped(str(x.raw), x.dtype))
            # Other integers by way of wider signed ones, which wraps around as NumPy does.
            way = I32 if dtype.itemsize < 4 else dtype if dtype in SIGNED else I64
            found = self.words.truncated(str(x.raw), x.dtype, way)
            return self.define(dtype, found if way == dtype else f"({kind}){found}")
        if isinstance(x.raw, Literal) and x.raw.value is not None:
            return self.constant(x.raw.value, dtype)
        return self.define(dtype, f"({kind}){x.raw}")


def known(x: Scalar) -> int | None:
    """The integer or bool that a constant is. What guards a constant divisor is decided here and now."""
    return x.raw.value if isinstance(x.raw, Literal) else None
