"""A composite's call says what it was called with beside its operands; calls of what was made of its body have other labels."""

from __future__ import annotations

import numpy as np

import nagraph as ng
from nagraph.ir.parser import parse
from nagraph.nn import functional as F

X, W = ng.spec((2, 3)), ng.spec((3,))


def call(f, *args):
    (found,) = [n.op for n in ng.trace(f, *args).nodes if n.op.name == "call"]
    return found


def test_options_are_static_arguments_and_operands_that_are_left_out():
    assert call(lambda x: F.layer_norm(x), X).options == ()
    assert call(lambda x, w: F.layer_norm(x, w, eps=np.float32(0.5)), X, W).options == (("eps", 0.5),)
    assert call(lambda x, b: F.layer_norm(x, None, b, eps=1e-3), X, W).options == (("weight", None), ("eps", 1e-3))
    masked = call(lambda x, m: F.attention(x[None], x[None], x[None], m, causal=True), X, ng.spec((2, 2), bool))
    assert masked.options == (("causal", True),)


def test_they_are_part_of_the_text_and_of_equality():
    graph = ng.trace(lambda x, b: F.layer_norm(x, None, b, eps=1e-3), X, W)
    assert 'options=[["weight",none],["eps",0.001]]' in str(graph)
    assert str(parse(str(graph))) == str(graph)
    other = ng.trace(lambda x, b: F.layer_norm(x, None, b, eps=1e-4), X, W)
    assert graph.nodes[0].op != other.nodes[0].op


def test_batches_and_parts_are_no_longer_the_composite_of_the_name():
    assert call(ng.vmap(F.softmax), X).label == "softmax.batch"
    graph = ng.Pipeline.parse("narrow")(ng.trace(lambda x: F.softmax(x)[:1], X))
    assert [n.op.label for n in graph.nodes if n.op.name == "call"] == ["softmax.part"]
