"""An axis means what it means to NumPy, in every function that takes one: in arrays of rank 0 to 3, whatever is given as axis.

Where NumPy refuses, a function refuses with an error of ours, eagerly and traced; nothing else reaches the user.
"""

import inspect

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import NagraphError
from tests.consistency.ways import outcome

n = ng.numpy
AXES = [None, 0, -1, 1, -2, 2, -3, 3, (), (0,), (-1,), (0, 0), (0, 1), (1, 0), (0, -1), np.int64(-1), np.array(0), "first"]
ARRAYS = [np.array(2.5), np.array([2.5, -1.0]), np.arange(6.0)[::-1].reshape(2, 3), np.arange(4.0).reshape(1, 4, 1)]

REDUCTIONS = "all amax amin any max mean min prod std sum var argmax argmin".split()
CALLS = {
    **dict.fromkeys([*REDUCTIONS, *"cumprod cumsum expand_dims flip sort argsort squeeze linalg.norm".split()],
                    lambda f, x, a: f(x, axis=a)),
    **{f"{name} keeping axes": lambda f, x, a: f(x, axis=a, keepdims=True) for name in (*REDUCTIONS, "linalg.norm")},
    **dict.fromkeys("concat concatenate stack".split(), lambda f, x, a: f([x, x], axis=a)),
    **dict.fromkeys("split array_split".split(), lambda f, x, a: f(x, 1, axis=a)),
    **dict.fromkeys("repeat roll".split(), lambda f, x, a: f(x, 2, axis=a)),
    "roll by several": lambda f, x, a: f(x, (1, 2), axis=a), "take": lambda f, x, a: f(x, 0, axis=a),
    "take of several": lambda f, x, a: f(x, np.array([[0, 0]]), axis=a),
    "take_along_axis": lambda f, x, a: f(x, np.zeros((1,) * x.ndim, int), axis=a),
    "take_along_axis of one": lambda f, x, a: f(x, np.array([0]), axis=a),
    **dict.fromkeys("swapaxes moveaxis".split(), lambda f, x, a: f(x, a, 0 if type(a) is int else a)),
    **dict.fromkeys("diagonal trace".split(), lambda f, x, a: f(x, 0, a, 0)),
    **dict.fromkeys("transpose permute_dims".split(), lambda f, x, a: f(x, a)),
    "linalg.norm of order 1": lambda f, x, a: f(x, 1, axis=a),
    "hstack": lambda f, x, a: f([x, x]), "vstack": lambda f, x, a: f([x, x]),
    "tensordot": lambda f, x, a: f(x, x, (0, 0) if isinstance(a, np.ndarray) else (a, a)),
}
#: NumPy has none of that name; they take their axes as cumsum does.
OTHERS = {"cummax", "cummin"}


def named(module, name):
    for part in name.partition(" ")[0].split("."):
        module = getattr(module, part)
    return module


def types_of(call, function, x, axis):
    """The types of the results where the call is traced."""
    def traced(x):
        found = call(function, x, axis)
        return tuple(found) if isinstance(found, list) else found

    return ng.trace(traced, x).output_types


def test_every_function_with_an_axis_is_here():
    for name in dir(n):
        function = getattr(n, name)
        if inspect.isfunction(function) and name[0] != "_" and any("axi" in p for p in inspect.signature(function).parameters):
            assert name in CALLS or name in OTHERS, name


@pytest.mark.parametrize("name", CALLS)
def test_an_axis_is_numpys(name):
    ours, theirs = named(n, name), named(np, name)
    for x in ARRAYS:
        for axis in AXES:
            what = f"{name} of {x.shape}, axis {axis!r}"
            expected = outcome(CALLS[name], theirs, x, axis)
            got = outcome(CALLS[name], ours, x, axis)
            types = outcome(types_of, CALLS[name], ours, x, axis)
            if isinstance(expected, Exception):
                if name == "roll" and type(axis) is tuple and not axis and not x.ndim:  # of more axes NumPy gives the array
                    continue
                assert isinstance(got, NagraphError) and isinstance(types, NagraphError), f"{what}: {got!r}, traced {types!r}"
                continue
            assert not isinstance(got, Exception) and not isinstance(types, Exception), f"{what}: {got!r}, traced {types!r}"
            assert [(a.dtype, a.shape) for a in got] == [(t.item().dtype, t.item().shape) for t in types], what
            for a, b in zip(got, expected, strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape), what
                np.testing.assert_allclose(a, b, rtol=1e-12, err_msg=what)
