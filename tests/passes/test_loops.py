"""Passes over loops and branches: what moves, what goes, what stays; results and derivatives keep their bits."""

from __future__ import annotations

import functools
from collections import Counter

import numpy as np
import pytest

import nagraph as ng
from nagraph import choices
from nagraph.errors import LabelError
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph
from nagraph.ir.interpret import interpret
from nagraph.ir.nested import nested_graphs
from nagraph.ops.labels import CheckLabels
from nagraph.ops.movement import iota
from nagraph.passes import licm
from nagraph.pipeline import Pipeline
from nagraph.regions.base import region_cost

RNG = np.random.default_rng(7)
W, C, XS = (RNG.normal(size=s).astype("f") / 2 for s in ((6, 6), (6,), (5, 6)))
BEFORE = "canonicalize,narrow,simplify,fold_constants,cse,dce,expand"
ALL = f"{BEFORE},fold_control,licm,prune_regions,licm,cse,dce,prune_regions"
PASSES = ("licm", "prune_regions", "fold_control", "prune_regions,licm,prune_regions")


def recurrent(w, c, xs):
    """A scan with an invariant matrix, a carry that stays, and results that nobody reads."""
    def step(state, x):
        h, k = state
        return (np.tanh(h @ np.tanh(w * k) + x), k), (np.exp(x), h)

    (h, k), (_, hs) = ng.scan(step, (c, np.float32(2)), xs)
    return h * k, hs


def nested(w, c, xs):
    """Inner and outer loop have an invariant value each; a branch and a checkpoint stand between them."""
    def inner(c, x):
        return ng.checkpoint(lambda c, w, v: np.sin(c @ np.exp(-w * w)) + v)(c, w, np.cos(x)), None

    def outer(c, x):
        y = ng.cond(x.sum() > 0, lambda c: ng.scan(lambda c, _: inner(c, x), c, None, length=3)[0], lambda c: c * 0.5, c)
        return y, y.sum()

    return ng.scan(outer, c, xs, reverse=True)


def counted(w, c, xs):
    """A while loop, whose condition has an invariant part as well."""
    def more(s):
        return (s[0] < 4) & (np.exp(-xs * xs).sum() > 0)

    return ng.while_loop(more, lambda s: (s[0] + 1, np.tanh(s[1] @ np.sin(w)) + xs[0] // (xs[1] * 0), s[2]), (0, c, xs), max_steps=6)[1:]


def known(w, c, xs):
    """Branches on constants, on the same predicate again, and loops of one iteration and none."""
    p = c.sum() > 0
    y = ng.cond(np.True_, lambda c: c + 1, lambda c: c @ w, c)
    y = ng.cond(p, lambda y: ng.cond(p, lambda y: y * 2, lambda y: y @ w, y), lambda y: y - 1, y)
    one = ng.scan(lambda c, x: (c + x, c * x), y, xs[:1])
    none = ng.scan(lambda c, x: (c + x, c * x), y, xs[:0])
    return one, none, ng.cond(p, lambda y: y, lambda y: y, y), ng.while_loop(lambda y: np.False_, lambda y: y * 2, y, max_steps=3)


def stacked(w, c, xs):
    """A loop that stacks an invariant value and its slices, and one that reads them."""
    def step(c, x):
        return c + x, (np.tanh(w), x, np.zeros(2, "f"))

    c, (ws, ys, zeros) = ng.scan(step, c, xs)
    return ng.scan(lambda c, z: (c @ z[0] + z[1], None), c, (ws, ys))[0], zeros


def seeded(w, c, xs):
    """Random numbers of an invariant key, a sort, a mask."""
    def step(c, x):
        noise = ng.random.normal(ng.random.key(3), (6,)).astype("float32") * np.sort(w[0])
        return ng.where(np.arange(6) < 3, c * noise, x), c

    return ng.scan(step, c, xs)


PROGRAMS = {f.__name__: f for f in (recurrent, nested, counted, known, stacked, seeded)}


def scalar(fn):
    return lambda *xs: sum(y.sum() for y in ng.tree.leaves(fn(*xs)) if y.dtype == np.float32)


@functools.cache
def graph_of(name: str, derived: bool) -> Graph:
    fn = PROGRAMS[name]
    return ng.trace(ng.grad(scalar(fn), (0, 1, 2)) if derived else fn, W, C, XS)


def same(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def runs(graph: Graph, arrays, name: str) -> int:
    """How often the reference runs an op of this name, at any depth."""
    op = next(n.op for g in nested_graphs(graph) for n in g.nodes if n.op.name == name)
    count, kind = Counter[str](), type(op)
    with pytest.MonkeyPatch.context() as patched:
        plain = kind.evaluate
        patched.setattr(kind, "evaluate", lambda self, *xs: (count.update([self.name]), plain(self, *xs))[1])
        interpret(graph, arrays)
    return count[name]


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def inside(graph: Graph) -> list[str]:
    return [n.op.name for g in nested_graphs(graph) if g is not graph for n in g.nodes]


def forced(passes: str, graph: Graph) -> Graph:
    """The graph after these passes, where what is small moves as well."""
    with choices.using("force=licm"):
        return Pipeline.parse(passes, verify=True)(graph)


# -- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", [*PASSES, ALL])
@pytest.mark.parametrize("derived", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_outputs_keep_their_bits(name, derived, passes):
    graph = graph_of(name, derived)
    expected = interpret(graph if passes in PASSES else Pipeline.parse(BEFORE)(graph), [W, C, XS])
    for mode in ("", "force=licm", "chaos=1", "chaos=2"):
        with choices.using(mode):
            after = Pipeline.parse(passes, verify=True)(graph)
        same(interpret(after, [W, C, XS]), expected)


@pytest.mark.parametrize("derived", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_keep_their_bits(name, derived):
    """Compiled, with the passes and without: each decision forced and forbidden."""
    graph = graph_of(name, derived)
    found = []
    for mode in ("forbid=licm+prune_regions+fold_control", "force=licm", "", "forbid=licm"):
        with choices.using(mode):
            found.append(ng.compile(graph)(W, C, XS))
    for got in found[1:]:
        same(got, found[0])


# -- what moves ----------------------------------------------------------------------------------------------------------


def test_an_invariant_value_is_computed_once():
    graph = graph_of("recurrent", False)
    after = forced(ALL, graph)
    assert runs(graph, [W, C, XS], "tanh") == 2 * len(XS) and runs(after, [W, C, XS], "tanh") == 1 + len(XS)
    assert "exp" not in inside(after) and "exp" not in names(after)
    assert region_cost(after).flops < region_cost(graph).flops - 4 * W.size


def test_invariant_values_leave_all_loops_that_they_are_invariant_in():
    def f(w, c):
        return ng.scan(lambda c, _: (ng.scan(lambda c, _: (c @ np.exp(w) + np.sin(c.sum()), None), c, None, length=3)[0], None), c, None,
                       length=4)[0]

    graph = ng.trace(f, W, C)
    after = forced("licm", graph)
    assert runs(graph, [W, C], "exp") == 12 and runs(after, [W, C], "exp") == 1
    assert names(after).count("exp") == 1 and "sin" in inside(after)


def test_derivatives_do_not_stack_what_never_changes():
    """Reverse mode saves tanh(w) of each iteration; it is computed once, and not saved."""
    def loss(w, c):
        return ng.scan(lambda c, _: (c @ np.tanh(w), None), c, None, length=50)[0].sum()

    w, c = RNG.normal(size=(64, 64)).astype("f") / 8, RNG.normal(size=64).astype("f")
    graph = ng.trace(ng.grad(loss), w, c)
    with choices.using("forbid=licm+prune_regions"):
        before = ng.compile(graph)
    after = ng.compile(graph)
    assert before.arena_nbytes > 50 * w.nbytes and after.arena_nbytes < 10 * w.nbytes
    assert all(r.shape != (50, 64, 64) for n in after.graph.nodes for r in n.results if n.op.name == "scan")
    np.testing.assert_allclose(after(w, c)[0], before(w, c)[0], rtol=1e-5, atol=1e-6)


def test_kernels_of_a_loop_become_fewer():
    def f(w, v, c):
        return ng.scan(lambda c, _: (np.tanh(c @ (w @ v)), None), c, None, length=100)[0]

    w = np.eye(32, dtype="f")
    graph = ng.trace(f, w, w, w[0])
    with choices.using("forbid=licm"):
        before = ng.compile(graph)
    after = ng.compile(graph)
    (loop,) = [n for n in after.graph.nodes if n.op.name == "scan"]
    assert region_cost(loop.op.body).flops < 4 * 32 * 32 < 2 * 32**3 < region_cost(after.graph).flops
    assert region_cost(before.graph).flops > 100 * 2 * 32**3
    same(after(w, w, w[0]), before(w, w, w[0]))


# -- what stays -------------------------------------------------------------------------------------------------------------


def test_what_kernels_make_as_they_go_stays():
    """A value repeated, and a mask of indices: memory would hold, and loops would read, more than what they are made of."""
    def step(c, k):
        return (np.ones((512, 1), "f") * k * 2 * c).sum(0) + ng.where(iota("int32", (6,)) * 2 < 3, c, k)

    graph = Pipeline.parse("canonicalize,expand")(
        ng.trace(lambda c, k: ng.scan(lambda c, _: (step(c, k), None), c, None, length=1000)[0], C, C))
    after = Pipeline.parse("licm")(graph)
    (loop,) = [n for n in after.nodes if n.op.name == "scan"]
    assert {"less", "iota", "multiply"} <= set(inside(after)) and all(v.size <= C.size for v in loop.operands)


def test_what_is_cheaper_to_compute_than_to_launch_stays():
    def f(c, k):
        return ng.scan(lambda c, _: (c * (k + 1), None), c, None, length=20)[0]

    graph = ng.trace(f, C, C)
    assert Pipeline.parse("licm")(graph) is graph and names(forced("licm", graph)).count("add") == 1


def test_a_loop_holds_no_more_memory_than_the_limit(monkeypatch):
    """Ten products of 16 kB that are computed and read one after another would all live as long as the loop."""
    def f(w, c):
        def step(c, _):
            for k in range(10):
                c = np.tanh(((w + k) @ (w + k).T * c).sum())
            return c, None

        return ng.scan(step, c, None, length=100)[0]

    w = np.ones((64, 4), "f")
    graph = ng.trace(f, w, np.float32(1))
    for limit, products in ((1 << 24, 10), (1 << 16, 4)):
        monkeypatch.setattr(licm, "MOST_NBYTES", limit)
        after = Pipeline.parse("licm", verify=True)(graph)
        (loop,) = [n for n in after.nodes if n.op.name == "scan"]
        assert names(after).count("dot_general") == products and inside(after).count("dot_general") == 10 - products
        assert sum(v.type.nbytes for v in loop.operands) <= w.nbytes + 4 + limit
        same(interpret(after, [w, np.float32(1)]), interpret(graph, [w, np.float32(1)]))


def test_a_loop_without_iterations_raises_nothing_that_it_did_not():
    def f(y, n):
        return ng.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] + CheckLabels(3)(y).sum()), (np.int64(0), np.int64(0)))[1]

    wrong = np.array([0, 7])
    for mode in ("", "force=licm"):
        with choices.using(mode):
            g = ng.jit(f)
            assert g(wrong, np.int64(0)) == 0
            with pytest.raises(LabelError):
                g(wrong, np.int64(2))
    graph = ng.trace(f, wrong, np.int64(0))
    after = forced("licm", graph)
    assert "check_labels" in inside(after) and "check_labels" not in names(after)


def test_a_scan_that_has_iterations_checks_once():
    graph = ng.trace(lambda y: ng.scan(lambda c, _: (c + CheckLabels(3)(y).sum(), None), np.int64(0), None, length=200)[0], np.arange(3))
    after = forced("licm", graph)
    assert names(after).count("check_labels") == 1 and "check_labels" not in inside(after)


def test_loops_that_may_not_end_stay_in_loops_that_may_not_begin():
    def f(x, n):
        def body(s):
            return s[0] + 1, s[1] + ng.while_loop(lambda y: y < 100, lambda y: y + x, x)

        return ng.while_loop(lambda s: s[0] < n, body, (np.int64(0), x))[1]

    for mode in ("", "force=licm"):
        with choices.using(mode):
            assert ng.jit(f)(np.float32(0), np.int64(0)) == 0  # with x = 0 the inner loop would not end


def test_integers_are_divided_by_zero_in_no_new_place():
    def f(x, n):
        return ng.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] + 5 // x), (np.int64(0), x))[1]

    with choices.using("force=licm"):
        g = ng.jit(f)
    assert g(np.int64(0), np.int64(0)) == 0 and g(np.int64(2), np.int64(3)) == 8


def test_prints_stay_as_many_as_they_were(capsys):
    def f(x):
        def step(c, _):
            ng.debug.print("x {}", x)
            return c, (ng.debug.print("dead {}", x * 2), c)

        return ng.scan(step, x, None, length=3)[0]

    for mode in ("", "force=licm"):
        with choices.using(mode):
            assert ng.jit(f)(np.int64(1)) == 1
        assert capsys.readouterr().out == "x 1\ndead 2\n" * 3


# -- what goes ----------------------------------------------------------------------------------------------------------------


def test_operands_and_results_that_nobody_needs_go():
    after = Pipeline.parse(ALL, verify=True)(graph_of("recurrent", False))
    (loop,) = [n for n in after.nodes if n.op.name == "scan"]
    assert (loop.op.consts, loop.op.carries, len(loop.operands), len(loop.results)) == (1, 1, 3, 2)


def test_a_value_that_is_stacked_and_read_slice_by_slice_is_a_const_of_both_loops():
    after = Pipeline.parse(ALL, verify=True)(graph_of("stacked", False))
    one, two = [n for n in after.nodes if n.op.name == "scan"]
    assert len(one.results) == 1 and two.op.consts == 1 and names(after).count("tanh") == 1
    assert all(v.size <= XS.size for n in (one, two) for v in (*n.operands[2:], *n.results))


def test_control_flow_that_is_known_is_gone():
    after = Pipeline.parse(ALL, verify=True)(graph_of("known", False))
    assert Counter(n for n in (*names(after), *inside(after)) if n in ("cond", "scan", "while_loop")) == {"cond": 1}
    assert "dot_general" not in (*names(after), *inside(after))


def test_numbers_stand_in_the_regions_that_read_them():
    def f(x, p):
        two = ng.numpy.asarray(2.0, dtype="float32")
        return ng.cond(p, lambda x: x * two * 0.5, lambda x: x + two, x)

    graph = ng.trace(f, C, np.True_)
    after = Pipeline.parse("prune_regions,simplify,fold_constants,dce")(graph)
    (node,) = [n for n in after.nodes if n.op.name == "cond"]
    assert len(node.operands) == 2 and any(isinstance(n.op, Constant) for n in node.op.false.nodes)


@pytest.mark.parametrize("name", PASSES)
def test_a_graph_without_regions_is_itself(name):
    graph = ng.trace(lambda x: np.tanh(x) * 2, C)
    assert Pipeline.parse(name)(graph) is graph


def test_the_passes_are_linear_in_loops_within_loops():
    """Each level holds the one below once; every region is looked at a bounded number of times."""
    def f(x, depth):
        return np.tanh(x) if not depth else ng.scan(lambda c, _: (f(c + np.exp(x), depth - 1), None), x, None, length=2)[0]

    visited, rebuild = Counter[int](), Graph.rebuild
    for depth in (4, 8):
        graph = ng.trace(lambda x, depth=depth: f(x, depth), C)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Graph, "rebuild", lambda self, visit, depth=depth: (visited.update([depth]), rebuild(self, visit))[1])
            Pipeline.parse(ALL)(graph)
    assert visited[8] < 2.5 * visited[4]
