"""erf and erfc, which NumPy lacks: rational approximations in float64.

Source: W. J. Cody, Rational Chebyshev approximations for the error function, Math. Comp. 23 (1969).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Numerators and denominators, highest power first: |x| <= 0.46875 in x², then up to 4 in |x|, then beyond in 1/x².
_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1, 2.98635138197400131e2,
     8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
     3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)
_FAR = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3),
)
_ONE_OVER_SQRT_PI = 5.6418958354775628695e-1


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    top, bottom = (np.polyval(c, x) for c in coefficients)
    result: Array = top / bottom
    return result


def _near(x: Array) -> Array:
    """erf for |x| <= 0.46875."""
    return x * _ratio(_NEAR, x * x)


def _tail(y: Array) -> Array:
    """erfc for y > 0.46875."""
    far = y > 4
    inverse = 1 / np.where(far, y * y, 1.0)
    beyond = (_ONE_OVER_SQRT_PI - inverse * _ratio(_FAR, inverse)) / y
    scaled = np.where(far, beyond, _ratio(_MIDDLE, np.where(far, 1.0, y)))
    # exp(-y²) with the square split into an exact part and a small rest, so that its rounding does not grow.
    coarse = np.trunc(y * 16) / 16
    result: Array = np.exp(-coarse * coarse) * np.exp(-(y - coarse) * (y + coarse)) * scaled
    return result


def _both(x: Array) -> tuple[Array, Array, Array]:
    wide = np.asarray(x, np.float64)
    y = np.abs(wide)
    # Beyond 27 erfc is 0 in float64; the clamp keeps infinity out of the arithmetic.
    tail = _tail(np.clip(y, 0.46875, 27.0))
    return wide, y, tail


def erf(x: Array) -> Array:
    """2/√π ∫₀ˣ exp(-t²) dt, in the dtype of x (computed in float64, rounded once)."""
    with np.errstate(all="ignore"):
        wide, y, tail = _both(x)
        found = np.where(y <= 0.46875, _near(wide), np.copysign(1 - tail, wide))
    return np.where(np.isnan(wide), wide, found).astype(x.dtype)


def erfc(x: Array) -> Array:
    """1 - erf(x), exact in the tail, in the dtype of x (computed in float64, rounded once)."""
    with np.errstate(all="ignore"):
        wide, y, tail = _both(x)
        tail = np.where(y > 27.0, 0.0, tail)
        found = np.where(y <= 0.46875, 1 - _near(wide), np.where(wide < 0, 2 - tail, tail))
    return np.where(np.isnan(wide), wide, found).astype(x.dtype)
