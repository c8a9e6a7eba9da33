"""Programs on a device that does what it is asked for as late as it may: replay, donation, loops, branches, labels, streams, threads."""

import gc
import threading

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.cuda import script
from nagraph.errors import LabelError
from nagraph.nn import functional as F
from nagraph.testing import check, jitted, random_program

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 8)).astype(np.float32)
LABELS = np.array([0, 3, 7, 1, 2, 0])


def put(*arrays, where="lazy"):
    return [ng.device_put(a, where) for a in arrays]


def same(found, wanted):
    for a, b in zip(ng.tree.leaves(ng.to_numpy(found)), ng.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


def layer(w, x):
    h = np.tanh(x @ w)
    return h - h.mean(axis=0), (h * h).sum()


# -- calls ----------------------------------------------------------------------------------------------------------------


def test_the_second_call_captures_and_all_later_ones_replay_with_whatever_arrays_come(device):
    w, given = RNG.normal(size=(8, 8)).astype(np.float32), [RNG.normal(size=X.shape).astype(np.float32) for _ in range(5)]
    step = ng.jit(layer, backend="lazy")
    (there,) = put(w)
    found = [step(there, *put(x)) for x in given]
    assert device.counts["captured"] == 1 and device.counts["replayed"] == 4
    launches = len(step.lower(w, X).executable.launches)
    device.wait()
    assert len(device.launched) == 5 * launches > 5
    same(found, [ng.to_numpy(ng.jit(layer, backend="lazy")(w, x)) for x in given])  # first calls: their launches are queued one by one
    for one, x in zip(found, given):
        np.testing.assert_allclose(ng.to_numpy(one[0]), ng.jit(layer)(w, x)[0], rtol=1e-6, atol=1e-6)


def test_the_table_is_written_when_pointers_change_and_not_else(device):
    exe = ng.compile(ng.trace(lambda x: ng.numpy.tanh(x).sum(), ng.spec(X.shape)), backend="lazy")
    (x,), y = put(X), None
    counts = []
    for _ in range(5):
        before = device.counts["table"]
        (y,) = exe.plain([x]) or exe(x)
        counts.append(device.counts["table"] - before)
        device.wait()
    assert counts[0] == 1 and set(counts) <= {0, 1}
    held = [exe(x)[0] for _ in range(3)]  # each result is a new array, so that its pointer is another one
    device.wait()
    assert len({ng.to_numpy(h).tobytes() for h in (*held, y)}) == 1


def test_results_are_fresh_and_nothing_waits(device):
    step = ng.jit(layer, backend="lazy")
    w, x = put(RNG.normal(size=(8, 8)).astype(np.float32), X)
    first, again = step(w, x), step(w, x)
    assert not device.launched, "what is queued has not run"
    assert device.counts["waited"] == device.counts["fetch"] == 0
    assert first[0].address != again[0].address
    same(first, ng.to_numpy(again))


def test_arrays_that_nobody_holds_any_more_are_read_before_their_memory_is_another_ones(device):
    step, w = ng.jit(layer, backend="lazy"), RNG.normal(size=(8, 8)).astype(np.float32)
    (there,) = put(w)
    found = []
    for n in range(4):
        (x,) = put(X * n)
        found.append(step(there, x))
        del x
        gc.collect()
    same(found, [ng.to_numpy(step(w, X * n)) for n in range(4)])


@pytest.mark.parametrize("given", [np.zeros((0, 8), np.float32), np.float32(3.0) * np.ones((1, 8), np.float32)])
def test_empty_arrays_and_single_rows(device, given):
    step = ng.jit(lambda x: (x * 2, x.sum(axis=0)), backend="lazy")
    for _ in range(3):
        same(step(*put(given)), (given * 2, given.sum(axis=0)))


def test_a_row_that_begins_anywhere_is_copied_first(device):
    (x,) = put(np.arange(30, dtype=np.float32).reshape(10, 3))
    step = ng.jit(lambda x: x * 2, backend="lazy")
    for n in (0, 1, 2, 5):
        np.testing.assert_array_equal(ng.to_numpy(step(x.row(n))), np.arange(3 * n, 3 * n + 3) * 2)


def test_functions_without_arguments_and_constants(device):
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    step = ng.jit(lambda: (np.tanh(ng.numpy.asarray(table)).sum(), ng.numpy.ones(3)), backend="lazy")
    for _ in range(3):
        total, ones = ng.to_numpy(step())
        np.testing.assert_allclose(total, np.tanh(table).sum(), rtol=1e-6)
        assert ones.tolist() == [1, 1, 1]


# -- donation ---------------------------------------------------------------------------------------------------------------


def update(state, x):
    grads = np.tanh(x) * state["w"]
    return {"w": state["w"] - 0.5 * grads, "m": state["m"] * 0.9 + grads}, grads.sum()


def test_donated_arrays_are_updated_in_place(device):
    step = ng.jit(update, backend="lazy", donate_argnames="state")
    state = dict(zip("wm", put(np.ones_like(X), np.zeros_like(X))))
    host, x = {"w": np.ones_like(X), "m": np.zeros_like(X)}, put(X)[0]
    addresses = {k: v.address for k, v in state.items()}
    for _ in range(5):
        before = state
        state, total = step(state, x)
        host, expected = ng.jit(update)(host, X)
        assert all(state[k] is before[k] for k in state) and {k: v.address for k, v in state.items()} == addresses
        for k in state:
            np.testing.assert_allclose(ng.to_numpy(state[k]), host[k], rtol=1e-6)
        np.testing.assert_allclose(ng.to_numpy(total), expected, rtol=1e-5)
    assert device.counts["captured"] == 1 and device.counts["replayed"] == 4


def test_calls_that_donate_and_calls_that_can_not_go_by_turns(device):
    step = ng.jit(lambda t, x: ng.numpy.concatenate([t[:1], x[None], t[2:]]), backend="lazy", donate_argnames="t")
    (x,) = put(X[3])
    wanted = np.concatenate([X[:1], X[3:4], X[2:]])
    for _ in range(4):
        whole, both = put(X, np.stack([X, X]))
        assert step(whole, x) is whole
        same(whole, wanted)
        same(step(both.row(1), x), wanted)
        same(both, np.stack([X, X]))  # of which that was a view


def test_two_arguments_of_one_memory_are_not_both_donated(device):
    step = ng.jit(lambda a, b: (a + b, a - b), backend="lazy", donate_argnames=("a", "b"))
    (a,) = put(X)
    for _ in range(3):
        same(step(a, a), (X + X, X - X))
        same(a, X)


# -- loops and branches -----------------------------------------------------------------------------------------------------


def recurrent(w, h, xs):
    def cell(h, x):
        h = np.tanh(h @ w + x)
        return h, h.sum()

    return ng.scan(cell, h, xs)


@pytest.mark.parametrize("most", [script.MOST_UNROLLED, 4], ids=["in one graph", "counted by the host"])
@pytest.mark.parametrize("length", [0, 1, 6, 7])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_is_computed_without_any_transfer(device, monkeypatch, most, length, reverse):
    monkeypatch.setattr(script, "MOST_UNROLLED", most)
    w, xs = RNG.normal(size=(3, 3)), RNG.normal(size=(length, 3))
    def run(w, h, xs):
        return ng.scan(lambda h, x: (np.tanh(h @ w + x), h * 2), h, xs, reverse=reverse)

    step, wanted = ng.jit(run, backend="lazy"), ng.jit(run, backend="numpy")(w, np.zeros(3), xs)
    arguments = put(w, np.zeros(3), xs)
    for _ in range(3):
        found = step(*arguments)
        assert device.counts["fetch"] == 0
        for a, b in zip(ng.to_numpy(found), wanted):
            np.testing.assert_allclose(a, b, rtol=1e-13)
    assert device.counts["replayed"] == 2 * device.counts["captured"] or most == 4 and length


@pytest.mark.parametrize("most", [script.MOST_UNROLLED, 4])
def test_gradients_of_scans_in_scans(device, monkeypatch, most):
    monkeypatch.setattr(script, "MOST_UNROLLED", most)

    def loss(w, xs):
        def outer(h, x):
            inner, _ = ng.scan(lambda c, y: (np.tanh(c * w + y), None), h, x)
            return inner, inner.sum()

        h, sums = ng.scan(outer, np.zeros(2) + w[0] * 0, xs)
        return (h * h).sum() + sums.sum()

    w, xs = RNG.normal(size=2), RNG.normal(size=(3, 4, 2))
    step = ng.jit(ng.value_and_grad(loss), backend="lazy")
    wanted = ng.jit(ng.value_and_grad(loss), backend="numpy")(w, xs)
    arguments = put(w, xs)
    for _ in range(3):
        for a, b in zip(ng.to_numpy(step(*arguments)), wanted):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    assert device.counts["fetch"] == 0


@pytest.mark.parametrize("limit", [1.0, 3.0, 50.0, 2000.0])
def test_a_while_loop_carries_one_bool_an_iteration(device, limit):
    def run(x, limit):
        return ng.while_loop(lambda s: s[0].sum() < limit, lambda s: (s[0] * 2 + 1, s[1] + 1), (np.abs(x), np.int64(0) + 0 * x.shape[0]))

    step, wanted = ng.jit(run, backend="lazy"), ng.jit(run, backend="numpy")(X[0].astype("f8"), limit)
    x, bound = put(X[0].astype("f8"), np.float64(limit))
    for _ in range(3):
        before, gets = device.counts["fetch"], device.counts["get"]
        found = step(x, bound)
        assert device.counts["fetch"] - before == int(wanted[1]) + 1 and device.counts["get"] == gets
        for a, b in zip(ng.to_numpy(found), wanted):
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("n", [2.0, 7.0])
def test_a_branch_carries_one_bool(device, n):
    def run(x, n):
        def deep(v):
            return ng.cond(v.sum() > n, lambda v: np.tanh(v), lambda v: v * 3, v)

        return ng.cond(n > 3, lambda v: deep(v[::-1] * 2), lambda v: v - 1, np.abs(x))

    step, wanted = ng.jit(run, backend="lazy"), ng.jit(run, backend="numpy")(X[0].astype("f8"), n)
    x, bound = put(X[0].astype("f8"), np.float64(n))
    for _ in range(3):
        before = device.counts["fetch"]
        found = step(x, bound)
        assert device.counts["fetch"] - before == (2 if n > 3 else 1)
        np.testing.assert_allclose(ng.to_numpy(found), wanted, rtol=1e-6)


def test_branches_in_loops_and_loops_in_branches(device):
    def run(xs, n):
        def body(c, x):
            return ng.cond(x > 0, lambda c: c * x, lambda c: ng.while_loop(lambda v: v < n, lambda v: v + 1.5, c), c), c

        return ng.scan(body, np.float64(1) + xs[0] * 0, xs)

    xs = np.array([0.5, -1.0, 2.0, -3.0, 0.25])
    step, wanted = ng.jit(run, backend="lazy"), ng.jit(run, backend="numpy")(xs, 4.0)
    for _ in range(3):
        for a, b in zip(ng.to_numpy(step(*put(xs, np.float64(4)))), wanted):
            np.testing.assert_allclose(a, b, rtol=1e-13)


def test_sorts(device):
    step = ng.jit(lambda x: (np.sort(x, axis=0), np.argsort(-x, axis=1)), backend="lazy")
    for _ in range(2):
        same(step(*put(X)), (np.sort(X, axis=0), np.argsort(-X, axis=1, kind="stable")))


@pytest.mark.parametrize("seed", range(3))
def test_random_programs(backend, seed):
    """Kernels, loops and branches as they come."""
    found = check(random_program(seed), (jitted("lazy", backend="lazy"),), derivatives=False)
    assert not found, found


# -- labels -------------------------------------------------------------------------------------------------------------------


def classify(state, x, labels):
    loss, grad = ng.value_and_grad(lambda w: F.cross_entropy(x @ w, labels).mean())(state)
    return state - 0.1 * grad, loss


def test_a_label_that_is_no_class_leaves_donated_arrays_as_they_were(device):
    step = ng.jit(classify, backend="lazy", donate_argnames="state")
    (state, x), (fine, wrong) = put(np.eye(8, dtype=np.float32), X), put(LABELS, np.where(LABELS == 7, 8, LABELS))
    for _ in range(3):
        before, address = ng.to_numpy(state), state.address
        with pytest.raises(LabelError, match=r"label 8 at position \[2\]"):
            step(state, x, wrong)
        same(state, before)
        state, loss = step(state, x, fine)
        assert state.address == address
        same((state, loss), ng.to_numpy(ng.jit(classify, backend="lazy")(before, X, LABELS)))


def test_the_verdict_is_on_its_way_while_the_rest_is_queued(device):
    step = ng.jit(classify, backend="lazy", donate_argnames="state")
    (state, x, labels) = put(np.eye(8, dtype=np.float32), X, LABELS)
    for _ in range(3):
        device.wait()
        before, queued = device.counts["fetch"], len(device.launched)
        state, loss = step(state, x, labels)
        ran = len(device.launched) - queued
        assert device.counts["fetch"] - before == 1
        device.wait()
        assert 0 < ran <= (len(device.launched) - queued) / 2, "no more has run than what the check wants when the call returns"


@pytest.mark.parametrize("most", [script.MOST_UNROLLED, 2])
@pytest.mark.parametrize("taken", [True, False])
def test_labels_in_loops_and_branches(device, monkeypatch, most, taken):
    monkeypatch.setattr(script, "MOST_UNROLLED", most)

    def run(w, x, labels, flag):
        def body(c, at):
            return c + F.cross_entropy(at[0] @ w, at[1]), None

        total, _ = ng.scan(body, np.float32(0) * w[0, 0], (x, labels))
        return w * 2, ng.cond(flag, lambda t: t + F.cross_entropy(x @ w, labels).mean(), lambda t: t, total)

    step = ng.jit(run, backend="lazy", donate_argnames="w")
    flag = np.bool_(taken)
    for labels in (LABELS, np.where(LABELS == 7, 9, LABELS), LABELS):
        w, x, there, on = put(np.eye(8, dtype=np.float32), X, labels, flag)
        if labels.max() > 7:
            with pytest.raises(LabelError, match="label 9"):
                step(w, x, there, on)
            same(w, np.eye(8, dtype=np.float32))
        else:
            found, total = step(w, x, there, on)
            same(found, np.eye(8, dtype=np.float32) * 2)
            np.testing.assert_allclose(ng.to_numpy(total), ng.jit(run)(np.eye(8, dtype=np.float32), X, labels, flag)[1], rtol=1e-5)


# -- a library ---------------------------------------------------------------------------------------------------------------


def test_a_product_by_a_library_is_told_the_addresses_of_each_call(backend, device):
    backend.driver.library = True
    step = ng.jit(lambda w, x: x @ w, backend="lazy")
    ws, xs = ([RNG.normal(size=shape).astype(np.float32) for _ in range(6)] for shape in ((8, 8), X.shape))
    there, given = put(*ws), put(*xs)
    for n in (0, 1, 1, 2, 2, 3, 4, 5, 1, 1, 0):
        np.testing.assert_array_equal(ng.to_numpy(step(there[n], given[n])), xs[n] @ ws[n])
    assert device.counts["product"] and {"replayed", "captured"} <= set(device.counts)
    assert device.counts["captured"] <= 4, "a graph holds for its addresses, and is made when these come again"
    held = step(there[0], given[0])
    again = [step(there[0], given[0]) for _ in range(3)]
    same([held, *again], [xs[0] @ ws[0]] * 4)


def test_products_in_loops_are_no_librarys(backend, device):
    backend.driver.library = True

    def run(w, xs):
        return ng.scan(lambda h, x: (h @ w + x, h @ w), xs[0] * 0, xs)

    w, xs = RNG.normal(size=(3, 3)) / 3, RNG.normal(size=(5, 2, 3))
    step, wanted = ng.jit(run, backend="lazy"), ng.jit(run, backend="numpy")(w, xs)
    for _ in range(3):
        for a, b in zip(ng.to_numpy(step(*put(w, xs))), wanted):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    assert not device.counts["product"]


# -- streams, threads, devices -----------------------------------------------------------------------------------------------------


def test_calls_on_several_streams_share_the_arena_one_after_another(device, monkeypatch):
    def run(w, x):
        return np.tanh(np.tanh(x @ w) @ w).sum(axis=1)

    step, w = ng.jit(run, backend="lazy"), RNG.normal(size=(8, 8)).astype(np.float32)
    given = [X * n for n in range(6)]
    wanted = [ng.to_numpy(step(w, x)) for x in given]
    w, *given = put(w, *given)
    device.wait()
    streams = [device.new_stream() for _ in range(3)]

    def found():
        results = []
        for n, x in enumerate(given):
            with device.on(streams[n % 3]):
                results.append(step(w, x))
        while any(s.queue for s in streams):  # one thing of each by turns
            for stream in streams:
                stream.run(min(stream.done + 1, stream.count))
        return [ng.to_numpy(r) for r in results]

    same(found(), wanted)
    monkeypatch.setattr(device, "follow", lambda stream: None)
    assert any((a != b).any() for a, b in zip(found(), wanted)), "without waiting for one another they would be wrong"


def test_what_was_put_there_on_one_stream_is_waited_for_on_another(device):
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    exe = ng.compile(ng.trace(lambda x: ng.scan(lambda c, r: (c + r, c), x * 0, table + x)[0] @ table.T, ng.spec(4)), backend="lazy")
    first, second = device.new_stream(), device.new_stream()
    with device.on(first):
        exe.calls.resident(device)  # constants, and rows of moves
    with device.on(second):
        (found,) = exe(np.ones(4, np.float32))
        second.run(second.count)
    np.testing.assert_array_equal(found.now(), (table + 1).sum(axis=0) @ table.T)


def test_several_threads_call_at_once(device):
    step, w = ng.jit(layer, backend="lazy"), RNG.normal(size=(8, 8)).astype(np.float32)
    wanted = {n: ng.to_numpy(step(w, X * n)) for n in range(4)}
    (there,) = put(w)
    wrong = []
    lock = threading.Lock()

    def work(n):
        for _ in range(10):
            with lock:  # the queues of this device are Python's
                (x,) = put(X * n)
            with lock:
                found = step(there, x)
            with lock:
                if any((a != b).any() for a, b in zip(ng.to_numpy(found), wanted[n])):
                    wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_it_runs_where_its_arrays_are(backend):
    step, w = ng.jit(layer, backend="lazy"), RNG.normal(size=(8, 8)).astype(np.float32)
    first = step(*put(w, X, where="lazy:0"))
    for _ in range(3):
        found = step(*put(w, X, where="lazy:1"))
        assert {y.device.label for y in found} == {"lazy:1"}
        same(found, ng.to_numpy(first))
    assert backend.driver.device(1).counts["replayed"] == 2
