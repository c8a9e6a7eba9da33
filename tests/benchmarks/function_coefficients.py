"""The polynomials of the elementary functions, found by Remez's exchange algorithm in 160 bits.

    python tests/benchmarks/function_coefficients.py > nagraph/elementary/coefficients.py

Each fit makes the largest of |w (P - g)| least, where w turns the error of P into the relative one of the function.
The leading terms are exact (1, r, ...), so that rounding the coefficients to the dtype does little.
"""

from collections.abc import Callable
from typing import NamedTuple

import mpmath as mp
import numpy as np

mp.mp.prec = 160
POINTS = 601  # odd, so that no point is 0, where some weights vanish
Function = Callable[[mp.mpf], mp.mpf]


class Fit(NamedTuple):
    """P(x) of a degree for g(x) on [low, high], weighted with w(x)."""

    says: str
    g: Function
    w: Function
    low: mp.mpf
    high: mp.mpf
    degrees: dict[str, int]


def series(f: Function, start: mp.mpf) -> tuple[Function, Function]:
    """An odd f(x) = x (start + z P(z)) with z = x²: what P is, and its weight."""
    def g(z: mp.mpf) -> mp.mpf:
        return (f(mp.sqrt(z)) / mp.sqrt(z) - start) / z

    def w(z: mp.mpf) -> mp.mpf:
        return z * mp.sqrt(z) / f(mp.sqrt(z))

    return g, w


def scaled_erfc(q: mp.mpf) -> mp.mpf:
    t = 4 * (1 + q) / (1 - q)
    return (1 + 2 * t) * mp.exp(t * t) * mp.erfc(t)


HALF_LN2, QUARTER_PI, LEAST = mp.log(2) / 2, mp.pi / 4, mp.mpf(2) ** -60
A_BIT_MORE = mp.mpf("1.001")
FITS = {
    "EXP": Fit("eʳ = 1 + r + r² P(r), |r| <= ln 2 / 2", lambda r: (mp.expm1(r) - r) / r**2,
               lambda r: abs(r**2 / mp.expm1(r)), -HALF_LN2 * A_BIT_MORE, HALF_LN2 * A_BIT_MORE, {"F32": 4, "F64": 9}),
    "LOG": Fit("ln(1 + f) = f + f² P(f), |f| <= 1/3", lambda f: (mp.log1p(f) - f) / f**2, lambda f: abs(f**2 / mp.log1p(f)),
               -mp.mpf(1) / 3, mp.mpf(1) / 3, {"F32": 8}),
    "ARTANH": Fit("2 artanh s = s (2 + z P(z)), z = s² <= 1/25", *series(lambda s: 2 * mp.atanh(s), mp.mpf(2)),
                  LEAST, A_BIT_MORE / 25, {"F64": 7}),
    "ARTANH_FROM_FIFTH": Fit("artanh s = s (1 + z/3 + z² P(z)), z = s² <= 1/25",
                             lambda z: (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1 - z / 3) / z**2,
                             lambda z: z**2 * mp.sqrt(z) / mp.atanh(mp.sqrt(z)), LEAST, A_BIT_MORE / 25, {"F64": 7}),
    "SIN": Fit("sin r = r (1 + z P(z)), z = r², |r| <= π/4", *series(mp.sin, mp.mpf(1)),
               LEAST, QUARTER_PI**2 * A_BIT_MORE, {"F32": 2, "F64": 5}),
    "COS": Fit("cos r = 1 - z/2 + z² P(z), z = r², |r| <= π/4", lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2,
               lambda z: z**2 / mp.cos(mp.sqrt(z)), LEAST, QUARTER_PI**2 * A_BIT_MORE, {"F32": 2, "F64": 5}),
    "ARCTAN": Fit("arctan x = x (1 + z P(z)), z = x² <= 1", *series(mp.atan, mp.mpf(1)),
                  LEAST, mp.mpf(1), {"F32": 8, "F64": 19}),
    "ARCSIN": Fit("arcsin x = x (1 + z P(z)), z = x² <= 1/4", *series(mp.asin, mp.mpf(1)),
                  LEAST, mp.mpf(1) / 4, {"F32": 4, "F64": 11}),
    "SINH": Fit("sinh x = x (1 + z P(z)), z = x² <= 1", *series(mp.sinh, mp.mpf(1)), LEAST, mp.mpf(1), {"F32": 3, "F64": 6}),
    "ERF": Fit("erf x = x + x P(x²), |x| <= 1.125", lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1,
               lambda z: mp.sqrt(z) / mp.erf(mp.sqrt(z)), LEAST, mp.mpf("1.265625"), {"F32": 6}),
    "ERF_NEAR": Fit("erf x = x + x P(x²), |x| <= 0.75", lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1,
                    lambda z: mp.sqrt(z) / mp.erf(mp.sqrt(z)), LEAST, mp.mpf("0.5625"), {"F64": 10}),
    "ERF_FAR": Fit("1 - erf(u + 2.525) = P(u), |u| <= 1.4", lambda u: mp.erfc(u + mp.mpf("2.525")),
                   lambda u: mp.mpf(1), -mp.mpf("1.4"), mp.mpf("1.4"), {"F32": 12}),
    "ERFC": Fit("(1 + 2t) exp(t²) erfc t = P(q), q = (t - 4) / (t + 4), 0.75 <= t <= 28", scaled_erfc,
                lambda q: 1 / scaled_erfc(q), -mp.mpf("3.25") / mp.mpf("4.75"), mp.mpf(24) / 32, {"F64": 20}),
}


def remez(g: Function, w: Function, low: mp.mpf, high: mp.mpf, degree: int) -> tuple[list[mp.mpf], mp.mpf]:
    """The coefficients, the constant first, and the largest weighted error."""
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (k + mp.mpf("0.5")) / POINTS) for k in range(POINTS)]
    grid = [x for x in grid if abs(x) > (high - low) * mp.mpf("1e-8")]
    target, weight = [g(x) for x in grid], [w(x) for x in grid]
    n = degree + 2
    chosen = [round(len(grid) * (2 * k + 1) / (2 * n)) for k in range(n)]
    for _ in range(30):
        # P(x) ± level / w(x) = g(x) at the chosen points ...
        rows = mp.matrix([[grid[k]**j for j in range(degree + 1)] + [(-1)**i / weight[k]] for i, k in enumerate(chosen)])
        *coefficients, level = mp.lu_solve(rows, mp.matrix([target[k] for k in chosen]))
        error = [e * (mp.polyval(coefficients[::-1], x) - t) for x, t, e in zip(grid, target, weight)]
        worst = max(map(abs, error))
        if worst < abs(level) * mp.mpf("1.01"):
            break
        # ... which then move to the extremes of the error, one for each run of equal signs.
        extremes = [0]
        for k in range(1, len(grid)):
            if error[k] * error[extremes[-1]] < 0:
                extremes.append(k)
            elif abs(error[k]) > abs(error[extremes[-1]]):
                extremes[-1] = k
        while len(extremes) > n:
            extremes.pop(0 if abs(error[extremes[0]]) < abs(error[extremes[-1]]) else -1)
        chosen = extremes
    return coefficients, worst


def rounded(fit: Fit, degree: int, dtype: type) -> tuple[list[float], mp.mpf]:
    """The coefficients as numbers of the dtype, and the largest weighted error with them."""
    found = [float(dtype(c)) for c in remez(fit.g, fit.w, fit.low, fit.high, degree)[0]]
    grid = [fit.low + (fit.high - fit.low) * (k + mp.mpf("0.37")) / POINTS for k in range(POINTS)]
    return found, max(abs(fit.w(x) * (mp.polyval(found[::-1], x) - fit.g(x))) for x in grid)


def main() -> None:
    print('"""Coefficients, the highest power first. Made by tests/benchmarks/function_coefficients.py (Remez\'s exchange)."""')
    for name, fit in FITS.items():
        print(f"\n# {fit.says}")
        for short, degree in fit.degrees.items():
            dtype = np.float32 if short == "F32" else np.float64
            found, error = rounded(fit, degree, dtype)
            print(f"# error 2^{mp.nstr(mp.log(error, 2), 4)}")
            print(f"{name}_{short} = (")
            for start in range(0, len(found), 5):
                print("    " + ", ".join(str(dtype(c)) for c in found[::-1][start:start + 5]) + ",")
            print(")")


if __name__ == "__main__":
    main()
