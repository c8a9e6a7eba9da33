"""Python's and NumPy's numbers beside arrays: one dtype eagerly and traced, on either side, and NumPy 2's where NumPy has the dtype."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import NagraphError
from nagraph.ir.types import DTYPES
from nagraph.nn import functional as F

n = ng.numpy
SCALARS = [True, 2, 1.5, -1, np.bool_(True), np.int8(2), np.uint16(3), np.int64(-1), np.float16(1.5), np.float32(0.5), np.float64(2.0),
           np.array(2.0, np.float32), ng.bfloat16.type(1.5)]
TWO = ("add subtract multiply divide true_divide floor_divide mod remainder fmod power pow maximum minimum equal not_equal less less_equal "
       "greater greater_equal logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor left_shift right_shift "
       "arctan2 copysign nextafter").split()
#: These have an answer for all numbers.
COMPARISONS = "equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor".split()
#: Functions of an array and a number, NumPy's of the same name beside them where there is one.
CALLS = {
    **{name: (getattr(n, name), getattr(np, name)) for name in TWO},
    "clip": (lambda x, s: n.clip(x, -1, s), lambda x, s: np.clip(x, -1, s)),
    "clip of both": (lambda x, s: n.clip(x, s, s), lambda x, s: np.clip(x, s, s)),
    "where": (lambda x, s: n.where(True, x, s), lambda x, s: np.where(True, x, s)),
    "concatenate": (lambda x, s: n.concatenate([x, n.array([s], getattr(s, "dtype", None))]),
                    lambda x, s: np.concatenate([x, np.array([s], getattr(s, "dtype", None))])),
    "full_like": (n.full_like, np.full_like),
    "pad": (lambda x, s: n.pad(x, 1, constant_values=s), lambda x, s: np.pad(x, 1, constant_values=s)),
    "set_at": (lambda x, s: n.set_at(x, 0, s), None), "add_at": (lambda x, s: n.add_at(x, 0, s), None),
    "leaky_relu": (lambda x, s: F.leaky_relu(x, s), None), "elu": (lambda x, s: F.elu(x, s), None),
    "huber": (lambda x, s: ng.nn.losses.huber(x, x, delta=s), None),
}
OPERATORS = {"+": lambda x, s: x + s, "-": lambda x, s: x - s, "*": lambda x, s: x * s, "/": lambda x, s: x / s,
             "//": lambda x, s: x // s,
             "%": lambda x, s: x % s, "**": lambda x, s: x ** s, "<": lambda x, s: x < s, "==": lambda x, s: x == s,
             "&": lambda x, s: x & s}


def outcome(f, *args):
    try:
        with np.errstate(all="ignore"):
            return np.asarray(f(*args))
    except (NagraphError, TypeError, ValueError, OverflowError) as error:
        return error


def type_of(f, *args):
    """The type of f(*args) when it is traced."""
    return ng.trace(f, *args).output_types[0]


def beside(f, scalar, side):
    return (lambda x: f(x, scalar)) if side == "right" else (lambda x: f(scalar, x))


def array(dtype):
    return np.array([1, 0, 2, 1]).astype(dtype)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", CALLS)
def test_functions(name, side):
    ours, theirs = CALLS[name]
    if side == "left" and name not in TWO:
        return
    for dtype in DTYPES.values():
        x = array(dtype)
        for s in SCALARS:
            eager, traced = outcome(beside(ours, s, side), x), outcome(type_of, beside(ours, s, side), x)
            shown = f"{name} of {dtype} and {s!r} of {type(s).__name__}"
            assert isinstance(eager, Exception) == isinstance(traced, Exception), f"{shown}: eagerly {eager!r}, traced {traced!r}"
            if isinstance(eager, Exception):
                assert name not in COMPARISONS, f"{shown}: {eager}"
                continue
            assert eager.dtype == traced.item().dtype, f"{shown}: eagerly {eager.dtype}, traced {traced}"
            expected = None if theirs is None or ng.bfloat16 in (dtype, np.asarray(s).dtype) else outcome(beside(theirs, s, side), x)
            assert not isinstance(expected, Exception), f"{shown}: {eager!r}, where NumPy refuses: {expected}"
            if expected is not None:
                assert eager.dtype == expected.dtype, f"{shown}: {eager.dtype}, NumPy {expected.dtype}"
                np.testing.assert_allclose(eager, expected, rtol=1e-2 if eager.dtype == np.float16 else 1e-6, err_msg=shown)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_on_traced_values(name):
    """Python's operators on traced values give NumPy's dtypes; so do scalars that are arguments of the compiled function."""
    for dtype in DTYPES.values():
        if dtype == ng.bfloat16:
            continue
        x = array(dtype)
        for s in SCALARS[:-1]:
            for order in (lambda t, s: OPERATORS[name](t, s), lambda t, s: OPERATORS[name](s, t)):
                expected = outcome(order, x, s)
                known, unknown = outcome(type_of, beside(order, s, "right"), x), outcome(type_of, order, x, s)
                # NumPy squares bools as int8, of their other powers it depends on the exponent's dtype alone.
                for got in (known,) if name == "**" and dtype == np.bool_ and type(s) is int else (known, unknown):
                    if not isinstance(expected, Exception) and not isinstance(got, Exception):
                        shown = f"{dtype} {name} {s!r} of {type(s).__name__}"
                        assert got.item().dtype == expected.dtype, f"{shown}: {got}, not {expected.dtype}"
