"""Traces of sizes that are known later: what the graph of known sizes is, and what can't be traced so."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import PassError, SizeError, TypeRuleError
from nagraph.ir.interpret import interpret
from nagraph.nn import functional as F
from nagraph.pipeline import any_sizes, graph_pass
from tests.support import in_order_of_use

B, N = ng.Dim("b", max=64), ng.Dim("n", min=2)
PASSES = ng.Pipeline.parse("canonicalize,narrow,simplify,fold_constants,cse,dce")
np_ = ng.numpy

#: Functions and the shapes of their operands: what is traced with b and n, and then known, is what a trace of these sizes is.
FUNCTIONS = {
    "product": (lambda x, w: np.tanh(x @ w) * 2, (B, 4 * N + 1), (4 * N + 1, 7)),
    "reshape": (lambda x: x.reshape(x.shape[0] * x.shape[1], 4).reshape(-1, 2)[..., 0].reshape(x.shape[0], -1), (B, N, 4)),
    "flatten": (lambda x: x.reshape(x.shape[0], -1).ravel(), (B, N, 4)),
    "whole quotient": (lambda x: x.reshape(-1, x.shape[1] // 2, 2), (B, 2 * N)),
    "statistics": (lambda x: x.mean(axis=1) + x.var(axis=1) + x.std(axis=0, ddof=1).sum(), (B, N)),
    "numbers": (lambda x: x / x.shape[0] + x.shape[1] * x + (x.shape[0] + 0.5) * x + 1 / x.shape[1], (B, N)),
    "weak numbers": (lambda x: x * (x.shape[1] / 3) + x.shape[1] ** 0.5, (B, N)),
    "arange": (lambda x: x + np_.arange(x.shape[1]) + np_.arange(2, x.shape[1] + 2), (B, N)),
    "slices": (lambda x: (x[1:, ::2], x[:-1], x[:1], x[::-1, -1], x[-2:, None], x[..., :2]), (N, N)),
    "set_at": (lambda x: np_.set_at(x, (slice(1, None), 0), 3.0), (N, N)),
    "add_at": (lambda x: np_.add_at(x, (np.array([0, 1]), slice(None)), x[:2]), (N, B)),
    "joining": (lambda x: (np.concatenate([x, x[1:]], 0), np.stack([x, x], 1), np.tile(x, (2, 1)), np.repeat(x, 3, 1)), (N, B)),
    "padding": (lambda x: np.pad(x, ((0, 1), (2, 0))), (N, B)),
    "split": (lambda x: np.split(x, 2), (2 * N, B)),
    "roll": (lambda x: np.roll(x, 1, 0), (N, B)),
    "running": (lambda x: np.cumsum(x, 0) + np.cumprod(x, 1), (N, B)),
    "triangles": (lambda x: np.tril(x) + np.triu(x, 1), (N, B)),
    "eye": (lambda x: x * np_.eye(x.shape[0], dtype="f4"), (N, N)),
    "sorting": (lambda x: np.sort(x, 0) + np.argmax(x, 1)[:, None], (N, B)),
    "gather": (lambda x, i: (np.take(x, 0, axis=0), np.take_along_axis(x, i, 0), x[0, 1:]), (N, B), ((N, B), "i4")),
    "einsum": (lambda x: np.einsum("ij,kj->ik", x, x), (N, B)),
    "filled": (lambda x: np_.zeros(x.shape[1]) + np_.ones((x.shape[1],)) + np.zeros_like(x), (N, B)),
    "broadcast": (lambda x: np.broadcast_to(x, (3, *x.shape)), (1, N)),
    "extremes of sizes": (lambda x: x[:, :np.minimum(x.shape[1], 4)] * x[:np.maximum(x.shape[0] - 2, 1), :1].sum(), (B, N)),
    "convolution": (lambda x, w: np.maximum(F.conv(x, w, padding=1), 0), (B, 3, 8, 8), (4, 3, 3, 3)),
    "images of any size": (lambda x, w: F.conv(x, w, padding=1) + F.conv(x, w, padding="same"), (B, 3, N + 6, N), (4, 3, 3, 3)),
    "gradient of convolution": (ng.grad(lambda w, x: (F.conv(x, w) ** 2).sum(), argnums=(0, 1)), (4, 3, 3, 3), (B, 3, N + 6, N + 1)),
    "strided convolution": (lambda x, w: F.conv(x, w, stride=2, padding=1), (B, 3, 2 * N, 2 * N), (4, 3, 3, 3)),
    "pooling": (lambda x: (F.max_pool(x, 2), F.avg_pool(x, 3, stride=2, padding=1, count_padding=False)),
                (B, 3, 2 * N + 2, 8)),
    "recurrent": (lambda x, w, u, b: ng.nn.GRU(w, u, b, b)(x)[0], (B, N, 3), (3, 12), (4, 12), (12,)),
    "gradient of sorting": (ng.grad(lambda x: (np.sort(x, 1)[:, 0] * np.sort(x, 1)[:, 1]).sum()), (B, N)),
    "keys": (lambda x: ng.random.split(ng.random.key(0), x.shape[0]) + np.uint32(0), (N,)),
    "softmax": (lambda x: F.softmax(x, axis=-1) + F.log_softmax(x, axis=0), (N, B)),
    "attention": (lambda q, k: F.attention(q, k, k, causal=True), (B, 4, N, 8), (B, 2, N, 8)),
    "layer_norm": (lambda x: F.layer_norm(x, np.ones(8, "f4"), np.zeros(8, "f4")), (B, N, 8)),
    "scan": (lambda x: ng.scan(lambda c, y: (c + y, c * y), x[0], x), (N, B)),
    "cond": (lambda x: ng.cond(x.sum() > 0, lambda x: x[1:], lambda x: -x[:-1], x), (N, B)),
    "checkpoint": (ng.grad(lambda x: ng.checkpoint(lambda x: np.sin(x) * x.shape[0])(x).sum()), (N, B)),
    "random": (lambda x: x * ng.random.normal(ng.random.key(0), x.shape), (N, B)),
    "gradient": (ng.grad(lambda x: (np.tanh(x[1:] * x[:-1]) @ x[0]).mean()), (N, B)),
    "gradient of slices": (ng.grad(lambda x: (x[::2].sum() * x[-1] + x[1:3].mean()).sum()), (N + 2, B)),
    "gradient of attention": (ng.grad(lambda q: F.attention(q, q, q, causal=True).sum()), (B, 4, N, 8)),
    "forward mode": (lambda x: ng.jvp(lambda x: np.prod(x, 1) * x.max(1), (x,), (x,)), (N, B)),
    "vmap": (ng.vmap(ng.grad(lambda x: np.prod(x) * x.max())), (N, B)),
    "vmap of sizes that agree": (ng.vmap(lambda x, y: x @ y), (N, B), (N, B)),
    "slices that may be empty": (ng.grad(lambda x: (x[2:] ** 2).sum() + x[:0].sum()), (N, B)),
    "hessian": (lambda x: ng.hvp(lambda x: (x ** 3).mean(), x, x), (N, B)),
}
SIZES = ({"b": 3, "n": 4}, {"b": 1, "n": 2}, {"b": 5, "n": 9}, {"b": 64, "n": 3})


def spec(operand):
    shape, dtype = operand if isinstance(operand[0], tuple) else (operand, "f4")
    return ng.spec(shape, dtype)


def twice(graph):
    return in_order_of_use(PASSES(PASSES(graph)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_graph_of_known_sizes_is_that_of_a_trace_of_them(name):
    function, *operands = FUNCTIONS[name]
    specs = [spec(o) for o in operands]
    graph = ng.trace(function, *specs)
    ng.verify(graph)
    assert ng.parse(str(graph)) == graph and graph.dims
    simplified = PASSES(graph)
    ng.verify(simplified)
    assert ng.parse(str(simplified)) == simplified
    rng = np.random.default_rng(0)
    for sizes in SIZES:
        given = {d.name: sizes[d.name] for d in graph.dims}
        made = graph.specialise(given)
        ng.verify(made)
        known = ng.trace(function, *[ng.spec(v.shape, v.dtype) for v in made.inputs])
        assert made.output_types == known.output_types
        if min(given.values()) > 2:  # of parts that have one element, a trace of known sizes makes less
            assert twice(made) == twice(known), sizes
        arrays = [rng.integers(0, 2, v.shape).astype("i4") if v.dtype == "i4" else rng.normal(size=v.shape).astype("f4")
                  for v in made.inputs]
        outputs = [ng.compile(g, backend="numpy")(*arrays) for g in (made, known, simplified.specialise(given))]
        for row in zip(*outputs, strict=True):
            assert all(np.array_equal(row[0], other, equal_nan=True) for other in row[1:]), sizes


@pytest.mark.parametrize(("function", "operands", "message"), [
    (lambda x, y: x + y, [(N, 3), (B, 3)], r"add: it is not known whether the sizes n and b are equal .* one and the same dimension"),
    (lambda x, y: x @ y, [(B, N), (B, 3)], r"dot: it is not known whether the sizes n and b are equal"),
    (lambda x: x + np.ones(8, "f4"), [(N,)], r"add: .* n and 8 are equal .*or the argument the size 8 \(test_symbolic_sizes.py:\d+\)"),
    (lambda x: np.concatenate([x, np.ones((2, 3), "f4")], 0), [(N, B)], "concatenate: .* sizes 3 and b are equal|b and 3 are equal"),
    (lambda x: x.reshape(x.shape[0] // 2, 2), [(N,)], r"reshape: .* sizes 2\*floordiv\(n,2\) and n are equal .*one and the same dimension"),
    (lambda x: x.reshape(2, -1), [(2 * N + 1,)], r"reshape: 2\*n\+1 does not divide by 2"),
    (lambda x, y: ng.vmap(lambda x, y: x * y)(x, y), [(B, 3), (N, 3)], "vmap: .* sizes b and n are equal"),
    (lambda x, y: ng.scan(lambda c, r: (c, r), 0.0, (x, y)), [(B, 3), (N, 3)], "scan: .* sizes b and n are equal"),
    (lambda x: np.squeeze(x, 0), [(B, 3)], "squeeze: .* sizes b and 1 are equal"),
    (lambda x: x[5], [(N,)], "it is not known whether 5 < n"),
    (lambda x: x if x.shape[0] > 5 else -x, [(N,)], r"it is not known whether 5 < n \(n from 2\); give the dimension bounds that tell"),
    (lambda x: x * int(x.shape[0]), [(N,)], r"int\(\) needs a number, and the size n is known later"),
    (lambda x: sum(x[i] for i in range(x.shape[0])), [(N,)], "an index, a range or a plain array needs a number"),
    (lambda x: [y for y in x], [(N,)], "an index, a range or a plain array needs a number"),
    (lambda x: x + np.ones(20, "f4")[:x.shape[0]], [(N,)], r"ng.numpy.dynamic_slice\(table, \(0,\), \(n,\)\) for a captured array"),
    (lambda x: x * np.ones((x.shape[0],)), [(N,)], "an index, a range or a plain array needs a number"),
])
def test_what_is_not_known_is_an_error_with_the_line(function, operands, message):
    with pytest.raises(SizeError, match=message) as caught:
        ng.trace(function, *map(ng.spec, operands))
    assert "(test_symbolic_sizes.py:" in str(caught.value)


def test_sizes_that_differ_for_sure_are_the_errors_they_always_are():
    with pytest.raises(TypeRuleError, match=r"add: shapes do not broadcast: .* have sizes n and n\+1 on axis -1"):
        ng.trace(lambda x, y: x + y, ng.spec((N,)), ng.spec((N + 1,)))
    with pytest.raises(TypeRuleError, match=r"dot: contracted sizes differ: x f32\[b,n\] axis 1 is n"):
        ng.trace(lambda x, y: x @ y, ng.spec((B, N)), ng.spec((2 * N, 3)))


def test_only_a_literal_1_broadcasts_and_is_squeezed():
    made = ng.trace(lambda x, y: np.squeeze(x + y), ng.spec((B, 1)), ng.spec((1, 3)))
    assert made.output_types == (ng.spec((B, 3)),)
    assert ng.trace(np.squeeze, ng.spec((B, 1))).specialise({"b": 1}).output_types == (ng.spec((1,)),)


def test_a_shape_that_only_known_sizes_make_wrong_is_refused_with_the_line():
    graph = ng.trace(lambda x: x.max(axis=0), ng.spec((ng.Dim("k", min=0), 3)))
    with pytest.raises(TypeRuleError, match=r"max: f32\[0,3\] has no elements along axes \[0\].*\(test_symbolic_sizes.py:\d+\)"):
        graph.specialise({"k": 0})


def test_a_size_that_is_a_result_is_a_number():
    graph = ng.trace(lambda x: (x.shape[0], x.shape[0] * 2 + 1), ng.spec((N,)))
    assert [n.op.name for n in graph.nodes] == ["size", "size"] and {t.dtype for t in graph.output_types} == {np.dtype("i8")}
    assert [n.op.name for n in graph.specialise({"n": 5}).nodes] == ["const", "const"]


def test_passes_that_decide_by_sizes_are_refused_and_marked_ones_are_not():
    graph = ng.trace(lambda x: x * 2, ng.spec((N,)))
    with pytest.raises(PassError, match=r"pass fuse .* it runs once all sizes are known, and here n from 2; graph.specialise"):
        ng.Pipeline.parse("cse,fuse")(graph)

    @graph_pass
    def mine(graph):
        return graph

    with pytest.raises(PassError, match="once all sizes are known"):
        ng.Pipeline(mine)(graph)
    assert ng.Pipeline(any_sizes(mine))(graph) is graph
    assert ng.Pipeline.parse("cse,fuse")(graph.specialise({"n": 3})).dims == ()


def test_narrowing_and_rules_know_what_follows_from_bounds_alone():
    text = str(PASSES(ng.trace(lambda x: np.tanh(x)[:1], ng.spec((N, B)))))
    assert text.index("slice") < text.index("tanh") and "f32[1,b] = tanh" in text
    assert "slice" not in str(PASSES(ng.trace(lambda x: (x[:] + 0.0 * x)[0:x.shape[0]], ng.spec((N, B)))))


def test_the_oracle_and_types_of_results_take_sizes_that_are_known_later():
    graph = ng.trace(lambda x: x.mean(axis=0) * x.shape[0], ng.spec((N, 3)))
    x = np.arange(6, dtype="f4").reshape(2, 3)
    assert np.array_equal(interpret(graph, [x])[0], x.sum(axis=0))
    assert ng.eval_shape(lambda x: x[1:].T, ng.spec((N, B))) == ng.spec((B, N - 1))


@pytest.mark.filterwarnings("ignore:.*float64 scalar")
def test_numbers_of_sizes_have_the_dtypes_of_numbers():
    """Python's operators make weak numbers of integers, NumPy's functions strong ones: so they do of sizes."""
    for function in (lambda x: x * (x.shape[0] / 2), lambda x: x * x.shape[0] ** 0.5, lambda x: x + x.shape[0] * 1.5,
                     lambda x: x * np.sqrt(x.shape[0]), lambda x: np.log(x.shape[0]), lambda x: x.shape[0] < 2.5):
        (made,), (known,) = (ng.trace(function, ng.spec(shape)).output_types for shape in ((N,), (3,)))
        assert made.dtype == known.dtype
