"""Rules of arithmetic. Exact ones keep every bit, the sign of zero too, but the sign of nan; the others are off by default."""

from __future__ import annotations

import math
from typing import Any

from nagraph.ir.types import DTYPES, FLOATS, INTEGERS, SIGNED
from nagraph.rewrite.pattern import holes, numerals, op
from nagraph.rewrite.rule import floats, inexact, integers, on, only, rules, where

x, y, z = holes("x y z")
a, b = numerals("a b")
numbers, signed = only(FLOATS | INTEGERS), only(FLOATS | SIGNED)
#: 16-bit floats round after each op, so two ops in one round differently.
wide = only(frozenset((DTYPES["f32"], DTYPES["f64"])))


def _power_of_two(a: Any) -> bool:
    """Whether a and 1 / a are powers of two of normal size, so that division and multiplication round alike."""
    value = float(a)
    return value != 0 and math.isfinite(value) and abs(math.frexp(value)[0]) == 0.5 and 2**-14 <= abs(value) <= 2**14


RULES = rules(
    ("x + 0 => x (integers)", x + 0, x, integers),
    ("x + -0.0 => x", x + -0.0, x, floats),
    ("x - 0 => x", x - 0, x),
    ("0 - x => -x (integers)", 0 - x, -x, integers),
    ("x * 1 => x", x * 1, x),
    ("x / 1 => x", x / 1, x),
    ("x * -1 => -x", x * -1, -x),
    ("x / -1 => -x", x / -1, -x),
    ("-(-x) => x", -(-x), x),
    ("x + (-y) => x - y", x + (-y), x - y),
    ("x - (-y) => x + y", x - (-y), x + y),
    ("(-x) * (-y) => x * y", (-x) * (-y), x * y),
    ("(-x) / (-y) => x / y", (-x) / (-y), x / y),
    ("(-x) * a => x * -a", (-x) * a, lambda x, a: x * -a, floats, on(x=(3, 4), a=2.5)),
    ("x / 2^n => x * 2^-n", x / a, lambda x, a: x * (1 / a), floats, where(_power_of_two), on(x=(3, 4), a=4.0), on(x=(3, 4), a=-0.125)),
    ("1 / x => reciprocal x", 1 / x, op.reciprocal(x), floats),
    ("1 / sqrt x => rsqrt x", 1 / op.sqrt(x), op.rsqrt(x), wide),
    ("reciprocal (sqrt x) => rsqrt x", op.reciprocal(op.sqrt(x)), op.rsqrt(x), wide),
    ("x * x => square x", x * x, op.square(x), numbers),
    ("square (-x) => square x", op.square(-x), op.square(x)),
    ("square |x| => square x", op.square(op.abs(x)), op.square(x)),
    ("|-x| => |x|", op.abs(-x), op.abs(x), signed),
    ("||x|| => |x|", op.abs(op.abs(x)), op.abs(x)),
    ("|square x| => square x", op.abs(op.square(x)), op.square(x), floats),
    ("x ** 1 => x", x ** 1, x),
    ("x ** 0 => 1", x ** 0, 1),
    ("x ** 2 => square x", x ** 2, op.square(x), integers),
    ("max x x => x", op.maximum(x, x), x),
    ("min x x => x", op.minimum(x, x), x),
    ("max (max x y) y => max x y", op.maximum(op.maximum(x, y), y), op.maximum(x, y)),
    ("min (min x y) y => min x y", op.minimum(op.minimum(x, y), y), op.minimum(x, y)),
    ("max (-x) (-y) => -(min x y)", op.maximum(-x, -y), -op.minimum(x, y), floats),
    ("min (-x) (-y) => -(max x y)", op.minimum(-x, -y), -op.maximum(x, y), floats),
    ("floor (floor x) => floor x", op.floor(op.floor(x)), op.floor(x)),
    ("ceil (ceil x) => ceil x", op.ceil(op.ceil(x)), op.ceil(x)),
    ("trunc (trunc x) => trunc x", op.trunc(op.trunc(x)), op.trunc(x)),
    ("rint (rint x) => rint x", op.rint(op.rint(x)), op.rint(x)),
    ("floor (ceil x) => ceil x", op.floor(op.ceil(x)), op.ceil(x)),
    ("ceil (floor x) => floor x", op.ceil(op.floor(x)), op.floor(x)),
    ("sign (sign x) => sign x", op.sign(op.sign(x)), op.sign(x)),
    ("cos (-x) => cos x", op.cos(-x), op.cos(x)),
    ("cos |x| => cos x", op.cos(op.abs(x)), op.cos(x)),
    # Integers wrap, so these hold for them bit for bit.
    ("(-x) - y => -(x + y) (integers)", (-x) - y, -(x + y), integers),
    ("-(x - y) => y - x (integers)", -(x - y), y - x, integers),
    ("x - x => 0 (integers)", x - x, 0, integers),
    ("x * 0 => 0 (integers)", x * 0, 0, integers),
    ("(x + a) + b => x + (a + b) (integers)", (x + a) + b, lambda x, a, b: x + (a + b), integers, on(x=(3, 4), a=3, b=5)),
    ("(x * a) * b => x * (a * b) (integers)", (x * a) * b, lambda x, a, b: x * (a * b), integers, on(x=(3, 4), a=3, b=5)),
    ("x * y + x * z => x * (y + z) (integers)", x * y + x * z, x * (y + z), integers),
    # These change the sign of zero alone: 0.0 stands for -0.0 or the other way round.
    ("x + 0 => x", x + 0, x, floats, inexact),
    ("0 - x => -x", 0 - x, -x, floats, inexact),
    ("(-x) - y => -(x + y)", (-x) - y, -(x + y), floats, inexact),
    ("-(x - y) => y - x", -(x - y), y - x, floats, inexact),
    # These change rounding, overflow or special values.
    ("x - x => 0", x - x, 0, floats, inexact),
    ("x * 0 => 0", x * 0, 0, floats, inexact),
    ("0 / x => 0", 0 / x, 0, floats, inexact),
    ("x / x => 1", x / x, 1, floats, inexact),
    ("(x + a) + b => x + (a + b)", (x + a) + b, lambda x, a, b: x + (a + b), floats, inexact, on(x=(3, 4), a=1.5, b=2.25)),
    ("(x * a) * b => x * (a * b)", (x * a) * b, lambda x, a, b: x * (a * b), floats, inexact, on(x=(3, 4), a=1.5, b=2.25)),
    ("x * y + x * z => x * (y + z)", x * y + x * z, x * (y + z), floats, inexact),
    ("x ** 2 => square x (floats)", x ** 2, op.square(x), floats, inexact),
    ("x ** 0.5 => sqrt x", x ** 0.5, op.sqrt(x), inexact),
    ("x ** -1 => reciprocal x", x ** -1, op.reciprocal(x), floats, inexact),
    ("x / sqrt y => x * rsqrt y", x / op.sqrt(y), x * op.rsqrt(y), inexact),
    ("reciprocal (reciprocal x) => x", op.reciprocal(op.reciprocal(x)), x, floats, inexact),
    ("exp (log x) => x", op.exp(op.log(x)), x, inexact),
    ("log (exp x) => x", op.log(op.exp(x)), x, inexact),
    ("exp x * exp y => exp (x + y)", op.exp(x) * op.exp(y), op.exp(x + y), inexact),
    ("log x + log y => log (x * y)", op.log(x) + op.log(y), op.log(x * y), inexact),
    ("sqrt (square x) => |x|", op.sqrt(op.square(x)), op.abs(x), inexact),
    ("square (sqrt x) => x", op.square(op.sqrt(x)), x, inexact),
    ("log (1 + x) => log1p x", op.log(1 + x), op.log1p(x), inexact),
    ("exp x - 1 => expm1 x", op.exp(x) - 1, op.expm1(x), inexact),
    ("tanh (-x) => -tanh x", op.tanh(-x), -op.tanh(x), inexact),
    ("sin (-x) => -sin x", op.sin(-x), -op.sin(x), inexact),
)
