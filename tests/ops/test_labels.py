"""Labels outside the classes end the call that reads them, on every backend and wherever the loss stands; nothing else does."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import LabelError, TypeRuleError
from nagraph.ir.types import DTYPES, INTEGERS
from nagraph.nn import functional as F
from nagraph.nn import losses
from nagraph.ops.labels import CheckLabels
from tests.support import CPU_BACKENDS

CLASSES = 5
RNG = np.random.default_rng(0)
WAYS = [None, *CPU_BACKENDS]


def run(way, fn):
    """A function as it is, or jitted for a backend."""
    return fn if way is None else ng.jit(fn, backend=way)


def logits(*shape: int):
    return RNG.normal(size=(*shape, CLASSES)).astype(np.float32)


def outside(dtype) -> list[int]:
    """Numbers of a dtype that are no class: neighbours, extremes, and those that another width takes for a class."""
    limits = np.iinfo(dtype)
    return [n for n in (-1, -2, -99, -101, CLASSES, CLASSES + 1, 255, 256, 2**32, 2**32 + 1, -2**32, limits.min, limits.max)
            if limits.min <= n <= limits.max and n not in (0, -100)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", sorted(INTEGERS, key=str), ids=str)
def test_every_number_that_is_no_class(way, dtype):
    x, fn = logits(7), run(way, lambda x, labels: losses.cross_entropy(x, labels))
    good = RNG.integers(0, CLASSES, 7).astype(dtype)
    fn(x, good)
    for n in outside(dtype):
        at = int(RNG.integers(7))
        bad = good.copy()
        bad[at] = n
        with pytest.raises(LabelError, match=rf"label {n} at position \[{at}\] of labels \[7\] is none of the 5 classes 0 to 4") as error:
            fn(x, bad)
        assert "test_labels.py" in str(error.value)
    np.testing.assert_allclose(fn(x, good), -F.log_softmax(x)[np.arange(7), good.astype(int)].mean(), rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (17,), (2, 0, 3), (3, 33), (5, 4, 7), (4099,)])
def test_every_place(way, shape):
    """Also the last element of blocks of lanes, and labels that stand in another order or are part of something larger."""
    x, fn = logits(*shape), run(way, lambda x, labels: F.cross_entropy(x, labels).sum())
    good = RNG.integers(0, CLASSES, shape)
    fn(x, good)
    size = good.size
    for flat in {0, 1, size // 2, size - 2, size - 1} & set(range(size)):
        at = tuple(map(int, np.unravel_index(flat, shape)))
        bad = good.copy()
        bad[at] = 77
        with pytest.raises(LabelError, match=rf"label 77 at position {str(list(at)).replace('[', chr(92) + '[')}"):
            fn(x, bad)
        wide = np.full((*shape, 2), 99)  # what stands between is nobody's label
        wide[..., 1] = good
        fn(x, wide[..., 1])
        part = run(way, lambda x, wide: F.cross_entropy(x, wide[..., 1]).sum())
        part(x, wide)
        wide[(*at, 1)] = -7
        with pytest.raises(LabelError, match=f"label -7 at position {str(list(at)).replace('[', chr(92) + '[')}"):
            part(x, wide)


def scanned(x, labels):
    """The loss, row after row, with what is carried."""
    return ng.scan(lambda total, row: (total + F.cross_entropy(row[0], row[1]), total), np.float32(0), (x, labels))[0]


def turns(x, labels):
    def body(state):
        t, total = state
        return t + 1, total + F.cross_entropy(ng.numpy.take(x, t, 0), ng.numpy.take(labels, t, 0))

    return ng.while_loop(lambda s: s[0] < len(labels), body, (0, np.float32(0)), max_steps=20)[1]


def accumulated(x, labels):
    """Gradients of parts, added up, as training with accumulation does."""
    def part(total, xy):
        return total + ng.grad(lambda x: losses.cross_entropy(x, xy[1]))(xy[0]).sum(), None

    return ng.scan(part, np.float32(0), (x.reshape(2, -1, CLASSES), labels.reshape(2, -1)))[0]


PLACES = {
    "loss": losses.cross_entropy,
    "sum": lambda x, y: losses.cross_entropy(x, y, reduction="sum"),
    "smoothed": lambda x, y: losses.cross_entropy(x, y, label_smoothing=0.1),
    "gradient": lambda x, y: ng.grad(losses.cross_entropy)(x, y),
    "gradient of the strict one": lambda x, y: ng.grad(lambda x: losses.cross_entropy(x, y, ignore_index=None))(x),
    "second derivative": lambda x, y: ng.hvp(lambda x: losses.cross_entropy(x, y), x, x),
    "forward mode": lambda x, y: ng.jvp(lambda x: losses.cross_entropy(x, y), (x,), (x,))[1],
    "vmap": lambda x, y: ng.vmap(losses.cross_entropy)(x[:, None], y[:, None]),
    "gradients of examples": lambda x, y: ng.vmap(ng.grad(losses.cross_entropy))(x[:, None], y[:, None]),
    "checkpoint": lambda x, y: ng.grad(lambda x: ng.checkpoint(losses.cross_entropy)(x, y))(x),
    "scan": scanned,
    "gradient of scan": lambda x, y: ng.grad(scanned)(x, y),
    "while": turns,
    "gradient of while": lambda x, y: ng.grad(turns)(x, y),
    "accumulated": accumulated,
    "cond": lambda x, y: ng.cond(x[0, 0] < 99, losses.cross_entropy, lambda x, y: x[0, 0], x, y),
    "gradient of cond": lambda x, y: ng.grad(
        lambda x: ng.cond(x[0, 0] < 99, losses.cross_entropy, lambda x, y: x[0, 0], x, y))(x),
    "examples in branches": lambda x, y: ng.vmap(
        lambda x, y: ng.cond(y > -999, losses.cross_entropy, lambda x, y: x[0], x, y))(x, y),
    "computed labels": lambda x, y: losses.cross_entropy(x, (y.astype(np.float32) * 2).astype(np.int32) // 2),
    "a part of the losses": lambda x, y: losses.cross_entropy(x, y, reduction="none")[:1],
}


@pytest.mark.parametrize("way", CPU_BACKENDS)
@pytest.mark.parametrize("place", PLACES)
def test_wherever_the_loss_stands(way, place):
    x, good = logits(8), RNG.integers(0, CLASSES, 8)
    bad = good.copy()
    bad[5] = 7
    fn = run(way, PLACES[place])
    expected = fn(x, good)
    with pytest.raises(LabelError, match="label 7.*is none of the 5 classes"):
        fn(x, bad)
    np.testing.assert_array_equal(fn(x, good), expected)
    eager = PLACES[place](x, good)
    np.testing.assert_allclose(expected, eager, rtol=2e-5, atol=1e-6)
    with pytest.raises(LabelError, match="label 7"):
        PLACES[place](x, bad)


HARMLESS = {
    "a branch that is not taken": lambda x, y: ng.cond(x[0, 0] > 99, losses.cross_entropy, lambda x, y: x[0, 0], x, y),
    "examples that do not take the branch": lambda x, y: ng.vmap(
        lambda x, y: ng.cond(y < CLASSES, losses.cross_entropy, lambda x, y: x[0], x, y))(x, y),
    "examples in the other branch": lambda x, y: ng.vmap(
        lambda x, y: ng.cond(y >= CLASSES, lambda x, y: x[0], losses.cross_entropy, x, y))(x, y),
    "their gradients": lambda x, y: ng.vmap(ng.grad(
        lambda x, y: ng.cond(y < CLASSES, losses.cross_entropy, lambda x, y: x[0], x, y)))(x, y),
    "loops in branches": lambda x, y: ng.vmap(lambda x, y: ng.cond(
        y < CLASSES, lambda x, y: scanned(x[None], y[None]), lambda x, y: x[0], x, y))(x, y),
    "branches in branches": lambda x, y: ng.vmap(lambda x, y: ng.cond(
        y < CLASSES, lambda x, y: ng.cond(x[0] < 99, losses.cross_entropy, lambda x, y: x[0], x, y), lambda x, y: x[0], x, y))(x, y),
    "checkpoints in branches": lambda x, y: ng.vmap(lambda x, y: ng.cond(
        y < CLASSES, ng.checkpoint(losses.cross_entropy), lambda x, y: x[0], x, y))(x, y),
    "loops of examples that are done": lambda x, y: ng.vmap(lambda x, y: ng.while_loop(
        lambda s: (s[0] < 3) & (y < CLASSES), lambda s: (s[0] + 1, s[1] + losses.cross_entropy(x, y)), (0, np.float32(0)))[1])(x, y),
    "a branch that no example takes": lambda x, y: ng.vmap(
        lambda x, y: ng.cond(y > 99, losses.cross_entropy, lambda x, y: x[0], x, y))(x[:6], y[::-1][2:]),
    "labels of all examples in a branch that none takes": lambda x, y: ng.vmap(
        lambda x: ng.cond(x[0] > 99, lambda x: losses.cross_entropy(x[None].repeat(8, 0), y), lambda x: x[0], x))(x),
    "ignored": lambda x, y: losses.cross_entropy(x, y, ignore_index=7),
}


@pytest.mark.parametrize("way", CPU_BACKENDS)
@pytest.mark.parametrize("place", HARMLESS)
def test_labels_that_do_not_count(way, place):
    x, labels = logits(8), RNG.integers(0, CLASSES, 8)
    labels[5] = 7
    found = run(way, HARMLESS[place])(x, labels)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(HARMLESS[place](x, labels), found, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("way", CPU_BACKENDS)
def test_a_loss_that_nobody_uses_is_not_computed(way):
    x = logits(3)
    assert np.isfinite(run(way, lambda x, y: (losses.cross_entropy(x, y), x.sum())[1])(x, np.full(3, 9)))


# -- what is left as it was ---------------------------------------------------------------------------------------------------------


def step(w, m, x, labels):
    """A step of training that gives back parameters, momentum, and the labels' own sum."""
    loss, g = ng.value_and_grad(lambda w: losses.cross_entropy(x @ w, labels))(w)
    m = 0.9 * m + g
    return w - 0.1 * m, m, loss


def late(w, m, x, labels):
    """The loss after the update, with labels that follow from it: what would be written into donated arrays comes before what may fail."""
    w = w * 0.5
    return w, m * 2, losses.cross_entropy(x @ w, labels + (w.sum() > 1e9).astype(labels.dtype))


def looped(w, m, x, labels):
    def one(state, xy):
        w, m, loss = step(*state, xy[0][None], xy[1][None])
        return (w, m), loss

    (w, m), found = ng.scan(one, (w, m), (x, labels))
    return w, m, found.sum()


def returned(w, m, x, labels):
    return w + losses.cross_entropy(x @ w, labels), m + 1, labels


@pytest.mark.parametrize("way", CPU_BACKENDS)
@pytest.mark.parametrize("fn", [step, late, looped, returned], ids=lambda f: f.__name__)
def test_donated_arrays_are_whole_after_the_error(way, fn):
    x, good = RNG.normal(size=(6, 3)).astype(np.float32), RNG.integers(0, CLASSES, 6)
    w, m = RNG.normal(size=(3, CLASSES)).astype(np.float32), np.ones((3, CLASSES), np.float32)
    donating = ng.jit(fn, backend=way, donate_argnames=("w", "m", "labels"))
    for _ in range(4):  # the long way, then the short one
        kept = w.copy(), m.copy()
        for at in range(6):
            bad = good.copy()
            bad[at] = -5
            with pytest.raises(LabelError, match=r"label -5"):
                donating(w, m, x, bad)
            np.testing.assert_array_equal((w, m), kept)
            assert bad[at] == -5
        expected = ng.jit(fn, backend=way)(w, m, x, good)
        w, m, out = donating(w, m, x, good.copy())
        for a, b in zip((w, m, out), expected):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("way", CPU_BACKENDS)
def test_threads_have_verdicts_of_their_own(way):
    x, good = logits(64), RNG.integers(0, CLASSES, 64)
    bad = good.copy()
    bad[3] = 9
    fn = run(way, lambda x, labels: losses.cross_entropy(x, labels))
    expected, wrong = fn(x, good), []

    def calls(labels, fails):
        for _ in range(200):
            try:
                ok = not fails and fn(x, labels) == expected
                if fails:
                    fn(x, labels)
            except LabelError:
                ok = fails
            if not ok:
                wrong.append(fails)

    crew = [threading.Thread(target=calls, args=(bad if i % 2 else good, i % 2 == 1)) for i in range(6)]
    for t in crew:
        t.start()
    for t in crew:
        t.join()
    assert not wrong


def test_programs_of_the_cache_check_as_well():
    x, good = logits(4), RNG.integers(0, CLASSES, 4)

    def fresh():
        return ng.jit(lambda x, labels: losses.cross_entropy(x, labels, label_smoothing=0.125))

    fresh()(x, good)
    again = fresh()
    again(x, good)
    assert again.lower(x, good).executable.loaded
    with pytest.raises(LabelError, match=r"label 5 at position \[2\].*test_labels.py"):
        again(x, np.array([0, 1, 5, 2]))


def test_profiles_end_as_calls_do():
    x, good = logits(4), RNG.integers(0, CLASSES, 4)
    exe = ng.jit(losses.cross_entropy).lower(x, good).executable
    assert any("check_labels" in r.name for r in exe.profile(x, good).rows)
    with pytest.raises(LabelError, match="label 9"):
        exe.profile(x, np.array([0, 9, 1, 2]))


def test_text_keeps_the_check():
    graph = ng.trace(losses.cross_entropy, logits(3), np.zeros(3, int))
    again = ng.parse(str(graph))
    assert again == graph and "check_labels{classes=5, ignore=-100}" in str(graph)
    with pytest.raises(LabelError):
        ng.compile(again)(logits(3), np.full(3, 5))


@pytest.mark.parametrize("way", CPU_BACKENDS)
@pytest.mark.parametrize("passes", ["", "dce", "narrow,simplify,fold_constants,cse,dce", "expand,fuse", "expand,cse,schedule"])
def test_no_pass_loses_the_check(way, passes):
    x, good = logits(6), RNG.integers(0, CLASSES, 6)
    fn = ng.jit(lambda x, y: ng.value_and_grad(losses.cross_entropy)(x, y), backend=way, passes=passes)
    fn(x, good)
    with pytest.raises(LabelError, match=r"label 6 at position \[1\]"):
        fn(x, np.array([0, 6, 1, 2, 3, 4]))


def test_constant_labels_are_checked_when_the_graph_runs():
    """Not when it is compiled: a branch that is never taken may hold them."""
    labels = np.arange(20) % 7
    for way in CPU_BACKENDS:
        fn = run(way, lambda x, go: ng.cond(go, lambda x: F.cross_entropy(x, labels).sum(), lambda x: x.sum(), x))
        x = logits(20)
        fn(x, np.bool_(False))
        with pytest.raises(LabelError, match=r"label 5 at position \[5\]"):
            fn(x, np.bool_(True))


def test_labels_that_rounding_decides():
    """What a backend computes from floats need not be what the references do: an error all the same."""
    graph = ng.trace(lambda x: F.cross_entropy(np.zeros((1, CLASSES), np.float32) + x, x.astype(np.int64)), np.zeros(1, np.float32))
    from nagraph.ops.labels import failure

    assert "rounding decides" in str(failure(graph, [np.ones(1, np.float32)]))


# -- the values -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("ignore", [-100, 0, 3, -1, 255])
def test_ignored_rows_do_not_count(way, dtype, ignore):
    """Whatever stands in them, nan and infinities too."""
    x = RNG.normal(size=(40, CLASSES)).astype(DTYPES[dtype])
    labels = RNG.integers(0, CLASSES, 40)
    labels[::3] = ignore
    counts = labels != ignore
    x[~counts] = RNG.choice([np.nan, np.inf, -np.inf, 1], (int((~counts).sum()), CLASSES)).astype(x.dtype)
    rows = -F.log_softmax(x[counts].astype(np.float64))[np.arange(counts.sum()), labels[counts]]
    tol = {"f16": 2e-3, "bf16": 2e-2, "f32": 1e-5, "f64": 1e-12}[dtype]
    for reduction, expected in (("mean", rows.mean()), ("sum", rows.sum())):
        fn = run(way, lambda x, y, r=reduction: losses.cross_entropy(x, y, reduction=r, ignore_index=ignore))
        found = fn(x, labels)
        assert found.dtype == x.dtype
        np.testing.assert_allclose(np.float64(found), expected, rtol=tol)
    fn = run(way, lambda x, y: losses.cross_entropy(x, y, reduction="none", ignore_index=ignore))
    np.testing.assert_array_equal(fn(x, labels)[~counts], 0)
    slope = run(way, lambda x, y: ng.grad(lambda x: losses.cross_entropy(x, y, ignore_index=ignore))(x))(x, labels)
    np.testing.assert_array_equal(slope[~counts], 0)
    p = np.exp(F.log_softmax(x[counts].astype(np.float64)))
    p[np.arange(counts.sum()), labels[counts]] -= 1
    np.testing.assert_allclose(np.float64(slope[counts]), p / counts.sum(), atol=tol)


@pytest.mark.parametrize("way", WAYS)
def test_a_mean_over_nothing(way):
    labels = np.full(3, -100)
    assert np.isnan(run(way, lambda x, y: losses.cross_entropy(x, y))(logits(3), labels))
    assert run(way, lambda x, y: losses.cross_entropy(x, y, reduction="sum"))(logits(3), labels) == 0


def test_labels_of_other_kinds_are_refused():
    for labels in (np.zeros(3, np.float32), np.zeros(3, bool)):
        with pytest.raises(TypeRuleError, match="integer"):
            losses.cross_entropy(logits(3), labels)
        with pytest.raises(TypeRuleError, match="integer"):
            F.cross_entropy(logits(3), labels)
    with pytest.raises(TypeRuleError, match="there are 0"):
        F.cross_entropy(np.zeros((3, 0), np.float32), np.zeros(3, int))
    with pytest.raises(TypeError):
        losses.cross_entropy(logits(3), np.zeros(3, int), ignore_index=0.5)


def test_every_dtype_says_the_same_as_numpy():
    for dtype in INTEGERS:
        limits = np.iinfo(dtype)
        numbers = np.array([n for n in (-101, -100, -1, 0, 1, 126, 127, 128, 199, 200, 255, limits.min, limits.max)
                            if limits.min <= n <= limits.max], dtype)
        for classes in (1, 127, 128, 200, 70_000):
            for ignore in (None, -100, 255, 2**70):
                expected = [(0 <= int(n) < classes) or int(n) == ignore for n in numbers]
                assert list(CheckLabels(classes, ignore).fine(numbers)) == expected
