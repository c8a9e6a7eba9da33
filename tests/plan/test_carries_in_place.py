"""Carries of loops that are updated: only what changes is written in each iteration, whatever becomes of the carry."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.plan.check import check
from nagraph.program.instructions import Phase
from tests.plan.test_updates_in_place import BACKENDS, RNG, F, executable, table, written

STEPS = np.array([3, 4, 3, 0, 39])


def by_scan(step):
    return lambda x, rows: ng.scan(lambda c, r: (step(c, *r), c[0]), x, (STEPS, rows))


def by_while(step):
    def fn(x, rows):
        def body(s):
            return s[0] + 1, step(s[1], np.asarray(STEPS)[s[0]] if not hasattr(s[0], "type") else F.take(STEPS, s[0]), rows[s[0]])

        return ng.while_loop(lambda s: s[0] < 5, body, (np.int64(0), x))[1], x[0]

    return fn


def in_order(x, rows, step):
    y = x.copy()
    for i, row in zip(STEPS, rows):
        step(y, i, row)
    return y


def put(y, i, row):
    y[i] = row


def add(y, i, row):
    y[i] += row


def twice(y, i, row):
    old = y[0] * 2
    y[i] = row
    y[(i + 1) % 40] += old


BODIES = {
    "set_at": (lambda c, i, r: F.set_at(c, i, r), put),
    "add_at": (lambda c, i, r: F.add_at(c, i, r), add),
    "dynamic_update_slice": (lambda c, i, r: F.dynamic_update_slice(c, r[None], (i, 0)), put),
    "two updates and a read": (lambda c, i, r: F.add_at(F.set_at(c, i, r), (i + 1) % 40, c[0] * 2), twice),
    "in a branch": (lambda c, i, r: ng.cond(r[0] > -10, lambda c: F.set_at(c, i, r), lambda c: c, c), put),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loop", [by_scan, by_while], ids=["scan", "while"])
@pytest.mark.parametrize("donate", [(), "x"], ids=["kept", "donated"])
@pytest.mark.parametrize("body", BODIES)
def test_a_carry_is_changed_in_place(body, donate, loop, backend):
    step, plain = BODIES[body]
    x, rows, run = table(), RNG.integers(-9, 9, (5, 6)).astype("f4"), ng.jit(loop(step), donate_argnames=donate, backend=backend)
    expected, first, before = in_order(x, rows, plain), x[0].copy(), x.copy()
    exe = run.lower(x, rows).executable
    check(exe.plan)
    outer = next(s for s in exe.plan.steps if s.nested)
    inner = outer.nested[-1]
    carry = next(r for r, v in enumerate(outer.node.results) if v.shape == x.shape)
    assert carry in inner.donations and inner.arena_bytes < x.nbytes, str(inner)
    if backend == "llvm":
        begin, end = (next(n for n, i in enumerate(exe.program.instructions) if type(i).__name__ == name) for name in ("Loop", "End"))
        inside = [x for i in exe.program.instructions[begin:end] if isinstance(i, Phase) for x in i.launches]
        assert inside and written(inside) < x.nbytes
    y, *others = run(x, rows)
    assert (y is x) == bool(donate)
    assert donate or np.array_equal(x, before)
    np.testing.assert_array_equal(y, expected)
    assert loop is by_scan or donate or np.array_equal(others[0], first)


@pytest.mark.parametrize("backend", BACKENDS)
def test_carries_that_are_exchanged_pass_through_or_are_read_afterwards(backend):
    def fn(a, b, c, d):
        def step(s, t):
            a, b, c, d = s
            new = F.set_at(d, t, c[t])
            return (F.add_at(b, t, c[t]), a, c, new), d.sum() - new.sum()

        return ng.scan(step, (a, b, c, d), np.arange(7))

    given = [table(9, dtype="f8") for _ in range(4)]
    a, b, c, d = (x.copy() for x in given)
    ys = []
    for t in range(7):
        b2, d2 = b.copy(), d.copy()
        b2[t] += c[t]
        d2[t] = c[t]
        ys.append(d.sum() - d2.sum())
        a, b, d = b2, a, d2
    exe = executable(fn, *given, backend=backend)
    inner = next(s for s in exe.plan.steps if s.nested).nested[-1]
    assert 0 not in inner.donations and 1 not in inner.donations and 2 in inner.donations
    *found, sums = exe(*given)
    for x, y in zip(found, (a, b, c, d)):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_allclose(sums, ys, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_loops_of_loops_and_no_steps_at_all(backend):
    def fn(x, rows, steps):
        def outer(c, t):
            return ng.scan(lambda c, s: (F.add_at(c, s, rows[t]), None), c, np.arange(3))[0], None

        return ng.scan(outer, x * 2, np.arange(steps))[0]

    x, rows = table(9), table(4)
    for steps in (0, 4):
        y = x * 2
        for t in range(steps):
            y[:3] += rows[t]
        run = ng.jit(fn, static_argnames="steps", backend=backend)
        np.testing.assert_allclose(run(x, rows, steps), y, rtol=1e-6)
    plan = run.lower(x, rows, 4).executable.plan
    check(plan)
    inner = next(s for s in plan.steps if s.nested).nested[-1]
    innermost = next(s for s in inner.steps if s.nested)
    assert inner.donations and innermost.nested[-1].donations and inner.buffers[inner.slots[innermost.results[0]].buffer].kind == "output"
    if backend == "llvm":
        program = run.lower(x, rows, 4).executable.program
        assert not [launch for launch in program.launches if launch.node is None], "nothing is copied"


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_of_loops_that_update(backend):
    def loss(x, rows):
        y = ng.scan(lambda c, r: (F.add_at(F.set_at(c, r[0], r[1] * 2), r[0] - 1, c[0]), None), x, (STEPS, rows))[0]
        return (y * y).sum()

    x, rows = table(dtype="f8"), RNG.normal(size=(5, 6))
    found = ng.jit(ng.grad(loss, argnums=(0, 1)), backend=backend)(x, rows)
    for g, h in zip(found, ng.jit(ng.grad(loss, argnums=(0, 1)), backend="numpy", passes="")(x, rows)):
        np.testing.assert_allclose(g, h, rtol=1e-9)
    d = RNG.normal(size=x.shape)
    slope = (float(loss(x + 1e-6 * d, rows)) - float(loss(x - 1e-6 * d, rows))) / 2e-6
    np.testing.assert_allclose((found[0] * d).sum(), slope, rtol=1e-5)
