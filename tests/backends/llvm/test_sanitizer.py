"""Sanitized executables: right programs give their results, and whatever touches memory that is not its own is named."""

import dataclasses

import numpy as np
import pytest

import nagraph as ng
from nagraph import sanitizing
from nagraph.backends.llvm.calls.sanitizer import Guarded, GuardedCalls
from nagraph.errors import SanitizerError
from nagraph.kernel.form import Load, Read
from nagraph.nn import functional as F
from nagraph.program import lowering

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def sanitize(monkeypatch):
    monkeypatch.setenv("NAGRAPH_SANITIZE", "1")


@pytest.fixture
def spoil(monkeypatch):
    """Has the kernels that are launched from now on changed by a function."""
    def use(change):
        launch = lowering._PlanLowering._launch
        monkeypatch.setattr(lowering._PlanLowering, "_launch",
                            lambda self, kernel, *rest: launch(self, change(kernel), *rest))
    return use


def block(x, w, v):
    h = F.softmax(np.tanh(x @ w) + 1)
    return h @ v, h.sum(axis=0), np.argmax(x, axis=1)


ARRAYS = [RNG.normal(size=s).astype("f4") for s in ((33, 20), (20, 40), (40, 7))]


def test_right_programs_give_what_they_give():
    run = ng.jit(block)
    assert isinstance(run.lower(*ARRAYS).executable.calls, GuardedCalls)
    for _ in range(2):
        for got, expected in zip(run(*ARRAYS), block(*(a.astype("f8") for a in ARRAYS))):
            np.testing.assert_allclose(got, expected, rtol=1e-4)
    unspoiled = [a.copy() for a in ARRAYS]
    run(*ARRAYS)
    assert all((a == b).all() for a, b in zip(ARRAYS, unspoiled))


def test_loops_branches_donated_arrays_and_constants():
    table = RNG.normal(size=(9, 5)).astype("f4")

    def step(x, n):
        y, ys = ng.scan(lambda c, i: (c * 0.5 + ng.numpy.take(table, i, axis=0), c.sum()), x, np.arange(6))
        z = ng.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2), (n, y))[1]
        return ng.cond(n > 1, lambda v: v + 1, lambda v: v - 1, z), ys

    plain = [np.asarray(a) for a in ng.jit(step, backend="numpy")(np.ones(5, "f4"), np.int32(0))]
    run = ng.jit(step, donate_argnames="x")
    for _ in range(3):
        x = np.ones(5, "f4")
        y, ys = run(x, np.int32(0))
        np.testing.assert_allclose(y, plain[0], rtol=1e-6)
        np.testing.assert_allclose(ys, plain[1], rtol=1e-6)
        assert y is x


def moved(kernel, by, what):
    """The kernel with the stores, or the reads, of its stages elsewhere."""
    def move(i):
        return dataclasses.replace(i, index=i.index._replace(offset=i.index.offset + by))

    stages = []
    for s in kernel.stages:
        if what == "stores":
            s = dataclasses.replace(s, stores=tuple(map(move, s.stores)))
        else:
            s = dataclasses.replace(s, body=tuple(move(i) if isinstance(i, Load if what == "loads" else Read) else i for i in s.body))
        stages.append(s)
    return dataclasses.replace(kernel, stages=tuple(stages))


@pytest.mark.parametrize("by, where", [(1, "behind"), (-1, "before"), (40, "behind"), (-40, "before")])
def test_a_store_beyond_a_result_names_it_and_its_kernel(spoil, by, where):
    spoil(lambda kernel: moved(kernel, by, "stores"))
    with pytest.raises(SanitizerError, match=rf"memory {where} output 0 of .*float32\[33, 7\], written by .* was written"):
        ng.jit(lambda x: np.exp(x) * 2)(RNG.normal(size=(33, 7)).astype("f4"))


@pytest.mark.parametrize("by, where", [(1, "behind"), (-1, "before")])
def test_a_store_beyond_a_buffer_of_the_arena_names_it(spoil, by, where):
    spoil(lambda kernel: moved(kernel, by, "stores") if "tanh" in str(kernel) else kernel)
    with pytest.raises(SanitizerError, match=rf"memory {where} a buffer of .* was written: %\d+: f32\[33,20\], written by .*tanh"):
        ng.jit(lambda x, w: np.tanh(x).sum(axis=0) + w.sum())(*ARRAYS[:2])


@pytest.mark.parametrize("by", [1, -1, 30])
def test_a_load_beyond_an_argument_is_seen(spoil, by):
    spoil(lambda kernel: moved(kernel, by, "loads"))
    with pytest.raises(SanitizerError, match="was never written, or follows from memory that was never written"):
        ng.jit(lambda x: x * 2 + 1)(RNG.normal(size=(33, 7)).astype("f4"))


def test_an_element_that_nobody_stores_is_named(spoil):
    spoil(lambda kernel: dataclasses.replace(kernel, axes=(kernel.axes[0] - 1, *kernel.axes[1:])))
    for dtype in ("f4", "f8", "i4", "i8", "f2"):
        with pytest.raises(SanitizerError, match=r"its element \(36,\) was never written"):
            ng.jit(lambda x: x * 2)(np.ones(37, dtype))


def test_a_tile_that_no_stage_has_written_is_seen(spoil):
    def without_a_fold(kernel):
        first, *others = kernel.stages
        return dataclasses.replace(kernel, stages=(dataclasses.replace(first, writes=()), *others))

    spoil(without_a_fold)
    with pytest.raises(SanitizerError, match="was never written, or follows from"):
        ng.jit(lambda x: (lambda e: e / e.sum(-1, keepdims=True) + e)(np.exp(np.tanh(x))))(RNG.normal(size=(5, 100)).astype("f4"))


def test_arguments_are_watched_on_both_sides():
    guarded = Guarded(np.arange(5.0))
    guarded.check("it")
    for zone in guarded._zones:
        zone[0] = 7
    with pytest.raises(SanitizerError, match="memory before it was written"):
        guarded.check("it")


@pytest.mark.parametrize("value, expected", [("1", True), ("0", False), ("", False), ("off", False), ("on", True)])
def test_the_environment_turns_it_on(monkeypatch, value, expected):
    monkeypatch.setenv("NAGRAPH_SANITIZE", value)
    assert sanitizing.is_on() is expected
    executable = ng.jit(lambda x: x + 1).lower(np.ones(3)).executable
    assert isinstance(executable.calls, GuardedCalls) is expected
    monkeypatch.delenv("NAGRAPH_SANITIZE")
    assert not sanitizing.is_on()
