"""Functions: what kernels call for ops that take several steps, such as exp. Each is written once, from the op's scalar rule."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nagraph.c_text.scalars import CScalars
from nagraph.c_text.text import Text
from nagraph.c_text.words import Literal, Words
from nagraph.ir.op import Op
from nagraph.ir.scalar import Scalar
from nagraph.ir.types import SHORT_NAMES, DType


class Functions:
    """The functions of one text, by what they say."""

    def __init__(self, words: Words):
        self.words = words
        #: By parameters and body, the name.
        self._names: dict[tuple[str, str], str] = {}
        #: Of each function what it computes, and its text.
        self.ops: list[Op] = []
        self.texts: list[str] = []

    def apply(self, op: Op, arguments: Sequence[Scalar], dtype: DType) -> str:
        """The expression that an op is of arguments: a step where it takes one, else the call of a function."""
        trial = CScalars(Text(), self.words)
        found = op.scalar(trial, *(Scalar(trial, a.dtype, a.raw) for a in arguments))
        if not trial.text.lines:
            return found.raw  # type: ignore[no-any-return]
        if len(trial.text.lines) == 1 and trial.last[0] == found.raw:
            return trial.last[1]
        return self._call(op, arguments, dtype)

    def _call(self, op: Op, arguments: Sequence[Scalar], dtype: DType) -> str:
        """A call of the op's function. Constants are no parameters: the function knows them."""
        text = Text(indent=1)
        s = CScalars(text, self.words)
        given, parameters, passed = [], [], []
        for n, a in enumerate(arguments):
            if isinstance(a.raw, Literal):
                given.append(Scalar(s, a.dtype, a.raw))
            else:
                given.append(Scalar(s, a.dtype, "abcdefgh"[n]))
                parameters.append(f"{self.words.type(a.dtype)} {'abcdefgh'[n]}")
                passed.append(str(a.raw))
        result = op.scalar(s, *given)
        text.line(f"return {result.raw};")
        key = f"{self.words.type(dtype)} ({', '.join(parameters)})", str(text)
        if key not in self._names:
            self._names[key] = name = self._name(op, arguments)
            self.ops.append(op)
            self.texts.append(f"{self.words.function} {self.words.type(dtype)} {name}({', '.join(parameters)}) {{\n{text}\n}}")
        return f"{self._names[key]}({', '.join(passed)})"

    def _name(self, op: Op, arguments: Sequence[Scalar]) -> str:
        """A name that says the op, its dtype, and a constant divisor or exponent."""
        last = arguments[-1].raw if len(arguments) > 1 else ""
        by = f"_by_{last.value}" if isinstance(last, Literal) and last.value is not None and last.value >= 0 else ""
        plain = re.sub(r"\W", "_", f"{op.name}_{SHORT_NAMES[arguments[0].dtype]}{by}" if arguments else op.name)
        taken = sum(name == plain or re.fullmatch(rf"{plain}_\d+", name) is not None for name in self._names.values())
        return f"{plain}_{taken + 1}" if taken else plain
