"""Narrowing: each op's rule for a part of its result, and what a graph costs that is read in part."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.ir.interpret import interpret
from nagraph.ir.types import type_of
from nagraph.nn import functional as F
from nagraph.ops.base import Cast, Elementwise
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.joining import Concatenate
from nagraph.ops.movement import Broadcast, Reshape, Transpose
from nagraph.ops.operands import as_array
from nagraph.ops.reduction import Reduction
from nagraph.ops.slicing import Slice
from nagraph.regions.base import region_cost
from nagraph.transforms.narrowing import narrowed
from tests.ops.test_every_op import ALL, samples

PRODUCTS = [DotGeneral(((1,), (0,))), DotGeneral(((2,), (2,)), ((0,), (0,))), DotGeneral(((0,), (1,)), ((2, 1), (0, 2))), DotGeneral()]
MOVES = [Reshape((4, 1, 6)), Reshape((2, 2, 6)), Reshape((24,)), Slice((0, 2), (4, 6), (3, 1))]
RULES = (Elementwise, Cast, Reshape, Transpose, Broadcast, Slice, Concatenate, Reduction, DotGeneral)


def boxes(shape, rng):
    """Parts of a tensor without empty axes: one index, some, all."""
    for _ in range(12):
        ends = [sorted(rng.choice(n + 1, 2, replace=False)) if rng.random() < 0.6 else (0, n) for n in shape]
        yield tuple((int(a), int(b)) for a, b in ends)


@pytest.mark.parametrize("op", [o for o in (*ALL, *PRODUCTS, *MOVES) if isinstance(o, RULES)], ids=str)
def test_a_part_of_the_result_follows_from_parts_of_the_operands(op):
    rng = np.random.default_rng(0)
    given = [(rng.normal(size=(4, 6)),)] if op in MOVES else samples(op)
    narrow = 0
    for operands in given:
        arrays = [as_array(x) for x in op.prepare(operands)]
        result = op.evaluate(*arrays)
        for box in boxes(result.shape, rng) if result.size else ():
            found = op.narrow(box, *map(type_of, arrays))
            if found is None:
                assert isinstance(op, (Reshape, Concatenate)), "only these can't do every part"
                continue
            part_op, needed = found
            parts = [a[tuple(slice(*ends) for ends in part)] for a, part in zip(arrays, needed, strict=True)]
            got = part_op.evaluate(*(np.ascontiguousarray(p).reshape(p.shape) for p in parts))
            expected = result[tuple(slice(*ends) for ends in box)]
            assert type_of(got) == type_of(expected)
            np.testing.assert_allclose(got, expected, rtol=1e-12)
            narrow += 1
    assert narrow or not any(as_array(x).size for operands in given for x in operands)


def transformer(width, heads, layers):
    """Parameters of blocks, and a function that reads the first token after them."""
    rng = np.random.default_rng(1)
    shapes = {"qkv": (width, 3 * width), "proj": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
    parameters = [{k: rng.normal(size=s) / np.sqrt(s[0]) for k, s in shapes.items()} for _ in range(layers)]

    def block(p, x):
        q, k, v = (ng.nn.split_heads(a, heads) for a in np.split(F.layer_norm(x, None, None) @ p["qkv"], 3, axis=-1))
        x = x + ng.nn.join_heads(F.attention(q, k, v, causal=True)) @ p["proj"]
        return x + F.gelu(F.layer_norm(x, None, None) @ p["up"]) @ p["down"]

    def loss(parameters, x, pick):
        for p in parameters:
            x = block(p, x)
        return (pick(x) ** 2).mean()

    return parameters, loss


def case(token):
    """Parameters and x; the loss of a token that is read, and of the same one as a sum over all tokens, 0 or 1 times each."""
    parameters, loss = transformer(16, 2, 2)
    x = np.random.default_rng(2).normal(size=(3, 32, 16))
    chosen = np.zeros((32, 1))
    chosen[token] = 1
    return (parameters, x), lambda p, x: loss(p, x, lambda y: y[:, token]), lambda p, x: loss(p, x, lambda y: (y * chosen).sum(axis=1))


@pytest.mark.parametrize("token", [0, 5, -1])
def test_of_the_last_block_one_token_is_computed(token):
    arguments, read, summed = case(token)
    graph = ng.trace(read, *arguments)
    after, arrays = narrowed(graph), ng.tree.leaves(arguments)
    np.testing.assert_allclose(interpret(after, arrays)[0], summed(*arguments), rtol=1e-12)
    # Of the last of two blocks what is left is the keys and values, and one token of the rest.
    assert region_cost(after).flops < 0.7 * region_cost(graph).flops
    assert narrowed(after) is after
    gelus = [n.results[0].shape for n in after.nodes if getattr(n.op, "label", "") in ("gelu", "gelu.part")]
    assert gelus == [(3, 32, 64), (3, 1, 64)]
    whole = ng.trace(summed, *arguments)
    assert narrowed(whole) is whole


@pytest.mark.parametrize("token", [0, 5, -1])
def test_derivatives_past_the_part_are_not_computed(token):
    arguments, read, summed = case(token)
    gradients = [ng.trace(ng.grad(f, argnums=(0, 1)), *arguments) for f in (read, summed)]
    arrays = ng.tree.leaves(arguments)
    for a, b in zip(*(interpret(g, arrays) for g in gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * np.abs(b).max())
    costs = [region_cost(g).flops for g in gradients]
    assert costs[0] < 0.7 * costs[1]
    assert any(np.abs(a).max() > 0 for a in interpret(gradients[0], arrays))


def test_nothing_changes_where_all_is_read():
    graph = ng.trace(lambda x: (np.tanh(x[:5]), np.exp(x[3:])), ng.spec((8, 3)))
    assert narrowed(graph) is graph


def test_a_node_with_an_effect_stays_as_it_is(capsys):
    def f(x):
        return ng.debug.print("all of {}", np.tanh(x))[:1] * 2

    graph = narrowed(ng.trace(f, np.zeros(3)))
    assert [n.results[0].shape for n in graph.nodes if n.op.name == "debug_print"] == [(3,)]
    interpret(graph, [np.zeros(3)])
    assert capsys.readouterr().out.count("0.") == 3


def test_nan_past_the_part_reaches_nothing():
    x = np.full((4, 3), np.nan)
    x[0] = 1
    gradient = ng.jit(ng.grad(lambda x, w: (np.tanh(x @ w)[0] ** 2).sum(), argnums=1))(x, np.eye(3))
    assert np.isfinite(gradient).all()


def test_checkpoints_compute_parts_as_well():
    @ng.checkpoint
    def layer(x):
        return np.exp(np.tanh(x))

    x = np.random.default_rng(0).normal(size=(6, 3))
    graph = narrowed(ng.trace(lambda x: layer(x)[2], x))
    assert [n.results[0].shape for n in graph.nodes if n.op.name == "call"] == [(1, 3)]
    np.testing.assert_allclose(interpret(graph, [x])[0], np.exp(np.tanh(x[2])), rtol=1e-15)
    np.testing.assert_allclose(ng.grad(lambda x: layer(x)[2].sum())(x)[2], np.exp(np.tanh(x[2])) / np.cosh(x[2]) ** 2, rtol=1e-12)
