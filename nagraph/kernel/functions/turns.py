"""An angle as quarter turns and a rest: |x| = (n + k 4) π/2 + r, |r| <= π/4, right for every finite x.

What counts is the fraction of |x| / 2π, so bits of 1/2π above it can be left out and those far below it too.
Source of the idea: Payne and Hanek 1983.
"""

from __future__ import annotations

import math

from nagraph.kernel.functions.floats import FORMATS
from nagraph.kernel.scalar import F32, F64, U64, Scalar, ScalarBuilder


def _inverse_turn(bits: int) -> int:
    """2^bits / 2π, by Machin's π/4 = 4 arctan(1/5) - arctan(1/239) in integers."""
    unit = 1 << bits + 64

    def arctan_of_inverse(n: int) -> int:
        total, power, k = 0, unit // n, 1
        while power:
            total += power // k if k % 4 == 1 else -(power // k)
            power, k = power // (n * n), k + 2
        return total

    half_pi = 8 * arctan_of_inverse(5) - 2 * arctan_of_inverse(239)
    return (unit << bits) // (4 * half_pi)


# -- float32, in float64 ---------------------------------------------------------------------------------------

#: 29 bits of 1/2π in each: their products with a float32 are exact in float64.
_PIECE = 29
_PIECES = [math.ldexp(_inverse_turn(_PIECE * (k + 1)) % (1 << _PIECE), -_PIECE * (k + 1)) for k in range(7)]


def _single(s: ScalarBuilder, x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """The fraction of each product is exact; whole turns go."""
    wide = s.cast(s.abs(x), F64)
    fractions = []
    for piece in _PIECES:
        turns = wide * piece
        fractions.append(turns - s.round("rint", turns))
    total = fractions[0]
    for fraction in fractions[1:]:
        total = total + fraction
    magic = FORMATS[F64].magic
    shifted = s.fma(total, s.constant(4, F64), s.constant(magic, F64))
    # Once more, from the large to the small, without the quarters: now nothing is lost where the rest is small.
    rest = s.fma(shifted - magic, s.constant(-0.25, F64), fractions[0])
    for fraction in fractions[1:]:
        rest = rest + fraction
    return s.cast(s.bitcast(shifted, U64), FORMATS[F32].integer), rest * (2 * math.pi), s.constant(0, F64)


# -- float64, in integers --------------------------------------------------------------------------------------

_WORDS = 20
#: 0 and the bits of 1/2π behind the point, in words of 64.
_BITS = [0, *((_inverse_turn(64 * (_WORDS - 1)) >> 64 * k) % (1 << 64) for k in reversed(range(_WORDS - 1)))]
_LOW = (1 << 32) - 1
#: 2π less the number nearest to it.
_TURN_REST = 2.4492935982947064e-16


def _double(s: ScalarBuilder, x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """|x| = m 2^(e - 1075) with an integer m of 53 bits: m times the 192 bits of 1/2π that matter for it."""
    size = s.abs(x)
    bits = s.bitcast(size, U64)
    m = (bits & (1 << 52) - 1) | (1 << 52)
    small = size < 0.78  # these are their own rest
    skip = s.select(small, s.constant(0, U64), (bits >> 52) - 1011)  # of _BITS, for this x
    words = [s.constant(w, U64) for w in _BITS]
    for k in reversed(range(5)):  # skip whole words: 16, 8, 4, 2, 1 of them
        step, needed = 1 << k, 3 + (1 << k)
        set = s.ne((skip >> 6 + k) & 1, 0)
        words = [s.select(set, words[i + step], words[i]) if i + step < len(words) else words[i] for i in range(needed)]
    shift = skip & 63
    window = [(a << shift) | ((b >> 1) >> (63 - shift)) for a, b in zip(words, words[1:])]

    # m times the window modulo 2^192, in digits of 32 bits; v[0] is the highest digit of the window.
    low, high = m & _LOW, m >> 32
    v = [half for w in window for half in (w >> 32, w & _LOW)]
    carry = s.constant(0, U64)
    digits = []
    for k in reversed(range(6)):
        product = low * v[k] + carry  # below 2^64
        carry = product >> 32
        digit = product & _LOW
        if k < 5:
            product = high * v[k + 1] + digit
            carry = carry + (product >> 32)
            digit = product & _LOW
        digits.append(digit)
    *_, d3, d2, d1, d0 = digits
    first = d0 << 32 | d1

    quarter = (first + (1 << 61)) >> 62
    signed = s.bitcast(first - (quarter << 62), FORMATS[F64].integer)
    # The three terms are exact, and each is below the last bit of the one before.
    a = s.cast(signed >> 32, F64) * 2.0**-32
    b = s.cast(s.bitcast(first & _LOW, FORMATS[F64].integer), F64) * 2.0**-64
    c = s.cast(s.bitcast(d2 << 21 | d3 >> 11, FORMATS[F64].integer), F64) * 2.0**-117
    top, rest = _two_sum(a, b)
    top, rest = _two_sum(top, rest + c)
    turn = s.constant(2 * math.pi, F64)
    r = top * turn
    tail = s.fma(top, turn, -r) + s.fma(top, s.constant(_TURN_REST, F64), rest * turn)
    zero = s.constant(0, F64)
    number = s.select(small, s.constant(0, U64), quarter)
    return s.bitcast(number, FORMATS[F64].integer), s.select(small, size, r), s.select(small, zero, tail)


def _two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """a + b and what its rounding lost, for |a| >= |b|."""
    total = a + b
    return total, (a - total) + b


def quarter_turns(s: ScalarBuilder, x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """(n, r, tail) of |x|: n counts in its two lowest bits; r + tail is the rest in float64.

    Of infinity and nan they are anything.
    """
    return _single(s, x) if x.dtype == F32 else _double(s, x)
