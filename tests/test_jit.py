"""jit: signatures, what explain says, constants, aliasing, threads and forks."""

import gc
import os
import re
import threading
import warnings
import weakref
from collections import namedtuple

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import SignatureError
from tests.support import CPU_BACKENDS, warned

Pair = namedtuple("Pair", "a b")
V = np.arange(3, dtype=np.float32)


# -- signatures -------------------------------------------------------------------------------------


def test_a_function_is_traced_once_for_each_shape_and_dtype():
    traced = []

    @ng.jit
    def f(x):
        traced.append((x.shape, x.dtype))
        return x * 2

    for x in (V, V + 1, V.astype(np.float64), np.ones((2, 2), np.float32), V):
        np.testing.assert_array_equal(f(x), x * 2)
        assert f(x).dtype == x.dtype
    assert traced == [((3,), np.float32), ((3,), np.float64), ((2, 2), np.float32)]
    assert f.cache_info() == (7, 3, 3)
    f.cache_clear()
    assert f.cache_info() == (0, 0, 0)
    f(V)
    assert f.cache_info() == (0, 1, 1)


def test_python_numbers_are_weak_and_share_a_signature_by_kind():
    f = ng.jit(lambda x, k: x * k)
    assert f(V, 2).dtype == f(V, 3).dtype == f(V, 2.5).dtype == np.float32
    assert f.cache_info().misses == 2
    assert f(V.astype(np.int32), 2).dtype == np.int32
    assert f(V.astype(np.int32), 2.0).dtype == np.float64
    assert f(V, True).dtype == np.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert f(V, np.float64(2)).dtype == np.float64
    with pytest.raises(OverflowError):
        f(V, 2**63)


def test_trees_and_names_of_arguments():
    @ng.jit
    def f(model, *rest, scale=1.0, **more):
        return {"y": model["w"] * scale + sum(rest), "more": Pair(more.get("z"), [model["b"]])}

    found = f({"w": V, "b": None}, V, V, scale=2.0, z=np.array(7))
    np.testing.assert_array_equal(found["y"], 4 * V)
    assert isinstance(found["more"], Pair) and found["more"].a == 7 and found["more"].b == [None]
    text = f.explain()
    for name in ("model.w: f32[3]", "rest[0]: f32[3]", "scale: Python float", "z: i64[]"):
        assert name in text


def test_positional_and_named_arguments_are_the_same_signature():
    f = ng.jit(lambda x, y=1: x - y)
    np.testing.assert_array_equal(f(V, V), f(y=V, x=V))
    np.testing.assert_array_equal(f(V), V - 1)
    assert f.cache_info().misses == 2


def test_static_arguments():
    @ng.jit(static_argnames=("axis", "mode"))
    def f(x, axis, mode="sum"):
        return getattr(np, mode)(x, axis=axis)

    x = np.ones((2, 3))
    np.testing.assert_array_equal(f(x, 0), [2, 2, 2])
    np.testing.assert_array_equal(f(x, axis=1), [3, 3])
    np.testing.assert_array_equal(f(x, 1, mode="sum"), [3, 3])
    np.testing.assert_array_equal(f(x, (0, 1), "mean"), 1)
    assert f.cache_info() == (1, 3, 3)
    g = ng.jit(lambda x, flag: x * 2 if flag else x, static_argnames="flag")
    assert g(1.0, True) == 2 and g(1.0, 1) == 2 and g.cache_info().size == 2
    assert ng.jit(lambda x, k: x / k[0], static_argnames="k")(1.0, (2,)) == 0.5
    h = ng.jit(lambda x, k: np.copysign(x, k[0]), static_argnames="k")
    assert [h(1.0, (0.0,)), h(1.0, (-0.0,)), h(1.0, (0,))] == [1, -1, 1]
    text = f.explain()
    assert "axis changed from 0 to 1" in text and "mode changed from 'sum' to 'mean'" in text


def test_methods_and_decorated_functions_keep_their_names():
    class Model:
        @ng.jit
        def twice(self, x):
            "Two times."
            return x * 2

    with pytest.raises(SignatureError, match="argument self: Model"):
        Model().twice(V)

    @ng.jit(passes="dce")
    def named(x):
        "Adds one."
        return x + 1

    assert named.__name__ == "named" and named.__doc__ == "Adds one." and Model.twice.__doc__ == "Two times."
    np.testing.assert_array_equal(named(V), V + 1)


def test_a_module_may_have_jitted_methods():
    class Double(ng.nn.Module):
        w: object

        @ng.jit
        def __call__(self, x):
            return x * self.w

    np.testing.assert_array_equal(Double(V)(V), V * V)


def test_results_that_are_arguments_constants_or_none():
    f = ng.jit(lambda x: (x, x, 1, V, None, 2.5, np.float32(1)))
    a, b, one, v, none, half, single = f(V)
    assert none is None and one == 1 and half == 2.5 and single.dtype == np.float32 and one.dtype == np.int64
    for y in (a, b, v):
        np.testing.assert_array_equal(y, V)
        assert not np.shares_memory(y, V) and y.flags.owndata and y.flags.writeable
    assert not np.shares_memory(a, b)


def test_functions_without_arguments_and_with_empty_arrays():
    np.testing.assert_array_equal(ng.jit(lambda: np.ones(2) * ng.numpy.arange(2))(), [0, 1])
    assert ng.jit(lambda x: x @ x.T)(np.ones((0, 3))).shape == (0, 0)
    assert ng.jit(lambda: ())() == ()


def test_lower_shows_the_graph_without_running():
    f = ng.jit(lambda x: np.tanh(x) * 2)
    lowered = f.lower(ng.spec((2, 3)))
    assert "tanh" in str(lowered) and lowered.graph.output_types == (ng.spec((2, 3)),)
    (y,) = lowered.executable(np.zeros((2, 3), np.float32))
    assert y.shape == (2, 3)
    with pytest.raises(SignatureError, match="runs on arrays"):
        f(ng.spec((2, 3)))


def test_passes_may_be_chosen():
    plain, full = ng.jit(lambda x: x * 1 + 0, passes="schedule,memory"), ng.jit(lambda x: x * 1 + 0)
    assert len(plain.lower(V).executable.graph.nodes) > len(full.lower(V).executable.graph.nodes)
    np.testing.assert_array_equal(plain(V), full(V))


# -- explain, and warnings of many signatures -------------------------------------------------------


def test_explain_says_which_argument_caused_what():
    @ng.jit
    def step(model, batch):
        return model["w"] * batch

    assert step.explain() == "step: 0 signatures, 0 hits, 0 misses"
    step({"w": V}, V)
    step({"w": V}, V)
    step({"w": V}, np.ones((2, 3), np.float32))
    step({"w": V}, np.ones((2, 3)))
    step({"w": V, "b": V}, np.ones((2, 3)))
    step({"w": V}, 2)
    text = step.explain()
    reasons = re.findall(r"^  \d+\. (.*)$", text, re.M)
    assert reasons[0] == "first call"
    assert reasons[1] == "batch changed from f32[3] to f32[2,3]"
    assert reasons[2] == "batch changed from f32[2,3] to f64[2,3]"
    assert "model" in reasons[3] and "b" in reasons[3]
    assert "batch changed from f64[2,3] to Python int" in reasons[4]
    assert text.startswith("step: 5 signatures, 1 hits, 5 misses")
    assert re.search(r"traced in \d+\.\d+ s, compiled in \d+\.\d+ s, 2 calls", text)


def test_the_eighth_signature_warns_once_and_names_the_argument():
    @ng.jit
    def score(weights, tokens):
        return weights * tokens.sum()

    for n in range(1, 8):
        assert warned(lambda n=n: score(V, np.ones(n, np.float32))) == []
    (message,) = warned(lambda: score(V, np.ones(8, np.float32)))
    for part in ("score was compiled for 8 signatures", "argument tokens keeps changing", "f32[1]", "test_jit.py:"):
        assert part in message
    assert "weights" not in message
    assert warned(lambda: score(V, np.ones(9, np.float32))) == []


def test_a_static_argument_that_keeps_changing_is_named():
    power = ng.jit(lambda x, n: x**n, static_argnames="n")
    messages = [m for n in range(9) for m in warned(lambda n=n: power(V, n))]
    assert len(messages) == 1 and "argument n keeps changing (0, 1, 2, 3, ...)" in messages[0]


# -- results, arguments in odd layouts --------------------------------------------------------------


def test_results_of_one_call_survive_the_next():
    f = ng.jit(lambda x: (x.reshape(-1), x.T, x[1:], x + 1, np.tanh(x) @ x.T, x))
    first = f(np.ones((2, 2)))
    kept = [y.copy() for y in first]
    second = f(np.zeros((2, 2)))
    for y, before, other in zip(first, kept, second):
        np.testing.assert_array_equal(y, before)
        assert not np.shares_memory(y, other)
        assert y.flags.owndata and y.flags.c_contiguous and y.flags.writeable


@pytest.mark.parametrize("layout", [
    lambda x: x.copy(order="F"), lambda x: np.repeat(x, 2, axis=1)[:, ::2], lambda x: x[::-1][::-1], lambda x: x.astype(">f8"),
    lambda x: x.astype("<f8"), lambda x: np.broadcast_to(x, x.shape),
    lambda x: np.ndarray(x.shape, x.dtype, b"odd" + x.tobytes(), 3),
])
def test_any_layout_of_arguments(layout):
    x = np.arange(6.0).reshape(2, 3)
    f = ng.jit(lambda x: np.exp(x) @ x.T + x.sum())
    expected = np.exp(x) @ x.T + x.sum()
    given = layout(x)
    before = bytes(np.asarray(given).tobytes())
    found = f(given)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert type(found) is np.ndarray and found.dtype == np.float64
    assert np.asarray(given).tobytes() == before
    np.testing.assert_array_equal(found, f(x), err_msg="no result depends on the layout")


def test_byte_swapped_arguments_of_an_executable():
    run = ng.compile(ng.trace(lambda x: x * 2, V))
    np.testing.assert_array_equal(run(V.astype(">f4"))[0], V * 2)
    np.testing.assert_array_equal(run(np.repeat(V, 2)[::2])[0], V * 2)


def test_captured_arrays_are_copied_once():
    table = np.arange(100.0)
    f = ng.jit(lambda x: x + table + ng.grad(lambda y: (y * table).sum())(x))
    before = f(np.zeros(100))
    table[:] = -1
    np.testing.assert_array_equal(f(np.zeros(100)), before)
    graph = ng.trace(lambda x: x + table + ng.grad(lambda y: (y * table).sum())(x), np.zeros(100))
    arrays = {id(node.op.array) for node in graph.nodes if node.op.name == "const" and node.op.array.size == 100}
    assert len(arrays) == 1


# -- constant arguments, bind -----------------------------------------------------------------------


def test_constant_arguments_are_bound_until_another_object_comes():
    traced = []

    def f(model, x):
        traced.append(1)
        return x @ model["w"] + model["b"]

    g = ng.jit(f, constant_argnames="model")
    x = np.ones((2, 3))
    model = {"w": np.ones((3, 20)), "b": np.zeros(20), "n": None}
    np.testing.assert_array_equal(g(model, x), np.full((2, 20), 3.0))
    model["w"][:] = 100  # bound: the executable has its own
    np.testing.assert_array_equal(g(model, x), np.full((2, 20), 3.0))
    assert len(traced) == 1
    other = {"w": np.full((3, 20), 2.0), "b": np.ones(20), "n": None}
    np.testing.assert_array_equal(g(other, x), np.full((2, 20), 7.0))
    assert len(traced) == 2 and "constant model is another object" in g.explain()
    assert g.cache_info().size == 1, "the earlier one is let go"


def test_objects_that_were_bound_are_let_go():
    g = ng.jit(lambda w, x: w * x, constant_argnames="w")
    w = np.ones(1000)
    seen = weakref.ref(w)
    g(w, 2.0)
    del w
    g(np.zeros(1000), 2.0)
    gc.collect()
    assert seen() is None


def test_constant_arguments_are_traced_values_like_others():
    table = np.arange(40.0).reshape(20, 2)
    g = ng.jit(lambda table, i: table[i], constant_argnames="table")
    np.testing.assert_array_equal(g(table, np.array([3, 1])), table[[3, 1]])


def test_bind():
    f = ng.jit(lambda w, b, x: w * x + b)
    g = f.bind(V, 1.0)
    np.testing.assert_array_equal(g(V), V * V + 1)
    np.testing.assert_array_equal(f.bind(V)(1.0, x=V), V * V + 1)
    assert f.cache_info().misses == 1


# -- jit inside of traces, threads, forks -----------------------------------------------------------


def test_jit_inside_of_jit_is_inlined():
    inner = ng.jit(lambda x: np.tanh(x))
    outer = ng.jit(lambda x: inner(x) * 2)
    np.testing.assert_allclose(outer(V), np.tanh(V) * 2, rtol=1e-6)
    assert inner.cache_info().size == 0 and "tanh" in str(outer.lower(V))


def in_threads(work, count=4):
    failures = []

    def guarded(k):
        try:
            work(k)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("threads", [0, -1, 2.0, "2", True, 1025, 10**30])
def test_a_number_of_threads_that_is_none(backend, threads):
    for make in (lambda: ng.jit(np.sin, backend=backend, threads=threads),
                 lambda: ng.compile(ng.trace(np.sin, np.ones(3)), backend=backend, threads=threads)):
        with pytest.raises(SignatureError, match=f"from 1 to 1024, or None for as many as there are cores; got {re.escape(repr(threads))}"):
            make()


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("threads", [None, 1, 3, np.int64(2)])
def test_a_number_of_threads(backend, threads):
    assert ng.jit(lambda x: x @ x, backend=backend, threads=threads)(np.full((64, 64), 2.0))[3, 4] == 256


def test_four_threads_call_one_function():
    rng = np.random.default_rng(0)
    w = rng.normal(size=(40, 40))
    f = ng.jit(lambda x: np.tanh(x @ w) @ w.T + np.exp(-x).cumsum(axis=1))
    inputs = [rng.normal(size=(30 + k % 2, 40)) for k in range(4)]
    expected = [np.tanh(x @ w) @ w.T + np.exp(-x).cumsum(axis=1) for x in inputs]
    start = threading.Barrier(4)

    def work(k):
        start.wait()
        for _ in range(50):
            np.testing.assert_allclose(f(inputs[k]), expected[k], rtol=1e-9)

    in_threads(work)
    assert f.cache_info() == (198, 2, 2)


def test_threads_trace_at_the_same_time_without_mixing():
    start = threading.Barrier(4)

    def work(k):
        start.wait()
        for n in range(5):
            f = ng.jit(ng.grad(lambda x, k=k, n=n: (x ** (k + 2) * n).sum()))
            np.testing.assert_allclose(f(np.full(3, 2.0)), np.full(3, (k + 2) * n * 2.0 ** (k + 1)))

    in_threads(work)


def test_donation_from_many_threads():
    f = ng.jit(lambda w: w + 1, donate_argnames="w")

    def work(k):
        w = np.full(1000, float(k))
        for _ in range(20):
            assert f(w) is w
        np.testing.assert_array_equal(w, np.full(1000, k + 20.0))

    in_threads(work)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_calls_and_compiles():
    f = ng.jit(lambda x: np.tanh(x) + 1)
    f(V)
    child = os.fork()
    if child == 0:
        try:
            right = np.allclose(f(V), np.tanh(V) + 1) and np.allclose(f(np.ones((5, 5))), np.tanh(1) + 1)
            os._exit(0 if right else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_allclose(f(V), np.tanh(V) + 1)


@pytest.mark.parametrize(("make", "name"), [
    (ng.jit, "jit"), (lambda f: ng.tune(f, V), "jit"), (lambda f: ng.trace(f, V), "trace"), (ng.grad, "grad"), (ng.vmap, "vmap"),
    (ng.value_and_grad, "value_and_grad"), (lambda f: ng.vjp(f, V), "vjp"), (lambda f: ng.jvp(f, (V,), (V,)), "jvp"),
    (lambda f: ng.hvp(f, V, V), "hvp"), (ng.jacobian, "jacobian"), (ng.hessian, "hessian"), (lambda f: ng.eval_shape(f, V), "eval_shape"),
    (ng.checkpoint, "checkpoint"), (ng.composite, "composite"), (ng.custom_vjp, "custom_vjp"),
    (lambda f: ng.custom_vjp(np.sin).defvjp(np.sin, f), "custom_vjp sin: defvjp"), (lambda f: ng.cond(True, np.sin, f, V), "cond"),
    (lambda f: ng.scan(f, V, V), "scan"), (lambda f: ng.while_loop(f, np.sin, V), "while_loop")])
@pytest.mark.parametrize("what", [3, np.ones(2), "tanh"], ids=type)
def test_what_is_no_function_is_refused(make, name, what):
    with pytest.raises(SignatureError, match=f"^{name}: a function is wanted, got {type(what).__name__}: "):
        make(what)
