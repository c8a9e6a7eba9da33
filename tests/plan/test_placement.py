"""Placement: what is joined or padded stands in the larger value from the start, and nothing is copied."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

import nagraph as ng
from nagraph import sanitizing
from nagraph.analysis.constants import HOIST_NBYTES
from nagraph.backends import find
from nagraph.backends.llvm.executable import compile as compile_graph
from nagraph.errors import VerifyError
from nagraph.ir.interpret import interpret
from nagraph.kernel.interpret import interpret_kernel
from nagraph.kernel.layout import StridedLayout, row_major
from nagraph.nn import functional as F
from nagraph.pipeline import Pipeline
from nagraph.plan import check
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.plan.placement import border, placements
from tests.graphs import arrays_for, graphs

RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def executable(fn, *arrays):
    exe = ng.jit(fn).lower(*arrays).executable
    check(exe.plan)
    for got, want in zip(exe(*arrays), interpret(ng.trace(fn, *arrays), arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
    return exe


def poisoned(graph):
    """An executable whose arena holds nan at first, so that what nobody writes shows."""
    exe = compile_graph(graph)
    if sanitizing.is_on():  # guarded memory is covered so at each call
        return exe
    arena = exe.calls.arenas.take()
    arena.bytes[:] = 255
    exe.calls.arenas.leave(arena)
    return exe


def joined(exe):
    return [s.node for s in exe.plan.steps if s.joined]


def copies(exe):
    """Launches that only join or pad."""
    return [x for x in exe.launches if x.node is not None and x.node.op.name in ("pad", "concatenate") and len(x.slots) > 1]


def test_a_convolution_is_written_inside_the_border_that_the_next_one_reads():
    def fn(x, w):
        y = F.relu(F.conv(x, w, padding=1))
        return F.conv(F.relu(F.conv(y, w, padding=1)) + y, w, padding=1)

    exe = executable(fn, array(2, 8, 12, 12), array(8, 8, 3, 3))
    assert [n.op.name for n in joined(exe)] == ["pad", "pad"]
    assert len(copies(exe)) == 1, "only the argument is copied into a border"


def test_gradients_of_queries_keys_and_values_are_written_side_by_side():
    def fn(x, w):
        q, k, v = (ng.nn.split_heads(p, 2) for p in np.split(x @ w, 3, axis=-1))
        return (ng.nn.join_heads(F.attention(q, k, v, causal=True)) ** 2).sum()

    gradient = ng.grad(fn, argnums=1)
    exe = executable(gradient, array(2, 64, 16), array(16, 48))
    assert [n.op.name for n in joined(exe)] == ["concatenate"] and not copies(exe)


def quarters():
    """A graph of four products, two side by side and below them two more, and the argument; nothing of it is fused."""
    def fn(x, w):
        a, b, c, d = (x @ w[i] for i in range(4))
        whole = np.concatenate([np.concatenate([a, b], axis=1), np.concatenate([c, d], axis=1)], axis=0)
        return whole.T @ whole

    arrays = array(40, 16), array(4, 16, 16)
    return ng.trace(fn, *arrays), arrays


def test_what_is_joined_of_joined_values_is_placed_in_the_outermost():
    graph, arrays = quarters()
    _, plan = kernel_plan(graph, {})
    check(plan)
    made = [s for s in plan.steps if s.joined]
    assert len(made) == 3 and len({plan.slots[s.results[0]].buffer for s in made}) == 1
    got, want = (f(*arrays)[0] for f in (compile_graph(graph), lambda *a: interpret(graph, a)))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("fn", [
    lambda x, y: np.concatenate([x, np.tanh(y) @ y.T], axis=1),  # the result of the graph: no arena to stand in
    lambda x, y: np.concatenate([x, x], axis=1) @ np.ones((12, 3), "f4"),  # arguments
], ids=["output", "arguments"])
def test_what_stands_elsewhere_is_copied(fn):
    x, y = array(6, 6), array(6, 4)
    executable(fn, x, y)
    assert not placements(ng.trace(fn, x, y))[0]


def test_an_output_or_a_value_joined_twice_is_not_placed():
    def fn(x):
        y = x @ x.T
        return y, np.concatenate([y, y], axis=1) @ np.ones((12, 3), "f4")

    assert not placements(ng.trace(fn, array(6, 6)))[0]
    executable(fn, array(6, 6))


def test_the_border_of_a_pad():
    graph = ng.trace(lambda x: np.pad(x, ((0, 0), (1, 2), (3, 0)), constant_values=7.0), array(2, 3, 4))
    (node,) = graph.nodes
    around = np.pad(np.zeros((2, 3, 4), "f4"), ((0, 0), (1, 2), (3, 0)), constant_values=7.0)
    out = np.zeros((2, 6, 7), np.float32)
    interpret_kernel(border(node, row_major(out.shape)), [], [out])
    np.testing.assert_array_equal(out, around)
    larger = np.zeros((2, 6, 10), np.float32)
    interpret_kernel(border(node, StridedLayout(3, (60, 10, 1))), [], [larger])
    np.testing.assert_array_equal(larger[:, :, 3:], around)
    assert not larger[:, :, :3].any()


def test_a_border_inside_another_value():
    """Where memory is reused, what is not written holds what others left there."""
    def fn(x, w):
        a, b = np.tanh(x @ w), np.exp(x @ w[:, ::-1])
        a = np.pad(a @ w, ((2, 2), (3, 0)))
        return np.concatenate([a, np.pad(b @ w, ((4, 0), (0, 3)))], axis=1).T @ np.ones((20, 3), "f4")

    graph = ng.trace(fn, array(16, 16), array(16, 16))
    placed, joining = placements(graph)
    assert len(joining) == 3 and len({p.whole for p in placed.values()}) == 1
    _, plan = kernel_plan(graph, {})
    check(plan)
    arrays = array(16, 16), array(16, 16)
    got, want = poisoned(graph)(*arrays)[0], interpret(graph, arrays)[0]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_parts_that_overlap_are_found():
    _, plan = kernel_plan(quarters()[0], {})
    first, second = [i for i, s in enumerate(plan.slots) if s.part is not None and s.type.shape == (40, 16)][:2]
    slots = list(plan.slots)
    slots[second] = dataclasses.replace(slots[second], part=slots[first].part)
    with pytest.raises(VerifyError, match="overlap|overwrote"):
        check(dataclasses.replace(plan, slots=tuple(slots)))


@settings(max_examples=60, deadline=None)
@given(graph=graphs())
def test_plans_of_random_graphs_are_sound(graph):
    optimised = Pipeline.parse(find("llvm").pipeline)(graph)
    _, plan = kernel_plan(optimised, {})
    check(plan)
    arrays = arrays_for(graph)
    for a, b in zip(poisoned(optimised)(*arrays), interpret(graph, arrays), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(b[np.isfinite(b)]).max(initial=0)))


def test_what_the_compiler_computes_itself_is_not_placed():
    """No kernel writes it, so joining must copy it."""
    def f(x):
        ones = np.broadcast_to(np.float32(1), (3, 4)) * ng.numpy.ones((3, 4), np.float32)
        half = ng.numpy.set_at(x[:3, :4], (slice(None), slice(None)), ones)
        return [np.concatenate([x * 2, half.T @ half], axis=0) + 1, np.pad(half.T @ half, 1) * 2, np.stack([x * 3, (half.T @ half)])]

    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    for passes in ("", None):
        for got, expected in zip(ng.jit(f, passes=passes)(x), f(x), strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.filterwarnings("ignore:an array")
def test_constants_are_put_in_another_order_once():
    """A weight that a product wants with its axes changed costs nothing at a call, however large it is."""
    w = RNG.normal(size=(256, 128, 3, 3)).astype(np.float32)
    x = array(2, 128, 12, 12)
    exe = executable(lambda x: F.conv(x, w, padding=1), x)
    assert w.nbytes > HOIST_NBYTES and any(c.shape == (3, 3, 128, 256) for c in exe.plan.constants.values())
    assert not any(n.op.name == "materialize" for n in (s.node for s in exe.plan.steps))
