"""cond, scan and while_loop against Python's own if, for and while; derivatives against those of the unrolled code."""

from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nagraph as ng
from nagraph.errors import MissingRuleError, SignatureError, TreeError, TypeRuleError

RNG = np.random.default_rng(2)
XS = RNG.normal(size=(5, 3))
W = RNG.normal(size=(3, 3)) / 2
State = namedtuple("State", "h count")


def unrolled(fn, init, xs, reverse=False):
    """What scan means."""
    n = len(ng.tree.leaves(xs)[0])
    ys = [None] * n
    carry = init
    for t in reversed(range(n)) if reverse else range(n):
        carry, ys[t] = fn(carry, ng.tree.map(lambda x, t=t: x[t], xs))
    return carry, ng.tree.map(lambda *rows: np.stack(rows), *ys)


def rnn(h, x):
    h = np.tanh(h @ W + x)
    return h, h * 2


def same(got, expected, rtol=1e-12, atol=1e-12):
    assert ng.tree.structure(got) == ng.tree.structure(expected)
    for a, b in zip(ng.tree.leaves(got), ng.tree.leaves(expected), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13)


# -- scan -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_scan_is_the_loop(reverse, wrapped):
    def run(h, xs):
        return ng.scan(rnn, h, xs, reverse=reverse)

    same((ng.jit(run) if wrapped else run)(np.zeros(3), XS), unrolled(rnn, np.zeros(3), XS, reverse))


def test_scan_of_trees():
    def step(state, x):
        h = np.tanh(state.h + x["a"].sum() + x["b"])
        return State(h, state.count + 1), {"h": h, "n": (state.count, None)}

    xs = {"a": XS, "b": np.arange(5.0)}
    carry, ys = ng.scan(step, State(np.zeros(2), np.array(0)), xs)
    assert type(carry) is State and carry.count == 5 and ys["n"][1] is None
    np.testing.assert_array_equal(ys["n"][0], np.arange(5))
    expected, _ = unrolled(lambda s, x: step(s, x)[:1] + (x["b"],), State(np.zeros(2), np.array(0)), xs)
    np.testing.assert_allclose(carry.h, expected.h, rtol=1e-12, atol=1e-12)


def test_scan_without_xs_and_without_ys():
    carry, ys = ng.scan(lambda c, x: (c * 2, None), np.float64(1), length=10)
    assert carry == 1024 and ys is None
    carry, ys = ng.scan(lambda c, x: (c + 1, c), 0, length=3)
    assert carry == 3
    np.testing.assert_array_equal(ys, [0, 1, 2])


def test_scan_of_no_steps():
    carry, ys = ng.scan(rnn, np.ones(3), np.zeros((0, 3)))
    np.testing.assert_array_equal(carry, np.ones(3))
    assert ys.shape == (0, 3)
    g = ng.grad(lambda h: ng.scan(rnn, h, np.zeros((0, 3)))[0].sum())(np.ones(3))
    np.testing.assert_array_equal(g, np.ones(3))


def test_a_python_number_as_carry_takes_the_dtype_of_what_it_meets():
    carry, _ = ng.scan(lambda c, x: (c + x, c), 0, XS[:, 0].astype(np.float32))
    assert carry.dtype == np.float32
    np.testing.assert_allclose(carry, XS[:, 0].sum(), rtol=1e-5)
    found = ng.jit(lambda x: ng.while_loop(lambda c: c < 3, lambda c: c + x, 0))(np.float32(1))
    assert found.dtype == np.float32 and found == 3


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.booleans(), st.integers(0, 5))
def test_reverse_mode_through_scan_is_that_of_the_loop(steps, reverse, seed):
    rng = np.random.default_rng(seed)
    w, h, xs, weights = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=(steps, 3)), rng.normal(size=(steps, 3))

    def loss(loop):
        def of(w, h, xs):
            carry, ys = loop(lambda c, x: ((n := np.tanh(c @ w + x * c)), n * x), h, xs, reverse=reverse)
            return (carry**2).sum() + (ys * weights).sum()

        return of

    value, grads = ng.value_and_grad(loss(ng.scan), argnums=(0, 1, 2))(w, h, xs)
    expected_value, expected = ng.value_and_grad(loss(unrolled), argnums=(0, 1, 2))(w, h, xs)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12, atol=1e-12)
    same(grads, expected, rtol=1e-9)


def test_second_derivatives_and_forward_mode_through_scan():
    def loss(loop):
        return lambda h: (loop(rnn, h, XS)[1] ** 2).sum()

    h, v = XS[0], XS[1]
    same(ng.hessian(loss(ng.scan))(h), ng.hessian(loss(unrolled))(h), rtol=1e-8)
    same(ng.hvp(loss(ng.scan), h, v), ng.hvp(loss(unrolled), h, v), rtol=1e-8)
    same(ng.jvp(lambda h: ng.scan(rnn, h, XS), (h,), (v,)), ng.jvp(lambda h: unrolled(rnn, h, XS), (h,), (v,)))
    same(ng.jacobian(lambda h: ng.scan(rnn, h, XS)[0])(h), ng.jacobian(lambda h: unrolled(rnn, h, XS)[0])(h), rtol=1e-9)


def test_scan_inside_of_scan_and_under_vmap():
    def outer(c, x):
        inner, ys = ng.scan(lambda a, b: (np.sin(a + b), a), c, x)
        return inner, ys.sum()

    def plain(c, x):
        inner, ys = unrolled(lambda a, b: (np.sin(a + b), a), c, x)
        return inner, ys.sum()

    same(ng.scan(outer, np.float64(0), XS), unrolled(plain, np.float64(0), XS))
    same(ng.grad(lambda xs: ng.scan(outer, np.float64(0), xs)[1].sum())(XS),
         ng.grad(lambda xs: unrolled(plain, 0.0, xs)[1].sum())(XS), rtol=1e-9)
    many = np.stack([XS, XS * 2])
    for axes in ((0, None), (None, 0), (0, 0)):
        h = np.ones((2, 3)) if axes[0] == 0 else np.ones(3)
        xs = many if axes[1] == 0 else XS
        found = ng.vmap(lambda h, x: ng.scan(rnn, h, x), in_axes=axes)(h, xs)
        rows = [unrolled(rnn, h[i] if axes[0] == 0 else h, xs[i] if axes[1] == 0 else xs) for i in range(2)]
        same(found, ng.tree.map(lambda a, b: np.stack([a, b]), *rows))


def test_a_long_scan_runs():
    carry, _ = ng.scan(lambda c, x: (c + x, None), 0, np.arange(20000))
    assert carry == np.arange(20000).sum()
    gradient = ng.grad(lambda x: ng.scan(lambda c, t: (c * 0.999 + t, None), x, np.zeros(2000))[0])
    assert gradient(1.0) == pytest.approx(0.999**2000, rel=1e-10)


def test_scan_refuses_what_makes_no_loop():
    with pytest.raises(SignatureError, match=r"agree on the number of steps, got \['3', '5'\]"):
        ng.scan(lambda c, x: (c, c), 0.0, (XS, XS.T))
    with pytest.raises(SignatureError, match="number of steps"):
        ng.scan(lambda c, x: (c, c), 0.0, XS, length=4)
    with pytest.raises(SignatureError, match="number of steps, got neither"):
        ng.scan(lambda c, x: (c, c), 0.0)
    with pytest.raises(TreeError, match="carry changes structure"):
        ng.scan(lambda c, x: ((c, c), c), 0.0, XS)
    with pytest.raises(TypeRuleError, match=r"scan.*f64\[3\].*f64\[1\]"):
        ng.scan(lambda c, x: (c[:1], c), np.zeros(3), XS)
    with pytest.raises(TypeRuleError, match=r"scan.*f32.*f64"):
        ng.scan(lambda c, x: (c + x, c), np.zeros(3, np.float32), XS)


# -- cond -------------------------------------------------------------------------------------------


def branch(x):
    return ng.cond(x.sum() > 0, lambda x: {"a": np.sin(x), "n": x[0]}, lambda x: {"a": x * x, "n": x[1] * 2}, x)


@pytest.mark.parametrize("x", [np.array([1.0, 2.0]), np.array([-1.0, -2.0])])
def test_cond_takes_the_chosen_side(x):
    expected = {"a": np.sin(x), "n": x[0]} if x.sum() > 0 else {"a": x * x, "n": x[1] * 2}
    same(branch(x), expected)
    same(ng.jit(branch)(x), expected)

    def loss(x):
        found = branch(x)
        return found["a"].sum() * found["n"]

    def plain(x):
        return np.sin(x).sum() * x[0] if x.sum() > 0 else (x * x).sum() * x[1] * 2

    step = 1e-6
    expected = np.array([(plain(x + step * e) - plain(x - step * e)) / (2 * step) for e in np.eye(2)])
    np.testing.assert_allclose(ng.grad(loss)(x), expected, rtol=1e-6)
    np.testing.assert_allclose(ng.jvp(loss, (x,), (np.ones(2),))[1], expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(ng.jacobian(ng.grad(loss))(x), ng.jacobian(ng.grad(loss))(x).T, rtol=1e-12, atol=1e-12)


def test_only_the_chosen_side_runs(capsys):
    def f(x):
        return ng.cond(x > 0, lambda x: ng.debug.print("left {}", x), lambda x: ng.debug.print("right {}", x), x)

    ng.jit(f)(1.0)
    ng.jit(f)(-1.0)
    assert capsys.readouterr().out == "left 1.0\nright -1.0\n"


def test_the_sides_close_over_different_values():
    def f(p, x, y):
        return ng.cond(p, lambda: x * 2, lambda: x + np.tanh(y))

    x, y = XS[0], XS[1]
    for p in (True, False):
        expected = x * 2 if p else x + np.tanh(y)
        np.testing.assert_allclose(ng.jit(f)(p, x, y), expected, rtol=1e-12, atol=1e-12)
        gx, gy = ng.grad(lambda x, y, p=p: f(p, x, y).sum(), argnums=(0, 1))(x, y)
        np.testing.assert_allclose(gx, np.full(3, 2.0 if p else 1.0))
        np.testing.assert_allclose(gy, np.zeros(3) if p else 1 - np.tanh(y) ** 2)


def test_cond_with_a_plain_predicate_and_numpy_bool():
    assert ng.cond(True, lambda: 1.0, lambda: 2.0) == 1.0
    assert ng.cond(np.bool_(False), lambda: 1.0, lambda: 2.0) == 2.0


def test_cond_under_vmap_selects_row_by_row():
    xs = np.array([[1.0, 2.0], [-1.0, -2.0], [3.0, -1.0]])
    same(ng.vmap(branch)(xs), ng.tree.map(lambda *r: np.stack(r), *map(branch, xs)))
    p = np.array([True, False])
    np.testing.assert_array_equal(ng.vmap(lambda p: ng.cond(p, lambda: XS, lambda: -XS))(p), np.stack([XS, -XS]))


def test_a_side_that_is_not_taken_does_not_poison_the_derivative():
    gradient = ng.grad(lambda x: ng.cond(x > 0, np.log, lambda y: y * 0, x))
    assert gradient(-1.0) == 0.0
    assert gradient(2.0) == 0.5


# -- while_loop -------------------------------------------------------------------------------------


def collatz(n):
    return ng.while_loop(lambda s: s["n"] != 1, lambda s: {"n": np.where(s["n"] % 2 == 0, s["n"] // 2, 3 * s["n"] + 1), "k": s["k"] + 1},
                         {"n": n, "k": 0})["k"]


def test_while_loop_runs_until_the_condition_fails():
    assert collatz(np.int64(27)) == 111
    assert ng.jit(collatz)(np.int64(1)) == 0
    np.testing.assert_array_equal(ng.vmap(collatz)(np.array([1, 2, 3, 6, 27])), [0, 1, 7, 8, 111])


def test_while_loop_closes_over_values_on_both_sides():
    def f(limit, factor, x):
        return ng.while_loop(lambda c: c.sum() < limit, lambda c: c * factor, x)

    np.testing.assert_array_equal(ng.jit(f)(100.0, 3.0, np.ones(2)), [81, 81])


def newton(a, max_steps=None):
    """√a, by steps until it holds."""
    return ng.while_loop(lambda x: abs(x * x - a) > 1e-12, lambda x: (x + a / x) / 2, a, max_steps=max_steps)


def test_reverse_mode_through_a_bounded_loop():
    def plain(a):
        x = a
        while abs(x * x - a) > 1e-12:
            x = (x + a / x) / 2
        return x

    a = np.float64(2)
    step = 1e-6
    expected = (plain(a + step) - plain(a - step)) / (2 * step)
    np.testing.assert_allclose(newton(a, 50), plain(a), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(ng.grad(lambda a: newton(a, 50))(a), expected, rtol=1e-6)
    np.testing.assert_allclose(ng.jit(ng.grad(lambda a: newton(a, 50)))(a), expected, rtol=1e-6)
    np.testing.assert_allclose(ng.jvp(newton, (a,), (1.0,))[1], expected, rtol=1e-6)
    twice = ng.grad(ng.grad(lambda x: ng.while_loop(lambda c: c < 50, lambda c: c * c, x, max_steps=9)))
    np.testing.assert_allclose(twice(2.0), 8 * 7 * 2.0**6)


def test_the_bound_ends_the_loop():
    assert ng.while_loop(lambda c: True, lambda c: c + 1, 0, max_steps=7) == 7
    assert ng.while_loop(lambda c: True, lambda c: c + 1, 0, max_steps=0) == 0
    assert ng.grad(lambda x: ng.while_loop(lambda c: c < 1e9, lambda c: c * 2, x, max_steps=5))(1.0) == 32


def test_reverse_mode_without_a_bound_is_an_error_with_the_cure():
    with pytest.raises(MissingRuleError, match=r"reverse mode needs a bound.*max_steps=.*ng.scan.*\(test_control_flow.py:\d+\)"):
        ng.grad(newton)(2.0)
    with pytest.raises(MissingRuleError, match="max_steps="):
        ng.jit(ng.grad(lambda x: newton(x) * 2))(2.0)


def test_a_loop_of_integers_needs_no_bound_under_grad():
    def loss(x):
        n = ng.while_loop(lambda n: n < 10, lambda n: n * 2, np.int64(1))
        return (x * n).sum()

    np.testing.assert_array_equal(ng.grad(loss)(np.ones(2)), [16, 16])


def test_python_loops_unroll():
    def f(x):
        for k in range(3):
            x = x * k + 1
        return [x for _ in range(2)]

    np.testing.assert_array_equal(ng.jit(f)(XS)[1], f(XS)[1])


@pytest.mark.parametrize("name, call", [
    ("scan: argument init", lambda x: ng.scan(lambda c, x: (c, x), x, np.zeros(3))),
    ("scan: argument xs.1", lambda x: ng.scan(lambda c, x: (c, x), 0.0, (np.zeros(3), x))),
    ("cond: argument operands.0", lambda x: ng.cond(True, lambda x: x, lambda x: x, x)),
    ("while_loop: argument init", lambda x: ng.while_loop(lambda x: x < 3, lambda x: x + 1, x)),
    ("square: argument", lambda x: square(x)),
])
def test_what_is_no_array_is_refused_by_the_name_that_was_called(name, call):
    with pytest.raises(SignatureError, match=name):
        call("text")


@ng.custom_vjp
def square(x):
    return x * x


square.defvjp(lambda x: (x * x, x), lambda x, ct: (2 * x * ct,))
