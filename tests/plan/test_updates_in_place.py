"""Updates of what nobody needs any more: only what changes is written, be it a donated argument or an intermediate value."""

import contextlib
import dataclasses
import io

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import LabelError, VerifyError
from nagraph.kernel.traffic import traffic
from nagraph.nn.losses import cross_entropy
from nagraph.plan.check import check
from nagraph.program.instructions import Commit, Differ, Loop, Phase

RNG = np.random.default_rng(0)
BACKENDS = ("llvm", "numpy")
F = ng.numpy


def executable(fn, *args, donate=(), backend="llvm", **options):
    found = ng.jit(fn, donate_argnames=donate, backend=backend, **options).lower(*args).executable
    check(found.plan)
    return found


def reference(fn):
    """The function computed by the ops' references."""
    return ng.jit(fn, backend="numpy", passes="")


def certain(program):
    """The launches that run whatever is donated: those that no comparison of addresses passes over."""
    found, passed = [], 0
    for n, i in enumerate(program.instructions):
        if isinstance(i, Differ):
            passed = max(passed, i.otherwise)
        elif isinstance(i, Phase) and n >= passed:
            found += i.launches
    return found


def written(launches):
    """Bytes that launches write."""
    return sum(traffic(x.kernel, range(len(x.slots)), [None] * len(x.slots))[1] for x in launches)


def table(rows=40, width=6, dtype="f4"):
    """Whole numbers, so that sums are exact in any order."""
    return RNG.integers(-9, 9, (rows, width)).astype(dtype)


INDEX = np.array([3, 7, 3, -1, 99, 0])  # one comes twice, one counts from the end, one is out of range
PLACE = np.array([3, 7, 3, 39, 39, 0])
ROWS = RNG.integers(-9, 9, (6, 6)).astype("f4")
IN_NUMPY = {"set_at": np.copyto, "add_at": np.add, "max_at": np.maximum, "min_at": np.minimum}


def updated(x, mode, rows=ROWS, places=PLACE):
    y = x.copy()
    for i, row in zip(places, rows):
        y[i] = row if mode == "set_at" else IN_NUMPY[mode](y[i], row)
    return y


# -- donated arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", list(IN_NUMPY))
def test_of_a_donated_table_only_the_rows_are_written(mode, backend):
    run = ng.jit(lambda x, i, u: getattr(F, mode)(x, i, u), donate_argnames="x", backend=backend)
    x = table()
    expected = updated(x, mode)
    y = run(x, INDEX, ROWS)
    assert y is x
    np.testing.assert_array_equal(y, expected)
    exe = run.lower(x, INDEX, ROWS).executable
    assert exe.plan.arena_bytes < x.nbytes and "changes donated %0" in str(exe.plan)
    if backend == "llvm":
        launches = certain(exe.program)
        assert written(launches) == ROWS.nbytes and None not in [launch.node for launch in launches]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("part", [slice(1, 4), slice(None, None, -2), slice(5, None)], ids=str)
@pytest.mark.parametrize("mode", ["set_at", "add_at"])
def test_of_rows_that_are_written_in_part_only_this_part_is_written(mode, part, backend):
    run = ng.jit(lambda x, i, u: getattr(F, mode)(x, (i, part), u), donate_argnames="x", backend=backend)
    x, u = table(400), ROWS[:, part]
    expected = x.copy()
    expected[:, part] = updated(x[:, part], mode, u, np.where(PLACE == 39, 399, PLACE))
    y = run(x, np.where(INDEX == 99, 999, INDEX), u)
    assert y is x
    np.testing.assert_array_equal(y, expected)
    exe = run.lower(x, INDEX, u).executable
    assert exe.plan.arena_bytes < x.nbytes / 8 and "changes donated %0" in str(exe.plan)
    if backend == "llvm":
        assert written(certain(exe.program)) == u.nbytes


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["view", "read-only", "twice"])
def test_an_argument_that_cannot_be_donated_is_copied_and_stays(how, backend):
    run = ng.jit(lambda x, i, u, other: (F.add_at(x, i, u), other.sum()), donate_argnames="x", backend=backend)
    whole = np.concatenate([table(), table()])
    x = whole[:40] if how == "view" else whole[:40].copy()
    x.flags.writeable = how != "read-only"
    before = x.copy()
    y, total = run(x, INDEX, ROWS, x if how == "twice" else ROWS)
    assert not np.shares_memory(x, y)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(y, updated(before, "add_at"))
    np.testing.assert_allclose(total, (before if how == "twice" else ROWS).sum(), rtol=1e-5)


def several(x, i, j, u):
    """Three updates, with rows read before, between and after them."""
    old = x[j]
    y = F.add_at(x, i, u)
    between = y[j]
    z = F.set_at(y, j, old * 2 + between)
    w = F.dynamic_update_slice(z, between[:1], (2, 0))
    return w, old, between, w[i]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("donate", ["x", ()])
def test_several_updates_of_one_table_and_rows_read_between(donate, backend):
    j = np.array([7, 8, 3])
    x = table()
    y = updated(x, "add_at")
    z = y.copy()
    z[j] = x[j] * 2 + y[j]
    z[2] = y[7]
    expected = (z, x[j], y[j], z[PLACE])
    run = ng.jit(several, donate_argnames=donate, backend=backend)
    kept = x.copy()
    found = run(x, INDEX, j, ROWS)
    assert (found[0] is x) == bool(donate)
    assert donate or np.array_equal(x, kept)
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b)
    exe = run.lower(x, INDEX, j, ROWS).executable
    check(exe.plan)
    if backend == "llvm":
        assert exe.plan.arena_bytes < x.nbytes, "there is no second table"
        copied = [launch for launch in certain(exe.program) if launch.node is None and launch.kernel.axes == (x.size,)]
        assert len(copied) == (0 if donate else 1)


def test_what_is_updated_may_be_read_before_but_not_after():
    def before(x, i, u):
        return F.set_at(x, i, u), x.sum(axis=0)

    def after(x, i, u):
        y = F.set_at(x, i, u)
        return y, x * y.sum()

    for fn, in_place in ((before, True), (after, False)):
        x = table()
        expected = reference(fn)(x, INDEX, ROWS)
        run = ng.jit(fn, donate_argnames="x")
        exe = run.lower(x, INDEX, ROWS).executable
        assert (not any(launch.node is None for launch in certain(exe.program))) == in_place
        found = run(x, INDEX, ROWS)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_the_table_itself_are_read_before_they_are_overwritten(backend):
    def fn(x):
        return F.set_at(x, np.array([0, 1, 2, 3]), x[np.array([1, 2, 3, 0])]), F.set_at(x, slice(2, 5), x[:3])

    x = table()
    expected = [x.copy(), x.copy()]
    expected[0][:4] = x[[1, 2, 3, 0]]
    expected[1][2:5] = x[:3]
    for a, b in zip(ng.jit(fn, donate_argnames="x", backend=backend)(x), expected):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_donated_argument_that_is_returned_unchanged_is_not_copied(backend):
    run = ng.jit(lambda x, y: (x, y + 1), donate_argnames="x", backend=backend)
    x, y = table(), table()
    found = run(x, y)
    assert found[0] is x
    np.testing.assert_array_equal(found[1], y + 1)
    if backend == "llvm":
        program = run.lower(x, y).executable.program
        assert not any(p.kind == "donated" for p in program.table) and None not in [launch.node for launch in certain(program)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_donated_arguments_that_are_exchanged(backend):
    run = ng.jit(lambda x, y, i, u: (F.add_at(y, i, u), x), donate_argnames=("x", "y"), backend=backend)
    x, y = table(), table()
    expected = updated(y, "add_at"), x.copy()
    for a, b in zip(run(x, y, INDEX, ROWS), expected):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_optimiser_updates_a_donated_table_by_the_gradient_of_its_rows(backend):
    def step(x, i, target):
        loss, g = ng.value_and_grad(lambda x: ((x[i] - target) ** 2).sum())(x)
        return x - 0.1 * g, loss

    x, target, places = table(), ROWS, np.array([3, 7, 3, 39, 38, 0])
    g = np.zeros_like(x)
    np.add.at(g, places, 2 * (x[places] - target))
    expected = x - np.float32(0.1) * g
    y, _ = ng.jit(step, donate_argnames="x", backend=backend)(x, places, target)
    assert y is x
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


# -- calls that fail -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("where", ["after", "of the result", "in a scan"])
def test_a_call_that_fails_leaves_what_is_donated(where, backend):
    def fn(x, i, u, logits, labels):
        y = F.set_at(x, i, u)
        if where == "of the result":
            return y, cross_entropy(y[:4], labels)
        if where == "in a scan":
            return ng.scan(lambda c, r: (F.set_at(c, r, u[0]), cross_entropy(logits, labels)), x, i)
        return y, cross_entropy(logits, labels)

    run = ng.jit(fn, donate_argnames="x", backend=backend)
    x, logits = table(), table(4)
    before = x.copy()
    with pytest.raises(LabelError):
        run(x, INDEX, ROWS, logits, np.array([0, 5, 6, 1]))
    np.testing.assert_array_equal(x, before)
    y, _ = run(x, INDEX, ROWS, logits, np.array([0, 5, 2, 1]))
    assert y is x
    assert np.array_equal(y[7], ROWS[0] if where == "in a scan" else ROWS[1])


def test_what_prints_comes_before_a_donated_argument_is_written():
    def fn(x, i, u):
        y = F.set_at(x, i, u)
        ng.debug.print("{}", y[:1])
        return y

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError("nobody listens")

    x = table()
    before, run = x.copy(), ng.jit(fn, donate_argnames="x")
    with contextlib.redirect_stdout(Closed()), pytest.raises(BrokenPipeError):
        run(x, INDEX, ROWS)
    np.testing.assert_array_equal(x, before)


def loop_of(steps):
    return lambda x, u: ng.scan(lambda c, _: ((F.set_at(c[0], c[1] % 40, u), c[1] + 1), None), (x, 0), None, length=steps)[0][0]


def test_a_loop_that_may_take_long_runs_before_donated_arguments_are_written():
    """Between its steps the user can end the call, and finds the argument as it was."""
    x = table()
    for fn, late in ((loop_of(50), False), (loop_of(1 << 26), True),
                     (lambda x, u: ng.while_loop(lambda s: s[0] < 9, lambda s: (s[0] + 1, F.set_at(s[1], s[0], u)), (0, x))[1], True)):
        program = executable(fn, x, ROWS[0], donate="x").program
        places = {type(i): n for n, i in enumerate(program.instructions)}
        assert (places[Commit] > places[Loop]) == late


def test_large_products_are_no_loops_and_hold_up_no_writes():
    run = ng.jit(lambda w, x: (w - np.tanh(x.T @ x), np.exp(x @ w).sum()), donate_argnames="w")
    program = run.lower(ng.spec((600, 600), "float32"), ng.spec((600, 600), "float32")).executable.program
    assert not any(place.kind == "donated" for place in program.table)


# -- intermediate values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_intermediate_value_is_changed_where_it_is(backend):
    def fn(x, i, u):
        y = F.add_at(np.tanh(x), i, u)
        return F.max_at(y, i, u) * 2

    x = table()
    exe = executable(fn, x, INDEX, ROWS, backend=backend)
    assert sum("in place of" in line for line in str(exe.plan).splitlines() if "scatter" in line) == 2
    np.testing.assert_allclose(exe(x, INDEX, ROWS)[0], updated(updated(np.tanh(x), "add_at"), "max_at") * 2, rtol=1e-6)


def test_a_result_is_computed_where_it_is_then_updated():
    def fn(x, i, u):
        return F.set_at(np.tanh(x), i, u)

    x = table()
    exe = executable(fn, x, INDEX, ROWS)
    assert exe.plan.arena_bytes == 0 and [launch.node is None for launch in exe.launches] == [False, False]
    np.testing.assert_allclose(exe(x, INDEX, ROWS)[0], updated(np.tanh(x), "set_at"), rtol=1e-6)


DTYPES = ["bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", ml_dtypes.bfloat16, "f4", "f8"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_dtype_by_the_rules_of_a_copy(dtype, backend):
    """The same bits as without donation, and as the reference."""
    x = RNG.integers(0, 99, (40, 6)).astype(dtype)
    u = RNG.integers(0, 99, (6, 6)).astype(dtype)

    def fn(x, i, u):
        y = F.set_at(x, i, u)
        y = F.add_at(y, i, u) if x.dtype != bool else y
        return F.max_at(F.min_at(y, i[1:], u[1:]), i, u)

    expected = reference(fn)(x, INDEX, u)
    np.testing.assert_array_equal(ng.jit(fn, backend=backend)(x, INDEX, u), expected)
    np.testing.assert_array_equal(ng.jit(fn, donate_argnames="x", backend=backend)(x, INDEX, u), expected)


@pytest.mark.parametrize("dtype", ["f2", ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("shape, index", [
    ((200, 30), (INDEX,)), ((9, 30, 4), (slice(None), INDEX % 30)), ((12, 9, 40), (INDEX % 9, INDEX[::-1] % 9)),
    ((200, 30), (np.int64(-3),)), ((200, 30), (np.array([[5], [5]]),)), ((50, 30), (np.zeros(0, np.int64),))])
def test_sums_of_16_bit_floats_are_made_of_the_rows_that_change(dtype, shape, index):
    """In float32 from what stood there, in the order of the updates, rounded once: the bits of the whole array made wide, then narrow."""
    x = RNG.normal(size=shape).astype(dtype)
    at = tuple(i if isinstance(i, slice) else np.minimum(i, n - 1) for i, n in zip(index, shape))
    u = RNG.normal(size=x[at].shape).astype(dtype)
    wide = x.astype("f4")
    np.add.at(wide, at, u.astype("f4"))
    expected = wide.astype(dtype)
    moving = [i for i in index if not isinstance(i, slice)]

    def fn(x, u, *moving):
        given = iter(moving)
        return F.add_at(x, tuple(i if isinstance(i, slice) else next(given) for i in index), u)

    for choice in ("", "forbid=update"):
        with ng.choices.using(choice):
            run = ng.jit(fn, donate_argnames="x")
        given = x.copy()
        assert run(given, u, *moving) is given and given.tobytes() == expected.tobytes()
        assert (run.lower(given, u, *moving).executable.plan.arena_bytes < x.nbytes) == (not choice)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape, index", [((1, 1), np.array([0, 0])), ((5, 0), np.array([1])), ((4, 3), np.zeros((0,), np.int32)),
                                          ((0, 3), np.zeros((0,), np.int32)), ((7,), np.array(-1)), ((3, 4), np.array([[2], [2]]))])
def test_small_and_empty_updates(shape, index, backend):
    x = RNG.normal(size=shape)
    u = RNG.normal(size=(*index.shape, *shape[1:])).T.copy().T  # in no order of its own
    y = x.copy()
    np.add.at(y, index, u)
    found = ng.jit(lambda x, i, u: F.add_at(x, i, u), donate_argnames="x", backend=backend)(x, index, u)
    assert found is x or not x.size
    np.testing.assert_allclose(found, y, rtol=1e-12)


def test_any_number_of_threads_gives_the_same_bits():
    x, i = table(500, 70), RNG.integers(0, 20, 300)
    u = RNG.normal(size=(300, 70)).astype("f4")
    found = [ng.jit(lambda x, i, u: F.add_at(F.add_at(x, i, u), i, u * 3), donate_argnames="x", threads=n)(x.copy(), i, u).tobytes()
             for n in (1, 2, 5)]
    assert found[0] == found[1] == found[2]


# -- the check of plans --------------------------------------------------------------------------------------------------


def test_a_result_in_the_bytes_of_what_no_region_changes_is_caught():
    def fn(x):
        return ng.scan(lambda c, t: (F.set_at(c, t, c[0] * 2), None), np.exp(x), np.arange(3))[0] @ np.ones((6, 6), np.float32)

    plan = executable(fn, table()).plan
    t, step = next((t, s) for t, s in enumerate(plan.steps) if s.nested)
    assert step.in_place
    wrong = dataclasses.replace(step, nested=(dataclasses.replace(step.nested[0], donations={}),))
    with pytest.raises(VerifyError, match="does not change"):
        check(dataclasses.replace(plan, steps=(*plan.steps[:t], wrong, *plan.steps[t + 1:])))
    with pytest.raises(VerifyError, match="still read"):
        check(dataclasses.replace(plan, steps=(*plan.steps[:t], dataclasses.replace(step, in_place=()), *plan.steps[t + 1:])))


# -- what explain says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_explain_tells_what_becomes_of_donated_arguments(backend):
    def fn(a, b, c, d, e, f, i, u):
        late = ng.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, F.set_at(s[1], s[0], u[0])), (0, d))[1]
        updated, first = F.set_at(b, i, u), F.add_at(f, i, u)
        return F.set_at(a, i, u), updated, c, late, e * 2, F.set_at(first, i, u), b[0] * updated.sum(), first

    run = ng.jit(fn, donate_argnames=("a", "b", "c", "d", "e", "f"), backend=backend)
    run(*(table() for _ in range(6)), INDEX, ROWS)
    told = {line.split()[0]: line.strip() for line in run.explain().splitlines() if "is donated" in line}
    assert told["a"] == "a is donated: it has only what changes written, in place"
    assert "at the end: " in told["b"] and told["b"].endswith("reads it afterwards")
    assert told["c"] == "c is donated: it is returned as it is"
    assert "at the end: while_loop (test_updates_in_place.py:" in told["d"] and "comes first" in told["d"]
    assert told["e"] == "e is donated: it is overwritten by the result"
    assert told["f"] == "f is donated: it is overwritten by the result, all of it: it, or a part of it, is returned as well"
