"""Ops that have only a NumPy reference, in compiled programs: Python computes them between kernels."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import traceback
import warnings
import weakref

import numpy as np
import pytest

import nagraph as ng
from nagraph import choices
from nagraph.backends import cache
from nagraph.errors import MissingRuleError, TypeRuleError
from nagraph.ir.builder import constant
from nagraph.ir.nested import nested_graphs
from nagraph.ir.op import Op, op
from nagraph.ir.types import FLOATS, TensorType, as_dtype
from nagraph.ops.base import Elementwise, Primitive
from nagraph.pipeline import Pipeline
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.program import keys
from nagraph.program.instructions import HostStep
from nagraph.program.lowering import lower
from tests.plan.test_chaos import PROGRAMS, agree, graph_of

RNG = np.random.default_rng(3)
A = (lambda x: x @ x.T + 4 * np.eye(4))(RNG.normal(size=(4, 4)))


class NoSolution(Exception):
    """What the reference of an op here raises."""


@op
class HostCholesky(Primitive):
    """The lower triangle L of x = L Lᵀ, of which Python counts the calls."""

    name = "host_cholesky"
    calls = []

    def infer(self, x):
        return x

    def reference(self, x):
        self.calls.append(x)
        if x[0, 0] < 0:
            raise NoSolution(float(x[0, 0]))
        return np.linalg.cholesky(x)

    def vjp(self, cotangents, results, operands):
        return (cotangents[0] * 2,)


@op
class HostParts(Primitive):
    """Two results of different types: the rows' signs, and their sums."""

    name = "host_parts"

    def infer(self, x):
        return TensorType(np.dtype(bool), x.shape), TensorType(x.dtype, x.shape[:1])

    def reference(self, x):
        return x > 0, x.sum(1)


@op
class HostSoftsign(Elementwise):
    """Elementwise, without a formula for one element."""

    name = "host_softsign"
    dtypes = FLOATS

    def reference(self, x):
        return x / (1 + np.abs(x))

    def partials(self, y, x):
        return (1 / ng.numpy.square(1 + abs(x)),)


@op
class HostWrong(Primitive):
    """A reference that does not give what the type rule says."""

    name = "host_wrong"
    kind: str

    def infer(self, x):
        return x

    def reference(self, x):
        return x[:1] if self.kind == "shape" else (x, x)


cholesky, parts, softsign = HostCholesky(), HostParts(), HostSoftsign()


@pytest.fixture(autouse=True)
def calls():
    HostCholesky.calls.clear()
    yield HostCholesky.calls
    HostCholesky.calls.clear()


def host_steps(exe):
    return [i for i in exe.program.instructions if isinstance(i, HostStep)]


def same(got, expected):
    for a, b in zip(ng.tree.leaves(got), ng.tree.leaves(expected), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


# -- what is computed ------------------------------------------------------------------------------------------------


def test_python_computes_between_kernels(calls):
    f = ng.jit(lambda x: cholesky(x * 2) + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(f(A), np.linalg.cholesky(A * 2) + 1)
    exe = f.lower(A).executable
    assert len(host_steps(exe)) == 1 and len(exe.launches) == 2 and len(calls) == 1
    f(A)
    assert len(calls) == 2, "once for each call"


def test_explain_names_it_with_its_copies():
    f = ng.jit(lambda x: cholesky(x * 2) + 1)
    f(A)
    (line,) = [x for x in f.explain().splitlines() if "host_cholesky" in x]
    assert "computed by Python (test_host_steps.py:" in line and "128 bytes are copied for it, 128 bytes back" in line
    g = ng.jit(lambda x: np.linalg.norm(x))
    g(A)
    assert "Python" not in g.explain() and g.lower(A).executable.host_steps == ()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 700)])
def test_elementwise_ops_without_a_formula(dtype, shape):
    x = RNG.normal(size=shape).astype(as_dtype(dtype))
    got = ng.jit(lambda x: softsign(x * 2).T)(x)
    same(got, softsign(x * 2).T)


def test_operands_are_row_major_however_they_are_stored():
    """Transposed, reversed, cut and repeated operands; results that are transposed, joined, and read twice."""
    seen = []

    @op
    class HostOrder(Primitive):
        name = "host_order"

        def infer(self, x):
            return x

        def reference(self, x):
            seen.append(x.flags.c_contiguous)
            return (x * 2).T.copy().T

    order = HostOrder()

    def f(x):
        y = order(x.T)
        z = order(np.flip(x, 0)[:, 1:])
        w = order(ng.numpy.broadcast_to(x[0], (3, 4)))
        return np.concatenate([y.T, order(x)], 1), np.pad(z, 1), w + y.sum(), y.T @ y, order(order(x)[1:3])

    got = ng.jit(f)(A)
    assert seen == [True] * 5
    same(got, ng.jit(f, backend="numpy")(A))


def test_several_results():
    f = ng.jit(lambda x: (lambda s, t: (ng.where(s, x, 0), t * 2))(*parts(x + 1)))
    same(f(A), (np.where(A + 1 > 0, A, 0), (A + 1).sum(1) * 2))


def test_in_loops_branches_and_checkpoints(calls):
    def f(x, n):
        def step(c, t):
            c = ng.cond(t > 1, lambda c: cholesky(c) + x, lambda c: c * 2, c)
            return c, softsign(c[0])

        c, ys = ng.scan(step, x, np.arange(4))
        c = ng.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, cholesky(s[1]) + x), (0, c))[1]
        return ng.checkpoint(lambda c: cholesky(c) @ c)(c), ys

    for n in (0, 3):
        calls.clear()
        got = ng.jit(f)(A, n)
        assert len(calls) == 2 + n + 1, "what is not taken is not called"
        for a, b in zip(got, ng.jit(f, backend="numpy")(A, n), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_derivatives_and_batches(calls):
    np.testing.assert_allclose(ng.jit(ng.grad(lambda x: (softsign(x) * x).sum()))(A), ng.grad(lambda x: (x / (1 + abs(x)) * x).sum())(A))
    same(ng.jit(ng.grad(lambda x: cholesky(x).sum()))(A), np.full((4, 4), 2.0))
    same(ng.jit(ng.vmap(softsign))(A), softsign(A))


def test_a_branch_that_no_example_takes_is_not_computed(calls):
    @op
    class HostPositive(Elementwise):
        name = "host_positive"
        dtypes = FLOATS

        def reference(self, x):
            calls.append(x)
            if not (x > 0).all():
                raise NoSolution
            return np.sqrt(x)

    positive = HostPositive()
    f = ng.jit(ng.vmap(lambda x: ng.cond(x > 0, positive, lambda x: x, x)))
    assert f(np.array([-1.0, -2.0])).tolist() == [-1, -2] and not calls
    assert f(np.array([-1.0, 4.0])).tolist() == [-1, 2] and calls


def test_the_compiler_neither_computes_nor_fuses_nor_repeats_it(calls):
    def f(x):
        return cholesky(constant(A)) + softsign(np.exp(x)) * 2 + cholesky(constant(A))

    graph = ng.trace(f, A)
    calls.clear()
    exe = ng.compile(graph)
    assert not calls
    exe(A)
    assert len(calls) == 1, "equal ones are one"
    assert not any(n.op.on_host for g in nested_graphs(exe.graph) if g is not exe.graph for n in g.nodes)


def test_it_leaves_a_scan_that_does_not_change_it_and_no_loop_without_iterations(calls):
    scan = ng.jit(lambda x: ng.scan(lambda c, _: (c + cholesky(x)[0], None), x[0], None, length=3)[0])
    with choices.using("force=licm"):
        loop = ng.jit(lambda x, n: ng.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] + cholesky(x)[0]), (0, x[0]))[1])
    scan(A)
    assert len(calls) == 1
    same(loop(-A, 0), -A[0])
    assert len(calls) == 1
    same(ng.jit(lambda x: ng.scan(lambda c, _: (c + cholesky(constant(A))[0], None), x, None, length=3)[0])(A[0]),
         A[0] + np.linalg.cholesky(A)[0] + np.linalg.cholesky(A)[0] + np.linalg.cholesky(A)[0])
    assert len(calls) == 2, "nor does it matter whether its operands are constants"


@pytest.mark.parametrize("mode", [f"chaos={n}" for n in range(4)])
def test_whatever_is_chosen(mode):
    def f(x):
        y = ng.scan(lambda c, r: (softsign(c @ cholesky(x)) + r, c), x[0], x)[1]
        return np.concatenate([y, parts(y.T)[1][None]], 0).T * y[0, 0]

    with choices.using(mode):
        got = ng.jit(f)(A)
    np.testing.assert_allclose(got, ng.jit(f, backend="numpy")(A), rtol=1e-12)


def test_in_guarded_memory(monkeypatch):
    monkeypatch.setenv("NAGRAPH_SANITIZE", "1")
    same(ng.jit(lambda x: cholesky(x.T * 2)[1:] + 1)(A), np.linalg.cholesky(A.T * 2)[1:] + 1)


def test_a_profile_of_a_program_with_it():
    exe = ng.compile(ng.trace(lambda x: cholesky(x * 2) + 1, A))
    found = exe.profile(A, repeats=2)
    assert len(found.rows) == 2 and "between kernels: handing out, waiting, Python: host_cholesky" in str(found)


# -- errors ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend, threads", [("llvm", 1), ("llvm", 2), ("numpy", 1)])
def test_what_it_raises_is_the_users_and_nothing_donated_is_touched(backend, threads):
    @ng.jit(donate_argnames=("w",), backend=backend, threads=threads)
    def step(w, x):
        new = w - x
        loss = ng.scan(lambda c, r: (c + cholesky(x)[0] * r.sum(), None), x[0], x)[0]
        return new, loss.sum() + new.sum()

    w, bad = np.ones((4, 4)), A.copy()
    bad[0, 0] = -5
    for _ in range(3):
        with pytest.raises(NoSolution, match="-5") as caught:
            step(w, bad)
        assert (w == 1).all()
        (note,) = caught.value.__notes__
        assert "host_cholesky" in note and "test_host_steps.py:" in note
        assert "reference" in {f.name for f in traceback.extract_tb(caught.value.__traceback__)}
    new, _ = step(w, A)
    assert new is w and (w == 1 - A).all()


def test_a_donated_array_is_written_after_it():
    """The new parameters are known before Python computes with them, and written where the old ones stand afterwards."""
    step = ng.jit(lambda w, x: (w + x, cholesky(w + x)[0] * 2), donate_argnames=("w",))
    w, bad = np.eye(4), -9 * np.eye(4)
    with pytest.raises(NoSolution):
        step(w, bad)
    assert (w == np.eye(4)).all()
    new, row = step(w, A)
    assert new is w and (w == A + np.eye(4)).all() and (row == np.linalg.cholesky(w)[0] * 2).all()


def test_one_exception_raised_again_keeps_one_note():
    error = NoSolution("the same")

    @op
    class HostSame(Primitive):
        name = "host_same"

        def infer(self, x):
            return x

        def reference(self, x):
            raise error

    f = ng.jit(lambda x: HostSame()(x))
    for _ in range(3):
        with pytest.raises(NoSolution):
            f(A)
    assert len(error.__notes__) == 1


@pytest.mark.parametrize("kind, words", [
    ("shape", r"by its type rule the results are \(f64\[4,4\]\), its reference gave \(f64\[1,4\]\) \(test_host_steps"),
    ("count", r"by its type rule there is 1 result, its reference gave 2 \(test_host_steps")])
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_a_reference_that_breaks_its_type_rule(kind, words, backend):
    f = ng.jit(lambda x: HostWrong(kind)(x) + 1, backend=backend)
    with pytest.raises(TypeRuleError, match=words):
        f(A)


def test_an_interruption_in_it_ends_the_call():
    @op
    class HostInterrupted(Primitive):
        name = "host_interrupted"

        def infer(self, x):
            return x

        def reference(self, x):
            raise KeyboardInterrupt

    f = ng.jit(lambda x: HostInterrupted()(x * 2) + cholesky(x))
    with pytest.raises(KeyboardInterrupt):
        f(A)
    same(ng.jit(lambda x: cholesky(x) + 1)(A), np.linalg.cholesky(A) + 1)


def test_a_backend_without_a_host_refuses():
    planner, plan = kernel_plan(Pipeline.parse("canonicalize")(ng.trace(lambda x: cholesky(x * 2), A)), {})
    with pytest.raises(MissingRuleError, match="host_cholesky has no rule for kernels, and this backend computes nothing in Python"):
        lower(planner, plan, lambda work: None, host=False)


# -- memory, threads, processes ------------------------------------------------------------------------------------------------


def test_it_may_keep_and_write_its_operands():
    """They are copies: neither arguments nor what other kernels read change, nor do later calls change them."""
    @op
    class HostWriting(Primitive):
        name = "host_writing"
        kept = []

        def infer(self, x):
            return x

        def reference(self, x):
            self.kept.append(x)
            x *= 2
            return x

    for backend in ("llvm", "numpy"):
        f = ng.jit(lambda x: (HostWriting()(x), x + 1, HostWriting()(x * 3) + x * 3), backend=backend)
        x = np.ones(3)
        for scale in (1, 2):
            same(f(x * scale), (2 * x * scale, x * scale + 1, 9 * x * scale))
        assert sorted(k[0] for k in HostWriting.kept) == [2, 4, 6, 12]
        assert x.tolist() == [1, 1, 1]
        HostWriting.kept.clear()


def test_nothing_leaks():
    results = []

    @op
    class HostFresh(Primitive):
        name = "host_fresh"

        def infer(self, x):
            return x

        def reference(self, x):
            y = x + 1
            results.append((weakref.ref(x), weakref.ref(y)))
            if x[0] < 0:
                raise NoSolution
            return y

    f = ng.jit(lambda x: HostFresh()(x) * 2)
    for scale in (1, -1, 1):
        try:
            f(np.full(3, float(scale)))
        except NoSolution:
            pass
    exe = weakref.ref(f.lower(np.ones(3)).executable)
    del f
    gc.collect()
    assert len(results) == 3 and not any(r() is not None for pair in results for r in pair) and exe() is None


def test_a_program_with_it_is_not_kept(tmp_path, monkeypatch):
    """Not even one whose op is the house's own."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    monkeypatch.setattr(keys, "rules_are_ours", lambda op: True)
    for _ in range(2):
        f = ng.jit(lambda x: cholesky(x * 3) + 1)
        exe = f.lower(A).executable
        assert cache.entries("kernel") and not cache.entries("program") and not exe.loaded
        same(f(A), np.linalg.cholesky(A * 3) + 1)
    ng.jit(lambda x: x * 3 + 1)(A)
    assert len(cache.entries("program")) == 1


def test_it_may_call_compiled_functions():
    inner = ng.jit(lambda x: np.tanh(x) @ x)

    @op
    class HostCalling(Primitive):
        name = "host_calling"

        def infer(self, x):
            return x

        def reference(self, x):
            return inner(x)

    f = ng.jit(lambda x: ng.scan(lambda c, _: (HostCalling()(c * 0.5), None), x, None, length=5)[0])
    expected = A
    for _ in range(5):
        expected = inner(expected * 0.5)
    for _ in range(20):
        np.testing.assert_allclose(f(A), expected, rtol=1e-13)


def test_many_threads():
    f, found = ng.jit(lambda x: ng.scan(lambda c, _: (softsign(c) + x, None), x, None, length=30)[0]), {}
    expected = {n: f(np.full(64, float(n))) for n in range(4)}

    def work(n):
        found[n] = all((f(np.full(64, float(n))) == expected[n]).all() for _ in range(20))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert found == {n: True for n in range(4)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_after_a_fork(calls):
    f = ng.jit(lambda x: cholesky(x * 2) + 1)
    expected = f(A)
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(0 if (f(A) == expected).all() and len(calls) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    same(f(A), expected)


@pytest.mark.parametrize("name", PROGRAMS)
def test_any_op_may_be_computed_on_the_host(name, monkeypatch):
    """A third of the kinds of ops, in programs and gradients with joined, transposed, updated and looped values."""
    def chosen(op):
        return op.has_element and not op.view and op.name != "iota" and random.Random(f"{name} {op.name}").random() < 1 / 3

    graph, arrays, expected = graph_of(name)
    wanted = {n.op.name for g in nested_graphs(graph) for n in g.nodes if not n.op.regions and chosen(n.op)}
    for cls in (Op, Elementwise):
        found = cls.__dict__["has_element"]
        monkeypatch.setattr(cls, "has_element", property(lambda op, found=found: op.name not in wanted and found._compute(op)))
    on_host = Op.__dict__["on_host"]
    monkeypatch.setattr(Op, "on_host", property(lambda op: op.name in wanted or on_host._compute(op)))
    monkeypatch.setattr(keys, "rules_are_ours", lambda op: False)
    exe = ng.compile(graph)
    assert host_steps(exe) and {s.node.op.name for s in host_steps(exe)} <= wanted
    agree(exe(*arrays), expected, 1e-6)
