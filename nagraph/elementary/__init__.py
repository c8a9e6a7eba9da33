"""The elementary functions, for every backend: each a rule f(s, x) on the scalars of a builder, in float32 or float64.

No tables, no calls, no branches but those that skip what no lane needs: fused multiply-adds, integers and selections,
so that the bits are the same at every width and on every machine. Errors, in units of the last place of the exact result,
were measured over all float32 numbers and over samples of float64 (tests/benchmarks/function_errors.py).
"""

from nagraph.elementary.error_function import erf, erfc
from nagraph.elementary.exponential import exp, exp2, expm1, sigmoid, tanh
from nagraph.elementary.hyperbolic import arccosh, arcsinh, arctanh, cosh, sinh
from nagraph.elementary.inverse_trigonometric import arccos, arcsin, arctan, arctan2
from nagraph.elementary.logarithm import log, log1p, log2, log10, softplus
from nagraph.elementary.powers import cbrt, power, rsqrt, sqrt
from nagraph.elementary.remainders import floor_divide, fmod, remainder
from nagraph.elementary.trigonometric import cos, sin, tan

__all__ = [
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cbrt", "cos", "cosh", "erf", "erfc", "exp", "exp2",
    "expm1", "floor_divide", "fmod", "log", "log10", "log1p", "log2", "power", "remainder", "rsqrt", "sigmoid", "sin", "sinh",
    "softplus", "sqrt", "tan", "tanh",
]
