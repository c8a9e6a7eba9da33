"""Plans: sound by an independent checker, close to the lower bound, and computing what the graph says."""

import dataclasses

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends import find
from nagraph.backends.numpy import compile as compile_graph
from nagraph.errors import VerifyError
from nagraph.ir.interpret import interpret
from nagraph.nn import functional as F
from nagraph.pipeline import Pipeline
from nagraph.plan import check, make_plan
from nagraph.plan.offsets import assign_offsets, peak_bytes


def arrays_for(graph, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 5, t.shape).astype(t.dtype) if t.dtype.kind in "iu" else rng.normal(size=t.shape).astype(t.dtype)
            for t in graph.input_types]


def assert_computes(graph, donations=None):
    """The plan passes the checker, and the executable gives the interpreter's bits, twice."""
    arrays = arrays_for(graph)
    executable = compile_graph(graph, donations or {})
    check(executable.plan)
    expected = interpret(graph, arrays)
    for _ in range(2):
        for got, want in zip(executable(*arrays), expected, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
    return executable


def mlp(x, w, v):
    return np.tanh(x @ w) @ v


MLP = (ng.spec((64, 32)), ng.spec((32, 48)), ng.spec((48, 8)))


def test_a_dying_operand_is_overwritten():
    plan = make_plan(ng.trace(lambda x: np.exp(np.tanh(x * 2)) + 1, ng.spec((100,))))
    computed = [s for s in plan.steps if not s.view]
    assert [s.node.op.name for s in computed] == ["multiply", "tanh", "exp", "add"]
    assert [s.in_place for s in computed] == [(), ((0, 0),), ((0, 0),), ()]  # the last one is the result itself
    assert plan.arena_bytes == 448
    check(plan)


def test_an_operand_that_is_read_again_is_kept():
    def fn(x):
        a = x * 2
        return (a + 1) * np.sum(a)

    plan = make_plan(ng.trace(fn, ng.spec((100,))))
    assert not any(s.in_place for s in plan.steps if s.node.op.name == "add" and 0 in dict(s.in_place).values())
    assert_computes(plan.graph)


def test_movement_is_a_view_where_strides_allow():
    def fn(x):
        y = np.exp(x)
        return np.sum(y.T.reshape(4, 6)), np.sum(y.reshape(2, 12)), np.sum(y[1:, ::2].T)

    plan = make_plan(ng.trace(fn, ng.spec((4, 6))))
    views = [(s.node.op.name, s.view) for s in plan.steps if s.node.op.name in ("reshape", "transpose", "slice")]
    assert ("reshape", True) in views and ("reshape", False) in views and ("slice", True) in views
    assert all(v for name, v in views if name in ("transpose", "slice"))
    assert_computes(plan.graph)


def test_results_are_copied_where_they_would_be_aliases():
    def fn(x):
        y = np.exp(x)
        return x, y, y, y.T, np.zeros(3, np.float32), y[0]

    executable = assert_computes(ng.trace(fn, ng.spec((4, 4))))
    x = np.ones((4, 4), np.float32)
    found = executable(x)
    for i, a in enumerate(found):
        assert not np.shares_memory(a, x)
        assert a.flags.writeable and a.flags.owndata
        assert not any(np.shares_memory(a, b) for b in found[:i])


def test_regions_have_plans_in_scratch_memory():
    def fn(x, h):
        carry, ys = ng.scan(lambda c, t: (np.tanh(c * 0.5 + t), c.sum()), h, x)
        z = ng.cond(ys.sum() > 0, lambda a: a + 1, lambda a: a * 2, x)
        k = ng.while_loop(lambda c: c[1] < 7, lambda c: (c[0] * 0.9, c[1] + 1), (x, 0))
        return carry, ys, z, k, ng.scan(lambda c, t: (c + t, t), h, x, reverse=True), F.softmax(x)

    executable = assert_computes(ng.trace(fn, ng.spec((6, 5)), ng.spec((5,))))
    nested = [s for s in executable.plan.steps if s.nested]
    assert {s.node.op.name for s in nested} == {"scan", "cond", "while_loop", "call"}
    assert all(s.scratch for s in nested)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_scan_of_every_parity_ends_in_its_result(length):
    assert_computes(ng.trace(lambda c, xs: ng.scan(lambda c, x: (c * 2 + x, c), c, xs), ng.spec((3,)), ng.spec((length, 3))))


@pytest.mark.parametrize("steps", [0, 1, 4, 5])
def test_while_of_every_parity_ends_in_its_result(steps):
    assert_computes(ng.trace(lambda x: ng.while_loop(lambda c: c[1] < steps, lambda c: (c[0] * 2, c[1] + 1), (x, 0)), ng.spec((3,))))


def test_carries_that_change_places():
    assert_computes(ng.trace(lambda a, b: ng.scan(lambda c, _: ((c[1], c[0]), c[0]), (a, b), length=3), ng.spec((2,)), ng.spec((2,))))


# -- donation -------------------------------------------------------------------------------------------------------


def test_donated_input_takes_the_result():
    graph = ng.trace(lambda x, g: (x - g * 0.1, np.sum(g)), ng.spec((50,)), ng.spec((50,)))
    executable = assert_computes(graph, {0: 0})
    assert executable.plan.results[0][1] is False
    x, g = arrays_for(graph)
    expected = x - g * np.float32(0.1)
    y, _ = executable.run([x, g], {0: x})
    assert y is x
    np.testing.assert_array_equal(x, expected)


def test_donated_input_that_is_read_later_is_not_overwritten_early():
    graph = ng.trace(lambda x: (x + 1, np.flip(x) * 2), ng.spec((50,)))
    executable = assert_computes(graph, {0: 0})
    (x,) = arrays_for(graph)
    want = x + 1, np.flip(x) * 2
    got = executable.run([x], {0: x})
    assert got[0] is x
    for a, b in zip(got, want):
        np.testing.assert_array_equal(a, b)


def test_donated_arguments_that_change_places():
    graph = ng.trace(lambda a, b: (b, a, a + b), ng.spec((5,)), ng.spec((5,)))
    executable = assert_computes(graph, {0: 0, 1: 1})
    a, b = arrays_for(graph)
    want = b.copy(), a.copy(), a + b
    for got, expected in zip(executable.run([a, b], {0: a, 1: b}), want):
        np.testing.assert_array_equal(got, expected)


def test_writes_to_donated_arrays_come_last():
    graph = ng.trace(lambda x, y: (x * 2, np.sum(np.exp(y))), ng.spec((5,)), ng.spec((5,)))
    assert [s.node.op.name for s in make_plan(graph).steps] == ["multiply", "exp", "sum"]
    assert [s.node.op.name for s in make_plan(graph, {0: 0}).steps] == ["exp", "sum", "multiply"]


# -- memory against the lower bound -----------------------------------------------------------------------------------


def transformer_step():
    from nagraph.models.gpt2 import GPT2, GPT2Config
    from nagraph.models.language_model import next_token_loss

    model = GPT2.init(ng.random.key(0), GPT2Config(50, 32, 2, 2, 32, dropout=0.1))
    opt = ng.optim.AdamW(1e-3)

    def step(model, state, ids, key):
        loss, grads = ng.value_and_grad(lambda m: next_token_loss(m, ids, key=key))(model)
        return *opt.update(model, grads, state), loss

    return step, (model, opt.init(model), np.zeros((4, 33), np.int32), ng.random.key(1))


def convolutional_step():
    k1, k2 = ng.random.split(ng.random.key(0))
    model = {"a": ng.nn.Conv2d.init(k1, 3, 16, 3, padding=1), "norm": ng.nn.GroupNorm.init(4, 16), "b": ng.nn.Linear.init(k2, 16, 10)}
    opt = ng.optim.SGD(0.1, momentum=0.9)

    def loss(model, x, y):
        h = F.relu(model["norm"](model["a"](x)))
        return np.mean(F.cross_entropy(model["b"](np.mean(h, axis=(2, 3))), y))

    def step(model, state, x, y):
        value, grads = ng.value_and_grad(loss)(model, x, y)
        return *opt.update(model, grads, state), value

    return step, (model, opt.init(model), np.zeros((8, 3, 16, 16), np.float32), np.zeros(8, np.int32))


def recurrent_step():
    model = ng.nn.LSTM.init(ng.random.key(0), 8, 16)
    opt = ng.optim.Adam(1e-3)

    def step(model, state, x):
        value, grads = ng.value_and_grad(lambda m: np.mean(np.square(ng.tree.leaves(m(x))[0])))(model)
        return *opt.update(model, grads, state), value

    return step, (model, opt.init(model), np.zeros((4, 12, 8), np.float32))


@pytest.mark.parametrize("make", [transformer_step, convolutional_step, recurrent_step])
def test_arena_of_training_graphs_is_close_to_the_lower_bound(make):
    step, args = make()
    traced = ng.trace(step, *args)
    for passes in (find("numpy").pipeline.replace(",memory", ""), "cse,dce,expand,schedule"):
        plan = make_plan(Pipeline.parse(passes)(traced))
        check(plan)
        assert plan.lower_bound > 0
        assert plan.arena_bytes <= 1.10 * plan.lower_bound, passes


def test_offsets_keep_ranges_apart():
    rng = np.random.default_rng(0)
    for _ in range(50):
        first = rng.integers(0, 40, 60)
        ranges = [(int(n), int(a), int(a + d)) for n, a, d in zip(rng.integers(0, 5000, 60), first, rng.integers(0, 12, 60))]
        offsets, total = assign_offsets(ranges)
        assert total >= peak_bytes(ranges)
        assert total <= 1.35 * peak_bytes(ranges)
        for i, (n, a, b) in enumerate(ranges):
            assert offsets[i] % 64 == 0 and offsets[i] + n <= total
            for j in range(i):
                m, c, d = ranges[j]
                if a <= d and c <= b and n and m:
                    assert offsets[i] + n <= offsets[j] or offsets[j] + m <= offsets[i]


# -- planted faults -----------------------------------------------------------------------------------------------------


def planned():
    return make_plan(ng.trace(lambda x, y: np.sum(np.exp(x) * np.tanh(y)) + np.sum(np.exp(x)), ng.spec((64,)), ng.spec((64,))))


def test_overlapping_buffers_are_caught():
    plan = planned()
    arena = [i for i, b in enumerate(plan.buffers) if b.kind == "arena"]
    check(plan)
    caught = 0
    for i in arena:
        moved = [dataclasses.replace(b, offset=0) if k == i else b for k, b in enumerate(plan.buffers)]
        if moved == list(plan.buffers):
            continue
        with pytest.raises(VerifyError, match="overwrote|overlap"):
            check(dataclasses.replace(plan, buffers=tuple(moved)))
        caught += 1
    assert caught


def test_a_buffer_outside_the_arena_is_caught():
    plan = planned()
    with pytest.raises(VerifyError, match="does not lie, aligned"):
        check(dataclasses.replace(plan, arena_bytes=64))


def test_a_dropped_step_is_caught():
    plan = planned()
    for t in range(len(plan.steps)):
        with pytest.raises(VerifyError, match="before it is written|run by no step"):
            check(dataclasses.replace(plan, steps=plan.steps[:t] + plan.steps[t + 1:]))


def test_steps_out_of_order_are_caught():
    plan = planned()
    caught = 0
    for t in range(len(plan.steps) - 1):
        a, b = plan.steps[t:t + 2]
        if set(a.results) & set(b.operands):
            with pytest.raises(VerifyError, match="before it is written|overwrote|overlap"):
                check(dataclasses.replace(plan, steps=(*plan.steps[:t], b, a, *plan.steps[t + 2:])))
            caught += 1
    assert caught


def test_an_operand_of_another_value_is_caught():
    plan = planned()
    t, step = next((t, s) for t, s in enumerate(plan.steps) if s.node.op.name == "multiply")
    wrong = dataclasses.replace(step, operands=(step.operands[0], step.operands[0]))
    with pytest.raises(VerifyError, match="holds another value"):
        check(dataclasses.replace(plan, steps=(*plan.steps[:t], wrong, *plan.steps[t + 1:])))


def test_the_plan_prints_as_a_table():
    shown = str(planned())
    assert "arena" in shown.splitlines()[0] and "in place of" in shown and "output 0 is" in shown
