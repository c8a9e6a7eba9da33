"""Errors and warnings about arguments, options and results: the argument by its name, what it is, and what to write instead."""

import pathlib
import re

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import NagraphError, SignatureError
from tests.support import caught, warned

X = np.arange(6, dtype=np.float32).reshape(2, 3)
V = np.arange(3, dtype=np.float32)
S = np.float32(2)
HERE = pathlib.Path(__file__).name


def test_arguments_that_do_not_fit_the_function():
    f = ng.jit(lambda x, y: x + y)
    for call in (lambda: f(V), lambda: f(V, V, V), lambda: f(V, V, z=1), lambda: f(V, x=V)):
        error = caught(call, SignatureError)
        assert re.search("missing|too many|unexpected|multiple", str(error)) and f"({HERE}:" in str(error)


@pytest.mark.parametrize("x,shown", [("text", "str"), (object(), "object"), (1j, "complex"), (np.array(["a"]), "U1|str"),
                                     (np.array([1j]), "complex"), (np.array([None]), "object"), ({1, 2}, "set"),
                                     (np.datetime64("2020"), "datetime"), (np.ma.array([1.0], mask=True), "MaskedArray")])
def test_arguments_that_are_no_arrays(x, shown):
    error = caught(lambda: ng.jit(lambda x: x)(x), SignatureError)
    assert "argument x" in str(error) and any(s in str(error) for s in shown.split("|"))


def test_an_argument_that_should_be_static_is_named():
    error = caught(lambda: ng.jit(lambda x, mode: x)(V, "fast"), SignatureError)
    assert "argument mode" in str(error) and "static_argnames" in str(error) and "'fast'" in str(error)


def test_a_static_argument_must_be_hashable():
    error = caught(lambda: ng.jit(lambda x, sizes: x, static_argnames="sizes")(V, [1, 2]), SignatureError)
    assert "hashable" in str(error) and "sizes=[1, 2]" in str(error)


@pytest.mark.parametrize("option", ["static_argnames", "donate_argnames", "constant_argnames"])
def test_unknown_names_of_arguments(option):
    def fn(model, batch):
        return batch

    with pytest.raises(SignatureError, match=r"fn has no argument 'modle'; it has model, batch"):
        ng.jit(fn, **{option: ("modle",)})


def test_unknown_backend_and_pass():
    with pytest.raises(SignatureError, match=r"unknown backend 'cuda9' \(did you mean cuda\?\); there is llvm, "):
        ng.jit(lambda x: x, backend="cuda9")(V)
    with pytest.raises(NagraphError, match="simplfy"):
        ng.jit(lambda x: x, passes="simplfy")(V)


def test_results_that_are_no_arrays():
    error = caught(lambda: ng.jit(lambda x: "text")(V), SignatureError)
    assert "str" in str(error)


@pytest.mark.parametrize("arrays,parts", [
    ((), ["2", "0"]), ((X,), ["2", "1"]), ((X, V, V), ["2", "3"]), ((X.astype(np.float64), V), ["f32[2,3]", "f64[2,3]"]),
    ((X.T, V), ["f32[2,3]", "f32[3,2]"]), ((X, V[:2]), ["f32[3]", "f32[2]"]), ((X, None), ["f32[3]"]),
])
def test_an_executable_takes_exactly_the_types_of_its_graph(arrays, parts):
    run = ng.compile(ng.trace(lambda x, y: x + y, X, V))
    with pytest.raises(SignatureError) as found:
        run(*arrays)
    for part in parts:
        assert part in str(found.value)


# -- warnings ---------------------------------------------------------------------------------------


def test_a_float64_scalar_that_widens_float32_is_told_once_a_line():
    def fn(x):
        return np.float64(2) * x

    line = fn.__code__.co_firstlineno + 1
    (message,) = warned(lambda: ng.jit(fn)(V))
    for part in ("float32", "float64 scalar", f"{HERE}:{line}", "float(scalar)", "np.float32(scalar)"):
        assert part in message
    assert warned(lambda: ng.jit(fn)(V)) == []
    assert ng.jit(fn)(V).dtype == np.float64

    def other(x):
        return x / np.sqrt(64)

    assert len(warned(lambda: ng.jit(other)(V))) == 1


@pytest.mark.parametrize("fn", [lambda x: 2.0 * x, lambda x: np.float32(2) * x, lambda x: np.ones(3) * x, lambda x: x * 2])
def test_no_warning_where_nothing_is_widened_behind_anyones_back(fn):
    assert warned(lambda: ng.jit(fn)(V)) == []


def test_large_arrays_that_are_captured_draw_a_warning():
    large, small = np.zeros((1 << 18) + 1, np.float32), np.zeros(1 << 18, np.float32)
    messages = warned(lambda: ng.jit(lambda x: x + large.sum() + (large * x).sum() + large[0])(S))
    (message,) = [m for m in messages if "captured" in m]
    for part in ("1.0 MB", "f32[262145]", "argument", f"{HERE}:"):
        assert part in message
    assert warned(lambda: ng.jit(lambda x: (small * x).sum())(S)) == []
    assert warned(lambda: ng.jit(lambda w, x: (w * x).sum(), constant_argnames="w")(large, S)) == []
    assert warned(lambda: ng.jit(lambda w, x: (w * x).sum())(large, S)) == []
