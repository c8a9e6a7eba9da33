"""The retreat: whatever fails inside the compiler, the program runs, with a warning and a file to report; strict runs raise."""

import warnings

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends import find
from nagraph.compiler import retreat
from nagraph.errors import InternalError, PassError, RetreatWarning
from nagraph.ir.op import op
from nagraph.kernel.context import NotRowLocal
from nagraph.ops.base import Elementwise
from nagraph.pipeline import Pipeline, load, pass_names
from nagraph.regions.scans import Scan
from tests.support import forget_kernels

X = np.linspace(-1, 1, 12, dtype="f").reshape(3, 4)


def program(x):
    y = np.tanh(x) * 2 + np.exp(x)
    y = y / y.sum(-1, keepdims=True)
    last, rows = ng.scan(lambda c, r: (np.tanh(c + r) * 2, np.exp(c) + r), y[0], y)
    return np.where(x > 0, rows, y @ y.T @ y + last)


EXPECTED = ng.jit(program, backend="numpy")(X)


@pytest.fixture(autouse=True)
def lenient(monkeypatch, tmp_path):
    monkeypatch.setenv("NAGRAPH_STRICT", "0")
    monkeypatch.setenv("NAGRAPH_CACHE", "off")
    monkeypatch.setattr("nagraph.compiler.retreat.tempfile.tempdir", str(tmp_path))
    forget_kernels(monkeypatch)


def broken(*_, **__):
    raise IndexError("a fault of nagraph")


def check(tmp_path, words="", **options):
    """The program is right all the same; one warning names one file, from which the graph can be read again."""
    with pytest.warns(RetreatWarning) as seen:
        got = ng.jit(program, **options)(X)
    np.testing.assert_allclose(got, EXPECTED, rtol=2e-5, atol=1e-6)
    (warning,), (file,) = seen, tmp_path.iterdir()
    assert str(file) in str(warning.message) and words in str(warning.message) and "a fault of nagraph" in str(warning.message)
    text = file.read_text()
    assert "IndexError: a fault of nagraph" in text and "pipeline: " in text and file.suffix == ".ng"
    np.testing.assert_allclose(ng.compile(ng.parse(text), backend="numpy")(X)[0], EXPECTED, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("name", [n for n in pass_names() if n in find("llvm").pipeline])
def test_a_pass_that_fails_is_left_out(name, backend, monkeypatch, tmp_path):
    made = load(name)
    if isinstance(made, type):
        monkeypatch.setattr(made, "__call__", broken)
    else:
        def failing(graph):
            raise IndexError("a fault of nagraph")

        failing.pass_name, failing.__module__ = name, made.__module__
        monkeypatch.setattr(f"nagraph.passes.{name}.{name}", failing)
    check(tmp_path, f"the pass {name}", backend=backend, passes=find("llvm").pipeline)


@pytest.mark.parametrize("what", [
    f"nagraph.plan.kernel_planner.{name}" for name in ("KernelPlanner._in_place", "placements", "storage_orders")
])
def test_what_no_attempt_mends_is_an_error_with_a_file(what, monkeypatch, tmp_path):
    monkeypatch.setattr(what, broken)
    with pytest.raises(InternalError, match=str(tmp_path)), warnings.catch_warnings():
        warnings.simplefilter("error")
        ng.jit(program)(X)


@pytest.mark.parametrize("what", ["lower", "emit"])
def test_a_region_that_fails_is_taken_apart_alone(what, monkeypatch, tmp_path):
    """Lowering, and the writing of code, fail for kernels of more than one output or op; the first of them is the culprit alone."""
    from nagraph.backends.llvm.program import functions
    from nagraph.plan import kernel_planner

    if what == "lower":
        good = kernel_planner.lower_kernel

        def lower(graph, *args, **kwargs):
            return broken() if any(n.op.name == "exp" for n in graph.nodes) and len(graph.nodes) > 2 else good(graph, *args, **kwargs)

        monkeypatch.setattr(kernel_planner, "lower_kernel", lower)
    else:
        good_emit = functions.emit

        def emit(module, kernel, name, schedule):
            return broken() if "exp(" in str(kernel) and "tanh(" in str(kernel) else good_emit(module, kernel, name, schedule)

        monkeypatch.setattr(functions, "emit", emit)
    check(tmp_path, "taken apart")


def test_all_regions_are_taken_apart_inside_loops_as_well(monkeypatch, tmp_path):
    from nagraph.plan import kernel_planner

    good = kernel_planner.lower_kernel

    def lower(graph, *args, **kwargs):
        return broken() if sum(n.op.name not in ("const", "iota") for n in graph.nodes) > 1 else good(graph, *args, **kwargs)

    monkeypatch.setattr(kernel_planner, "lower_kernel", lower)
    check(tmp_path, "all fused regions")
    after = retreat.apart(Pipeline.parse(find("llvm").pipeline)(ng.trace(program, X)))
    inside = [n for g in (after, *(n.op.body for n in after.nodes if isinstance(n.op, Scan))) for n in g.nodes]
    assert inside and not any(getattr(n.op, "kind", "") == "fused" for n in inside)


def test_strict_runs_raise(monkeypatch, tmp_path):
    from nagraph.plan import kernel_planner

    monkeypatch.setenv("NAGRAPH_STRICT", "1")
    monkeypatch.setattr(kernel_planner, "lower_kernel", broken)
    with pytest.raises(IndexError, match="a fault of nagraph"):
        ng.jit(program)(X)
    assert not list(tmp_path.iterdir())


def test_a_kernel_that_can_not_be_is_no_fault(monkeypatch, tmp_path):
    """NotRowLocal is how lowering says no: the region is cut, without a word."""
    from nagraph.plan import kernel_planner

    good = kernel_planner.lower_kernel

    def lower(graph, *args, **kwargs):
        if len(graph.nodes) > 3:
            raise NotRowLocal("for this test")
        return good(graph, *args, **kwargs)

    monkeypatch.setattr(kernel_planner, "lower_kernel", lower)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(ng.jit(program)(X), EXPECTED, rtol=2e-5, atol=1e-6)


# -- what is the user's ----------------------------------------------------------------------------------------------------------


def users_pass(graph):
    raise KeyError("mine")


def test_a_pass_of_the_user_fails_as_before(tmp_path):
    with pytest.raises(PassError, match="mine"):
        ng.jit(program, passes=Pipeline(users_pass))(X)
    with pytest.raises(PassError, match="unknown pass"):
        ng.jit(program, passes="dcee")(X)
    assert not list(tmp_path.iterdir())


def test_what_an_op_of_the_user_raises_is_no_fault_of_compiling(tmp_path):
    @op
    class Halved(Elementwise):
        """Half of it, of small numbers."""

        def reference(self, x):
            if x.max() > 100:
                raise ValueError("too large to be halved")
            return x / 2

    halved = ng.jit(lambda x: Halved()(x))
    np.testing.assert_array_equal(halved(X), X / 2)
    with pytest.raises(ValueError, match="too large to be halved"):
        halved(X + 1000)
    assert not list(tmp_path.iterdir())


def test_schedules_that_were_given_are_reported_and_left_out(monkeypatch, tmp_path):
    """What is taken apart has other kernels, to which no schedule that was given belongs."""
    from nagraph.backends.llvm.program import functions

    graph = ng.trace(program, X)
    made = ng.compile(graph)
    name, schedule = next((n, s) for n, s in made.schedules.items() if n.startswith("tanh-multiply-exp"))
    good_emit = functions.emit

    def emit(module, kernel, symbol, schedule):
        return broken() if "exp(" in str(kernel) and "tanh(" in str(kernel) else good_emit(module, kernel, symbol, schedule)

    forget_kernels(monkeypatch)
    monkeypatch.setattr(functions, "emit", emit)
    with pytest.warns(RetreatWarning, match="taken apart"):
        found = ng.compile(graph, schedules={name: schedule})
    np.testing.assert_allclose(found(X)[0], EXPECTED, rtol=2e-5, atol=1e-6)
    assert name not in found.schedules
    (file,) = tmp_path.iterdir()
    assert f"// {name} schedule {{" in file.read_text()
