"""The LLVM backend as a whole: every op, random graphs, loops and branches, donation, threads."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import nagraph as ng
from nagraph.backends import find
from nagraph.backends.llvm.executable import compile
from nagraph.ir.interpret import interpret
from nagraph.pipeline import Pipeline
from nagraph.plan import check
from nagraph.program.instructions import Decide, Loop, Phase
from nagraph.schedule.form import Tiles
from tests.graphs import arrays_for, graphs
from tests.ir.corpus import WITH_ATTRIBUTES
from tests.support import graph_of, own_ops

RNG = np.random.default_rng(0)
SAMPLES = [(op, i, operands) for op in [*(cls() for cls in own_ops().values() if not cls._fields()), *WITH_ATTRIBUTES]
           for i, operands in enumerate(op.samples(np.random.default_rng(0)))]


def assert_close(got, want, tolerance=None):
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.dtype.kind in "biu":
            np.testing.assert_array_equal(a, b)
            continue
        eps = tolerance or {2: 1e-2, 4: 2e-6, 8: 1e-14}[a.dtype.itemsize]
        wide = b.astype("f8")
        size = np.abs(wide[np.isfinite(wide)]).max(initial=1.0)
        np.testing.assert_allclose(a.astype("f8"), wide, rtol=eps, atol=eps * size)


@pytest.mark.parametrize("op, i, operands", SAMPLES, ids=[f"{op}/{i}" for op, i, _ in SAMPLES])
@pytest.mark.parametrize("dtype", [None, np.float32])
def test_every_op(op, i, operands, dtype):
    arrays = [np.asarray(o) for o in operands]
    if dtype is not None:
        arrays = [a.astype(dtype) if a.dtype == np.float64 else a for a in arrays]
    graph = graph_of(op, arrays)
    assert_close(compile(graph)(*arrays), interpret(graph, arrays))


def steadiness(graph, arrays, want):
    """Which elements of the results hardly change when the arguments change a little: not those next to a jump (floor, sign, ...)."""
    steady = [np.ones(b.shape, bool) for b in want]
    rng = np.random.default_rng(0)
    for _ in range(4):
        moved = [a * (1 + rng.uniform(-1e-6, 1e-6, a.shape)).astype(a.dtype) if a.dtype.kind == "f" else a for a in arrays]
        for s, a, b in zip(steady, interpret(graph, moved), want):
            s &= (a == b) if a.dtype.kind != "f" else np.isclose(a, b, rtol=1e-3, atol=1e-3, equal_nan=True)
    return steady


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs())
def test_random_graphs(graph):
    arrays = arrays_for(graph)
    want = interpret(graph, arrays)
    for passes in (find("llvm").pipeline, find("llvm").pipeline.replace("rematerialize", "rematerialize{min_nbytes=0}"), "cse,dce"):
        exe = compile(Pipeline.parse(passes)(graph))
        check(exe.plan)
        for _ in range(2):  # the second call finds what the first one left in the arena
            got = exe(*arrays)
            for a, b, steady in zip(got, want, steadiness(graph, arrays, want)):
                assert a.shape == b.shape
                assert_close([a[steady]], [b[steady]], 1e-4)


# -- control flow -----------------------------------------------------------------------------------------


def test_scan_is_a_loop_of_the_program():
    def fn(c, xs):
        return ng.scan(lambda c, x: (np.tanh(c + x), c * x), c, xs)

    c, xs = RNG.normal(size=(8,)), RNG.normal(size=(13, 8))
    graph = ng.trace(fn, c, xs)
    exe = compile(Pipeline.parse(find("llvm").pipeline)(graph))
    assert [i.iterations for i in exe.program.instructions if isinstance(i, Loop)] == [13]
    assert_close(exe(c, xs), interpret(graph, [c, xs]))


@pytest.mark.parametrize("start", [1.0, 900.0])
def test_while_loops_end_when_their_condition_says_so(start):
    f = ng.jit(lambda x: ng.while_loop(lambda c: c[0] < 1000, lambda c: (c[0] * 2, c[1] + 1), (x, np.int64(0))), backend="llvm")
    value, steps = f(np.array(start))
    assert value >= 1000 and value == start * 2**steps and steps == (10 if start == 1.0 else 1)


def test_cond_runs_one_branch():
    f = ng.jit(lambda p, x: ng.cond(p, lambda x: x + 1, lambda x: np.exp(x), x), backend="llvm")
    x = RNG.normal(size=(5,))
    np.testing.assert_array_equal(f(np.array(True), x), x + 1)
    np.testing.assert_allclose(f(np.array(False), x), np.exp(x), rtol=1e-14)
    exe = f.lower(np.array(True), x).executable
    assert any(isinstance(i, Decide) for i in exe.program.instructions)


# -- results and arguments --------------------------------------------------------------------------------


def test_donated_arrays_are_updated_in_place_and_others_left_alone():
    @ng.jit(backend="llvm", donate_argnames=("state",))
    def step(state, x):
        return {"m": state["m"] * 0.9 + x, "v": state["v"] + x * x}, (x * 2).sum()

    state = {"m": RNG.normal(size=(64, 3)), "v": np.ones((64, 3))}
    x = RNG.normal(size=(64, 3))
    kept, want = x.copy(), {"m": state["m"] * 0.9 + x, "v": state["v"] + x * x}
    given = {k: id(a) for k, a in state.items()}
    state, _ = step(state, x)
    assert {k: id(a) for k, a in state.items()} == given
    for k in want:
        np.testing.assert_allclose(state[k], want[k], rtol=1e-14)
    np.testing.assert_array_equal(x, kept)


def test_donated_arrays_can_change_places():
    @ng.jit(backend="llvm", donate_argnames=("a", "b"))
    def swap(a, b):
        return b, a, a + b

    a, b = np.arange(4.0), np.arange(4.0) + 10
    found = swap(a, b)
    np.testing.assert_array_equal(found[0], np.arange(4.0) + 10)
    np.testing.assert_array_equal(found[1], np.arange(4.0))
    np.testing.assert_array_equal(found[2], 2 * np.arange(4.0) + 10)


def test_results_never_alias():
    f = ng.jit(lambda x: (x, x, np.reshape(x, -1)), backend="llvm")
    x = RNG.normal(size=(3, 4))
    found = f(x)
    for i, a in enumerate(found):
        assert not any(np.shares_memory(a, b) for b in (x, *found[:i]))
        np.testing.assert_array_equal(a.reshape(x.shape), x)


def test_independent_kernels_share_a_phase():
    def fn(x, y):
        return np.cumsum(x, 0), np.cumsum(y, 0)

    graph = ng.trace(fn, ng.spec((8, 8), "f4"), ng.spec((9, 9), "f4"))
    phases = [i for i in compile(graph).program.instructions if isinstance(i, Phase)]
    assert [len(p.launches) for p in phases] == [2]


# -- threads ------------------------------------------------------------------------------------------------


def block(x, w, b):
    """A step with products, row-wise and column-wise kernels, large enough to be cut into many chunks."""
    def loss(w, b):
        h = np.tanh(x @ w + b)
        return (ng.nn.functional.softmax(h) * h).sum()

    return ng.value_and_grad(loss, argnums=(0, 1))(w, b)


BLOCK = [RNG.normal(size=s).astype("f4") for s in ((1024, 96), (96, 200), (200,))]


def test_any_number_of_threads_gives_the_same_bits():
    graph = ng.trace(block, *BLOCK)
    optimised = Pipeline.parse(find("llvm").pipeline)(graph)
    reference = compile(optimised, threads=1)(*BLOCK)
    assert_close(reference, interpret(graph, BLOCK), 1e-4)
    for threads in (2, 3, 5):
        exe = compile(optimised, threads=threads)
        for _ in range(3):
            for a, b in zip(exe(*BLOCK), reference):
                np.testing.assert_array_equal(a, b)


def test_calls_from_several_threads_at_once():
    exe = compile(Pipeline.parse(find("llvm").pipeline)(ng.trace(block, *BLOCK)), threads=2)
    want = exe(*BLOCK)
    wrong = []

    def call():
        for _ in range(8):
            if not all(np.array_equal(a, b) for a, b in zip(exe(*BLOCK), want)):
                wrong.append(1)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_workers_of_its_own():
    exe = compile(Pipeline.parse(find("llvm").pipeline)(ng.trace(block, *BLOCK)), threads=2)
    want = exe(*BLOCK)
    child = os.fork()
    if not child:
        same = all(np.array_equal(a, b) for a, b in zip(exe(*BLOCK), want))
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert all(np.array_equal(a, b) for a, b in zip(exe(*BLOCK), want))


def test_idle_workers_sleep():
    exe = compile(Pipeline.parse(find("llvm").pipeline)(ng.trace(block, *BLOCK)), threads=3)
    exe(*BLOCK)
    time.sleep(0.1)
    before, start = time.process_time(), time.perf_counter()
    time.sleep(0.5)
    used, passed = time.process_time() - before, time.perf_counter() - start
    assert used < 0.2 * passed


LONG = """
import os, signal, threading, time
import numpy as np, nagraph as ng
def endless(x):
    return ng.while_loop(lambda c: c[0] < 10**9, lambda c: (c[0] + 1, np.tanh(c[1] + 1)), (np.int64(0), x))
f = ng.jit(endless, backend="llvm", threads={threads})
short = ng.jit(lambda x: x + 1, backend="llvm", threads={threads})
x = np.ones(1000)
f.lower(x)
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    f(x)
except KeyboardInterrupt:
    print("interrupted", short(x)[0])
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_a_long_call_and_the_next_one_works(threads):
    done = subprocess.run([sys.executable, "-c", LONG.format(threads=threads)], capture_output=True, text=True, timeout=30)
    assert done.stdout == "interrupted 2.0\n", done.stderr


def test_the_interpreter_ends_while_workers_sleep():
    code = "import numpy as np, nagraph as ng; print(ng.jit(lambda x: x @ x, backend='llvm', threads=3)(np.eye(300)).sum())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("300.0\n", 0), done.stderr


# -- looking at it ------------------------------------------------------------------------------------------


def test_sources_show_every_kernel():
    exe = compile(Pipeline.parse(find("llvm").pipeline)(ng.trace(block, *BLOCK)))
    assert exe.source("kernel").count("kernel (") == len(set(map(str, exe.kernels)))
    assert exe.source("llvm").count("define void @k") == len(exe.program.functions)
    assert "ret" in exe.source("asm")


def test_programs_may_go_while_workers_are_still_on_their_way():
    """A worker that comes late finds the call closed, not the memory of a program that is gone."""
    for n in range(200):
        exe = compile(ng.trace(lambda x: np.tanh(x) + 1, ng.spec((64, 64 + n % 3), "f4")), threads=4)
        exe(np.zeros((64, 64 + n % 3), np.float32))
        del exe


def test_a_region_that_can_not_be_one_kernel_is_taken_apart():
    """A row sum is read from the next row: no number of rows makes one kernel of this region."""
    text = """graph @shifted(%x: f32[64,1024]) -> (f32[64]) {
  %0: f32[64] = call{label="sum_flip_add", kind="fused", body=@body}(%x)
  return %0
}
graph @body(%x: f32[64,1024]) -> (f32[64]) {
  %0: f32[64] = sum{axes=[1]}(%x)
  %1: f32[64] = flip{axes=[0]}(%0)
  %2: f32[64] = add(%0, %1)
  return %2
}"""
    graph = ng.parse(text)
    x = RNG.normal(size=(64, 1024)).astype("f4")
    exe = compile(graph)
    assert len(exe.launches) > 1
    np.testing.assert_allclose(exe(x)[0], x.sum(1) + x.sum(1)[::-1], rtol=1e-4, atol=1e-3)


def test_a_single_masked_element_is_loaded_from_where_an_integer_says():
    """65 elements of a row: whole vectors, then one element whose place in x is data."""
    def fn(x, i):
        y = np.pad(np.take(x, i, axis=1), ((0, 0), (4, 0)))
        return y / y.sum(axis=1, keepdims=True)

    x, i = RNG.uniform(1, 2, (16, 100)), RNG.integers(0, 100, 61)
    executable = ng.compile(ng.trace(fn, x, i), backend="llvm")
    assert len(executable.launches) == 1
    np.testing.assert_allclose(executable(x, i)[0], fn(x, i), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i2", "u1"])
@pytest.mark.parametrize("shape", [(3, 17, 33), (2, 40, 8), (1, 9, 100)])
def test_maps_that_write_along_another_axis_than_they_read_go_square_by_square(shape, dtype):
    def fn(x, y):
        turned = x.transpose(0, 2, 1)
        return np.pad(turned, ((0, 0), (1, 2), (3, 0))), turned + y

    x, y = (RNG.integers(0, 100, s).astype(dtype) for s in (shape, (shape[0], shape[2], shape[1])))
    executable = ng.compile(ng.trace(fn, x, y), backend="llvm", passes="dce")
    assert sum(isinstance(x.function.schedule.units, Tiles) for x in executable.launches) == (2 if min(shape[1:]) >= 8 else 0)
    for found, expected in zip(executable(x, y), fn(x, y), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("follow", [lambda y, b: y, lambda y, b: np.tanh(y + b), lambda y, b: (y * b).sum(axis=-1)])
def test_a_product_may_have_rows_longer_than_a_cache(rows, follow):
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((rows, 4), (4, 100003), (100003,)))
    found = ng.jit(lambda x, w, b: follow(x @ w, b))(x, w, b)
    expected = follow(x.astype("f8") @ w, b.astype("f8"))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
