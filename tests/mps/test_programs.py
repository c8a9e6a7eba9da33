"""Programs on MLX: loops, branches, labels, prints, composites, random programs; what they show of themselves."""

from __future__ import annotations

import collections
import os
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.mps import program
from nagraph.backends.mps.program import Branch, Function, LongScan, Repetition
from nagraph.backends.mps.rules import composites, control
from nagraph.errors import LabelError, SignatureError
from nagraph.nn import functional as F
from nagraph.testing import check, jitted, random_program
from tests.mps.ways import op_by_op  # noqa: F401 - a fixture for all tests here

X = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")


def both(f, *args, rtol=1e-5, atol=1e-6, **options):
    """The results on MLX, which are compared with NumPy's backend's; and the executable."""
    run = ng.jit(f, backend="mps", **options)
    found, wanted = ng.tree.leaves(ng.to_numpy(run(*args))), ng.tree.leaves(ng.jit(f, backend="numpy")(*args))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(one.astype("f4"), other.astype("f4"), rtol=rtol, atol=atol)
    return run.lower(*args).executable


def steps(exe):
    return [type(s) for s in exe._program.steps]


# -- loops and branches ----------------------------------------------------------------------------------------------


def recurrence(x, w, reverse=False):
    return ng.scan(lambda c, r: (np.tanh(c @ w + r), c.sum()), x[0] * 0, x, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("most", [control.MOST_UNROLLED, 0])
def test_scans_unrolled_and_long(monkeypatch, most, reverse):
    monkeypatch.setattr(control, "MOST_UNROLLED", most)
    exe = both(lambda x, w: recurrence(x, w, reverse), X, X[:3] * 0.5)
    assert steps(exe).count(LongScan) == (not most)
    both(ng.grad(lambda w, x: recurrence(x, w, reverse)[1].sum()), X[:3] * 0.5, X)
    both(lambda x: ng.scan(lambda c, r: (c + r, c * 2), x[0], x[:0]), X)


@pytest.mark.parametrize("most", [control.MOST_SELECTED, 0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_branches_selected_and_taken(monkeypatch, most, sign):
    monkeypatch.setattr(control, "MOST_SELECTED", most)
    exe = both(lambda x: ng.cond(x.sum() > 0, lambda v: (v * 2, v.sum()), lambda v: (v - 1, v.max()), x), np.abs(X) * np.float32(sign))
    assert steps(exe).count(Branch) == (not most)


def test_a_branch_that_may_end_the_call_is_taken_alone():
    def f(x, labels, check):
        return ng.cond(check, lambda: F.cross_entropy(x, labels).sum(), lambda: x.sum())

    labels = np.array([0, 1, 2, 3, 0])
    assert ng.to_numpy(ng.jit(f, backend="mps")(X, labels, False)) == pytest.approx(X.sum(), rel=1e-5)
    with pytest.raises(LabelError, match=r"label 3 at position \[3\]"):
        ng.jit(f, backend="mps")(X, labels, True)


@pytest.mark.parametrize("bound", [None, 3, 100])
def test_while_loops(bound):
    exe = both(lambda v: ng.while_loop(lambda v: v.sum() < 50, lambda v: v * 2 + 1, v, max_steps=bound), np.abs(X[0]))
    assert Repetition in steps(exe)
    if bound:
        both(ng.grad(lambda v: ng.while_loop(lambda v: v.sum() < 50, lambda v: v * 2 + 1, v, max_steps=bound).sum()), np.abs(X[0]))


@pytest.mark.parametrize("loop", ["scan", "while"])
def test_iterations_are_handed_over_whole(loop, monkeypatch):
    """Also what the flag does not follow from, and verdicts: else MLX would keep every iteration as what is still to be computed."""
    monkeypatch.setattr(control, "MOST_UNROLLED", 0)
    asked = []
    monkeypatch.setattr(mx, "async_eval", lambda found, done=mx.async_eval: (asked.append(len(found)), done(found)))

    def f(x, labels):
        def body(c):
            return c[0] + 1, c[1] * 2 + F.cross_entropy(x, labels).sum()

        if loop == "scan":
            return ng.scan(lambda c, _: (body(c), None), (np.int32(0), x[0]), length=7)[0]
        return ng.while_loop(lambda c: c[0] < 7, body, (np.int32(0), x[0]))

    ng.jit(f, backend="mps")(X, np.array([0, 1, 2, 0, 1]))
    assert asked == [3] * 7 + [2]


def test_loops_within_loops_and_calls():
    def f(x):
        def outer(c, r):
            grown = ng.while_loop(lambda v: v.sum() < 9, lambda v: v * 1.5 + 0.5, np.abs(r))
            return c + ng.checkpoint(lambda v: np.sin(v) * ng.while_loop(lambda k: k < 3, lambda k: k + 1, np.float32(0)))(grown), grown[0]

        return ng.scan(outer, x[0], x)

    exe = both(f, X)
    assert steps(exe).count(LongScan) == 1 and len(exe._program.regions) >= 4


def test_values_between_functions_are_let_go(monkeypatch):
    """Nothing that no later step reads is kept."""
    alive = []
    monkeypatch.setattr(program.Repetition, "run", lambda self, arrays, verdicts, run=program.Repetition.run: (
        alive.append(sorted(len(k) for k in known_of(sys._getframe(1)))), run(self, arrays, verdicts))[1])

    def known_of(frame):
        return [frame.f_locals["known"]]

    both(lambda x: ng.while_loop(lambda v: v.sum() < 9, lambda v: v * 2 + 1, np.abs(np.sin(np.cos(np.tanh(x))))).sum(), X[0])
    assert alive == [[1]], "the carry alone, not the argument"


# -- labels and prints -------------------------------------------------------------------------------------------------


def test_labels_end_a_call_with_the_error_of_every_backend():
    def loss(w, x, labels):
        return w - 0.1 * x.mean(), ng.nn.losses.cross_entropy(x * w, labels)

    step = ng.jit(loss, backend="mps", donate_argnames="w")
    w, x = ng.device_put(np.ones(3, "f4"), "mps"), ng.device_put(X, "mps")
    good, bad = np.array([0, 1, 2, 0, 1]), np.array([0, 1, 3, 0, 7])
    step(w, x, good)
    with pytest.raises(LabelError) as told:
        step(w, x, bad)
    with pytest.raises(LabelError) as reference:
        ng.jit(loss, backend="numpy")(np.ones(3, "f4"), X, bad)
    assert str(told.value) == str(reference.value) and "label 3 at position [2]" in str(told.value)
    np.testing.assert_array_equal(ng.to_numpy(w), np.ones(3))
    both(loss, np.ones(3, "f4"), X, good)


@pytest.mark.parametrize("loop", ["scan", "long", "while"])
def test_labels_in_loops(loop, monkeypatch):
    monkeypatch.setattr(control, "MOST_UNROLLED", 0 if loop == "long" else 10**6)

    def f(x, labels):
        if loop == "while":
            def body(c):
                return c[0] + F.cross_entropy(x, labels).sum(), c[1] + 1

            return ng.while_loop(lambda c: c[1] < 2, body, (np.float32(0), np.int32(0)))[0]
        return ng.scan(lambda c, xl: (c + F.cross_entropy(xl[0][None], xl[1][None]).sum(), None), np.float32(0), (x, labels))[0]

    run = ng.jit(f, backend="mps")
    run(X, np.array([0, 1, 2, 0, 1]))
    with pytest.raises(LabelError, match="label 5"):
        run(X, np.array([0, 1, 2, 5, 1]))


def test_the_verdict_is_read_before_anything_else_is_computed(monkeypatch):
    """A call with wrong labels computes no results."""
    asked = []
    monkeypatch.setattr(mx, "async_eval", lambda *a: asked.append(a))
    with pytest.raises(LabelError):
        ng.jit(lambda x, y: F.cross_entropy(x @ x.T @ x, y), backend="mps")(X, np.array([0, 1, 2, 9, 1]))
    assert not asked


def test_prints_come_in_order_and_read_what_they_print(capsys):
    def f(x):
        y = x * 2
        ng.debug.print("y is {}", y[0, 0])
        return ng.scan(lambda c, r: (ng.debug.print("r is {}", r[0]), (c + r, None))[1], y[0], y)[0]

    run = ng.jit(f, backend="mps")
    run(X)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"y is {X[0, 0] * 2!s}", *(f"r is {v!s}" for v in X[:, 0] * 2)]
    assert "is read and printed (test_programs.py:" in run.explain()


# -- composites ----------------------------------------------------------------------------------------------------------


def claimed(exe):
    text = exe.source("mlx")
    counts = {name: text.count(f"fast.{name}") for name in ("layer_norm", "rms_norm", "scaled_dot_product_attention")}
    return collections.Counter({name: n for name, n in counts.items() if n})


@pytest.mark.parametrize("dtype", ["f4", "f2", "bfloat16"])
@pytest.mark.parametrize("affine", ["", "w", "b", "wb"])
def test_layer_norm(affine, dtype):
    dtype = ng.bfloat16 if dtype == "bfloat16" else dtype
    x, w, b = (rng.astype(dtype) for rng in (X + 10 * (dtype == "f4"), X[0] + 2, X[1]))
    exe = both(lambda x, w, b: F.layer_norm(x, w if "w" in affine else None, b if "b" in affine else None, eps=1e-3), x, w, b,
               rtol=1e-5 if dtype == "f4" else 1e-2)
    assert claimed(exe) == {"layer_norm": 1}


def test_a_row_of_equal_numbers_has_a_layer_norm_of_zeros():
    x = np.full((2, 7), [[3e38], [1e6]], "f4")
    assert not ng.to_numpy(ng.jit(F.layer_norm, backend="mps")(x)).any()


def test_rms_norm():
    assert claimed(both(lambda x, w: (F.rms_norm(x, w), F.rms_norm(x, eps=0.5)), X, X[0])) == {"rms_norm": 2}


def heads(n, h, d, seed=0):
    return np.random.default_rng(seed).normal(size=(2, h, n, d)).astype("f4")


Q, K, V = heads(4, 4, 8), heads(6, 2, 8, 1), heads(6, 2, 5, 2)
ROWS = np.random.default_rng(3).random((2, 4, 4, 6)) < 0.5
ROWS[0, 0, 0] = False


@pytest.mark.parametrize("options, mask, whole", [
    ({}, None, 1), ({"causal": True}, None, 1), ({"scale": 0.3}, None, 1), ({}, ROWS, 1), ({}, ROWS[0, 0], 1),
    ({}, np.where(ROWS, 0, -np.inf).astype("f4"), 1), ({}, np.where(ROWS, 0.5, -1).astype("f4"), 1), ({"causal": True}, ROWS, 0),
])
def test_attention(options, mask, whole):
    given = (Q, K, V) if mask is None else (Q, K, V, mask)
    exe = both(lambda q, k, v, *m: F.attention(q, k, v, *m, **options), *given, atol=1e-5)
    assert claimed(exe)["scaled_dot_product_attention"] == whole


def test_attention_of_other_shapes():
    def whole(q, k, v, **options):
        return claimed(both(lambda q, k, v: F.attention(q, k, v, **options), q, k, v, atol=1e-5))["scaled_dot_product_attention"]

    assert whole(Q[0], K[0], V[0], causal=True) == 1
    assert whole(heads(7, 4, 8), K, V, causal=True) == 0, "the first rows see nothing"
    assert whole(Q, K[:, :, :0], V[:, :, :0]) == 0
    assert whole(Q.astype(ng.bfloat16), K.astype(ng.bfloat16), V.astype(ng.bfloat16)) == 1


def test_what_is_made_of_a_composite_is_opened():
    """Batches, parts and derivatives are other functions than the composite of the name."""
    assert not claimed(both(ng.vmap(lambda x, w: F.layer_norm(x, w)), X[:, None, :], X))
    assert not claimed(both(ng.grad(lambda x, w: F.layer_norm(x, w).sum()), X, X[0]))
    kept = ng.backends.find("mps").pipeline.partition("keep=(")[2].partition(")")[0]
    assert set(kept.replace("'", "").split(",")) == set(composites.CLAIMED)


def test_recomputation_is_not_shared_with_the_forward_pass():
    """Scores are computed twice, in both passes, for MLX does not know that they are the same."""
    exe = ng.jit(ng.value_and_grad(lambda q: F.attention(q, q, q).sum()), backend="mps").lower(Q).executable
    assert exe.source("mlx").count("mx.depends(") >= 2 and exe.source("mlx").count("mx.exp(") == 2


# -- random programs, and other dtypes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_random_programs(first):
    """Those that have no float64."""
    checked = 0
    for seed in range(first, first + 10):
        program = random_program(seed)
        if any(i.dtype == "f64" for i in program.inputs):  # it would be refused in the end
            continue
        failure = check(program, [jitted("mps", backend="mps")], derivatives=False)
        if failure is not None and "has no float64" in failure.message:
            continue
        checked += 1
        assert failure is None, failure
    assert checked >= 3


def test_the_same_random_numbers_as_everywhere():
    def draw(key):
        bits = ng.random.bits(key, (3, 7)), ng.random.bits(key, 5, 64), ng.random.uniform(key, (4, 4))
        return *bits, ng.random.split(key, 3), ng.random.fold_in(key, 7)

    key = ng.random.key(2**40 + 5)
    for one, other in zip(ng.to_numpy(ng.jit(draw, backend="mps")(key)), ng.jit(draw, backend="numpy")(key), strict=True):
        assert one.tobytes() == other.tobytes() and one.dtype == other.dtype


def test_float64_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(program.Function, "__init__", lambda *a: pytest.fail("translated"))
    said = r"backend 'mps' has no float64: x is f64\[3\]; it has bool, i8, .*; write x.astype\('float32'\)"
    with pytest.raises(SignatureError, match=said):
        ng.jit(lambda x: x + 1, backend="mps")(np.ones(3))
    with pytest.raises(SignatureError, match=r"device_put: the array is f64\[3\], and backend 'mps' has no float64; convert it first"):
        ng.device_put(np.ones(3), "mps")


# -- what they show ----------------------------------------------------------------------------------------------------------


def test_the_listing_is_python_that_computes_the_same():
    def f(x, w):
        y = F.layer_norm(np.tanh(x @ w) * 0.1 - 0.5)
        return y[:, ::2], np.sort(y, axis=0), x.astype("int32") // 2

    exe = ng.jit(f, backend="mps").lower(X, X[:3]).executable
    text = exe.source()
    assert "mx.matmul(x, w)" in text and "# tanh, test_programs.py:" in text and text == exe.source("mlx")
    space = {"mx": mx}
    exec(text, space)  # noqa: S102 - the very text is under test
    arrays = [ng.device_put(a, "mps") for a in (X, X[:3])]
    for one, other in zip(space["f"](*arrays), exe(*arrays), strict=True):
        assert mx.array_equal(one, other)
    with pytest.raises(SignatureError, match="there is no source 'llvm'; there is mlx"):
        exe.source("llvm")


def test_the_listing_shows_loops_branches_and_checks(monkeypatch):
    monkeypatch.setattr(control, "MOST_UNROLLED", 0)
    monkeypatch.setattr(control, "MOST_SELECTED", 0)

    def f(x, labels):
        ng.debug.print("x {}", x[0])
        y, rows = ng.scan(lambda c, r: (c + r, c), x[0], x, reverse=True)
        z = ng.while_loop(lambda v: v.sum() < 9, lambda v: v * 2, np.abs(y))
        return ng.cond(z[0] > 1, lambda v: v, lambda v: -v, z), rows, F.cross_entropy(x, labels)

    text = ng.jit(f, backend="mps").lower(X, np.zeros(5, "i8")).executable.source()
    for line in ("print('x {}', ", "for t in reversed(range(5)):", "while True:", ".item(): break", "if v", "else:", "check(v"):
        assert line in text
    compile(text, "listing", "exec")


def test_plans_and_profiles_are_refused():
    exe = ng.jit(lambda x: x + 1, backend="mps").lower(X).executable
    for ask, said in ((lambda: exe.plan, "MLX owns its memory"), (lambda: exe.memory, "MLX owns its memory"),
                      (lambda: exe.profile(X), "does not tell the times"), (lambda: exe.schedules, "no schedules")):
        with pytest.raises(SignatureError, match=said):
            ask()
    assert exe.arena_nbytes == 0 and not exe.loaded


def test_a_program_is_one_function_unless_it_stops():
    exe = ng.jit(lambda x: ng.nn.losses.cross_entropy(np.tanh(x), np.zeros(5, int)), backend="mps").lower(X).executable
    assert steps(exe) == [Function]
    assert not steps(ng.jit(lambda x: x, backend="mps").lower(X).executable)


def test_constants_are_arguments_of_the_function():
    """MLX would write them into its kernels with seven digits, and -0.0 as 0."""
    exe = ng.jit(lambda x: x * 0.123456789 + np.float32(-0.0), backend="mps", passes="").lower(X).executable
    (function,) = exe._program.steps
    assert sorted(str(ng.to_numpy(c)) for c in function._constants.arrays) == ["-0.0", "0.12345679"]
    given = [mx.array(7.0), mx.array(1.0)]
    (found,) = function.traced([mx.array(X), *given])
    np.testing.assert_allclose(ng.to_numpy(found), X * 7 + 1, rtol=1e-6)


def test_asking_what_an_array_is_loads_nothing():
    code = """
import sys, numpy as np, nagraph as ng
from nagraph import arrays, backends
backends.find("mps").array_kind.classes()
ng.jit(lambda x: x + 1)(np.ones(3)); arrays.kind_of(3)
assert backends.find("mps").missing() == ""
assert not [m for m in sys.modules if m.partition(".")[0] == "mlx"]
import mlx.core as mx
assert type(ng.jit(lambda x: x + 1)(mx.array([1.0]))) is mx.array
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "MLX_DISABLE_COMPILE": "1"})


def test_where_mlx_is_missing_it_is_said():
    code = """
import importlib.util, numpy as np, nagraph as ng
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "mlx" else find(name, *a)
try:
    ng.jit(lambda x: x + 1, backend="mps")(np.ones(3))
except ng.errors.SignatureError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "backend 'mps' can't be used here: it computes with MLX, which is not installed: pip install 'nagraph[mps]'" in done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_is_told_and_does_not_hang():
    code = """
import os, signal, numpy as np, nagraph as ng
f = ng.jit(lambda x: x + 1, backend="mps")
x = f(np.ones(3, "f4"))
child = os.fork()
if not child:
    signal.alarm(20)
    said = set()
    for ask in (lambda: f(x), lambda: ng.to_numpy(x), lambda: ng.device_put(np.ones(3, "f4"), "mps"),
                lambda: ng.jit(lambda x: x * 2, backend="mps")(x)):
        try:
            ask()
        except ng.errors.SignatureError as error:
            said.add("forked from one that had loaded MLX" in str(error) and "get_context('spawn')" in str(error))
    os._exit(0 if said == {True} else 1)
assert os.waitpid(child, 0)[1] == 0
assert ng.to_numpy(f(x)).tolist() == [3, 3, 3]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100, env={**os.environ, "MLX_DISABLE_COMPILE": "1"})
