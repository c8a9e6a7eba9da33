"""Executables and jitted functions of sizes that are known at a call: one trace, what is compiled, what is kept, and what is refused."""

import re
import warnings

import numpy as np
import pytest

import nagraph as ng
from nagraph.compiler import any_size, jitted
from nagraph.errors import SignatureError, SizeError
from nagraph.ir.graph import Graph

B, N = ng.Dim("b", max=64), ng.Dim("n", min=2)


def array(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("f4")


def mean(x, w):
    return np.tanh(x @ w).mean(axis=0) / x.shape[1]


@pytest.fixture
def traces(monkeypatch):
    """How many graphs were traced, and specialised."""
    counts = {"traced": 0, "specialised": 0}
    traced, specialised = jitted.trace_leaves, Graph.specialise

    def trace(*args, **kwargs):
        counts["traced"] += 1
        return traced(*args, **kwargs)

    def specialise(graph, sizes):
        counts["specialised"] += 1
        return specialised(graph, sizes)

    monkeypatch.setattr(jitted, "trace_leaves", trace)
    monkeypatch.setattr(Graph, "specialise", specialise)
    return counts


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_one_graph_runs_on_arrays_of_all_sizes(backend):
    graph = ng.trace(mean, ng.spec((B, N)), ng.spec((N, 3)))
    run = ng.compile(graph, backend=backend)
    assert isinstance(run, ng.Executable) and run.graph is graph
    for b, n in ((4, 3), (1, 2), (64, 5), (4, 3)):
        x, w = array(b, n), array(n, 3)
        known = ng.compile(ng.trace(mean, ng.spec(x.shape), ng.spec(w.shape)), backend=backend)
        assert run(x, w)[0].tobytes() == known(x, w)[0].tobytes()
    assert run.compilations == 3
    assert run.explain().splitlines() == [
        "mean: one trace for all sizes (b from 1 to 64, n from 2), compiled for 3 sets of them, 3 times",
        "  b = 1, n = 2", "  b = 64, n = 5", "  b = 4, n = 3"]
    assert run.at({"b": 4, "n": 3}).graph.dims == () and run.compilations == 3


def test_the_sizes_used_longest_ago_are_let_go(monkeypatch):
    monkeypatch.setattr(any_size, "MOST_KEPT", 2)
    run = ng.compile(ng.trace(np.tanh, ng.spec((N,))), backend="numpy")
    for n in (2, 3, 2, 4, 2, 3):
        run(array(n))
    assert run.compilations == 4 and run.explain().splitlines()[1:] == ["  n = 2", "  n = 3"]


@pytest.mark.parametrize(("arrays", "message"), [
    ([array(3, 4)], "mean takes 2 arrays, got 1"),
    ([array(3, 4), array(5, 3)], r"mean: input w, axis 0 has the size 5, and should have n = 4 with n = 4"),
    ([array(65, 4), array(4, 3)], "mean: input x, axis 0 has the size 65, and should have b with b from 1 to 64"),
    ([array(3, 1), array(1, 3)], "mean: input x, axis 1 has the size 1, and should have n with n from 2"),
    ([array(3, 4), array(4, 2)], r"mean: input w, axis 1 has the size 2, and should have 3"),
    ([array(3), array(4, 3)], r"mean: input x is f32\[b,n\], got an array of shape \[3\]"),
    ([array(3, 4).astype("f8"), array(4, 3)], r"mean: input x is f32\[3,4\], got f64\[3,4\]"),
])
def test_arrays_that_do_not_fit_are_refused(arrays, message):
    run = ng.compile(ng.trace(mean, ng.spec((B, N)), ng.spec((N, 3))), backend="numpy")
    with pytest.raises(SignatureError, match=message):
        run(*arrays)


def test_what_depends_on_sizes_is_asked_of_them():
    run = ng.compile(ng.trace(np.tanh, ng.spec((N,))))
    for ask in (lambda: run.plan, lambda: run.memory, lambda: run.source(), lambda: run.schedules, lambda: run.profile(array(3))):
        with pytest.raises(SignatureError, match=r"for each set of sizes: ask it of exe.at\(\{\.\.\.\}\), which takes the sizes of n"):
            ask()
    assert run.at({"n": 3}).plan is not None
    with pytest.raises(SizeError, match="the sizes of all dimensions are needed, and n from 2 are missing"):
        run.at({})


# -- jit -----------------------------------------------------------------------------------------------


def test_a_function_is_traced_once_for_all_sizes(traces):
    run, plain = ng.jit(mean, dynamic_shapes={"x": (B, N), "w": {0: N}}), ng.jit(mean)
    for b, n in ((4, 3), (2, 5), (1, 2), (4, 3)):
        x, w = array(b, n), array(n, 3)
        assert run(x, w).tobytes() == plain(x, w).tobytes()
    assert traces == {"traced": 1 + 3, "specialised": 3} and run.cache_info().size == 3
    text = run.explain()
    assert re.search(r"traced once for all sizes of b from 1 to 64, n from 2, in \d\.\d+ s; the last 32 sizes stay compiled", text)
    assert text.count("specialised in") == 3 and "x changed from f32[4,3] to f32[2,5]" in text
    assert run.lower(array(7, 3), array(3, 3)).graph.dims == (B, N) and traces["traced"] == 4
    run(array(4, 3), np.zeros((3, 4), "f4"))
    assert traces["traced"] == 5, "what is not dynamic is part of the trace"


def test_calls_like_one_before_go_the_fast_path():
    run = ng.jit(lambda x: np.tanh(x), dynamic_shapes={"x": {0: N}})
    for n in (3, 4, 3, 4, 3):
        run(array(n))
    assert len(run.fast_paths) == 2 and run.cache_info()[:2] == (3, 2)


def test_sizes_used_longest_ago_are_forgotten(monkeypatch, traces):
    monkeypatch.setattr(jitted, "MOST_KEPT", 3)
    run = ng.jit(lambda x: x * x.shape[0], dynamic_shapes={"x": {0: N}}, backend="numpy")
    for n in (2, 3, 4, 2, 5, 2, 6):
        assert np.array_equal(run(np.ones(n)), np.full(n, n))
    assert run.cache_info().size == 3 and traces == {"traced": 1, "specialised": 5}
    assert {e.sizes["n"] for e in run._entries.values()} == {2, 5, 6}


def test_leaves_are_named_with_or_without_what_holds_them():
    def total(batch, w):
        return (batch["x"] @ w).sum() + batch["y"][0].mean()

    batch = {"x": array(4, 3), "y": [array(4), array(3)]}
    run = ng.jit(total, dynamic_shapes={"batch": {0: B}, "batch.y.1": {}})
    assert np.allclose(run(batch, array(3, 2)), total(batch, array(3, 2)))
    assert run.lower(batch, array(3, 2)).graph.input_types == (ng.spec((B, 3)), ng.spec((B,)), ng.spec((3,)), ng.spec((3, 2)))
    many = ng.jit(lambda *xs: xs[0] + xs[1], dynamic_shapes={"xs": (B,)})
    assert np.array_equal(many(np.ones(3), np.ones(3)), np.full(3, 2.0))


def test_donated_static_and_constant_arguments_stay_what_they_are(traces):
    table = array(8, 3)
    run = ng.jit(lambda state, x, k, table: (state + x * k, (x @ table[:3].T).sum()), dynamic_shapes={"state": {0: B}, "x": {0: B}},
                 donate_argnames="state", static_argnames="k", constant_argnames="table")
    for b in (2, 5, 2):
        state = np.zeros((b, 3), "f4")
        found, _ = run(state, np.ones((b, 3), "f4"), 2, table)
        assert found is state and np.array_equal(found, np.full((b, 3), 2)), "written in place"
    assert traces["traced"] == 1
    run(np.zeros((2, 3), "f4"), np.ones((2, 3), "f4"), 3, table)
    run(np.zeros((2, 3), "f4"), np.ones((2, 3), "f4"), 3, table.copy())
    assert traces["traced"] == 3


def test_gradients_and_randomness_of_all_sizes():
    def loss(w, x, key):
        return ((x @ w) * ng.random.bernoulli(key, 0.5, x.shape[:1])[:, None]).mean()

    run = ng.jit(ng.value_and_grad(loss), dynamic_shapes={"x": {0: B}})
    for b in (3, 7):
        args = array(4, 2), array(b, 4), ng.random.key(b)
        for found, known in zip(run(*args), ng.jit(ng.value_and_grad(loss))(*args)):
            assert np.array_equal(found, known)


def test_many_sizes_are_no_reason_to_warn():
    run = ng.jit(lambda x: x + 1, dynamic_shapes={"x": {0: N}}, backend="numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(2, 2 + 2 * jitted.MANY_SIGNATURES):
            run(np.ones(n))


@pytest.mark.parametrize(("shapes", "call", "error", "message"), [
    ("x", None, SignatureError, "dynamic_shapes is a dict from names of arguments to their axes"),
    ({"x": 3}, None, SignatureError, "dynamic_shapes gives 'x' a dict from axes to dimensions, or a tuple"),
    ({"x": {0: 3}}, None, SignatureError, "dynamic_shapes gives 'x' a dict from axes to dimensions"),
    ({"z": {0: N}}, (array(3), array(3)), SignatureError, "dynamic_shapes names z, and the call has x, y"),
    ({"x": {1: N}}, (array(3), array(3)), SignatureError, r"dynamic_shapes names axis 1 of x, and x is f32\[3\]"),
    ({"x": {0: N}}, (array(3), array(3)), SizeError, r"add: .* sizes n and 3 are equal .*argument the size 3 \(test_dynamic_shapes.py"),
    ({"x": {0: N}, "y": {0: N}}, (array(3), array(4)), SignatureError, "y, axis 0 has the size 4, and should have n = 3 with n = 3"),
    ({"x": {0: N}, "y": {0: N}}, (array(1), array(1)), SignatureError, "x, axis 0 has the size 1, and should have n with n from 2"),
])
def test_shapes_that_do_not_fit_are_refused(shapes, call, error, message):
    with pytest.raises(error, match=message):
        ng.jit(lambda x, y: x + y, dynamic_shapes=shapes)(*call)
