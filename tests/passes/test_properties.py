"""Every pass on random graphs: outputs kept, signatures kept, deterministic, idempotent where it says so."""

import numpy as np
import pytest
from hypothesis import given, settings

import nagraph as ng
from nagraph.backends import find
from nagraph.backends.numpy import compile as compile_graph
from nagraph.ir.interpret import interpret
from nagraph.pipeline import Pipeline, pass_names
from nagraph.plan import check, make_plan
from tests.graphs import arrays_for, graphs

IDEMPOTENT = ("canonicalize", "narrow", "simplify", "fold_constants", "cse", "dce", "expand")
OPTIONS = {"fuse": "fuse{min_nbytes=0}", "rematerialize": "rematerialize{min_nbytes=0}"}


def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", pass_names())
@settings(max_examples=60, deadline=None)
@given(graph=graphs())
def test_outputs_are_kept(name, graph):
    once = Pipeline.parse(OPTIONS.get(name, name), verify=True)
    after = once(graph)
    assert (after.input_types, after.output_types) == (graph.input_types, graph.output_types)
    arrays = arrays_for(graph)
    for a, b in zip(interpret(graph, arrays), interpret(after, arrays), strict=True):
        same(a, b)
    assert str(once(graph)) == str(after)
    if name in IDEMPOTENT:
        assert once(after) == after


@settings(max_examples=150, deadline=None)
@given(graph=graphs())
def test_the_whole_pipeline_and_its_plan(graph):
    """Optimised, planned and run in the arena: the interpreter's bits, on a second call too."""
    arrays = arrays_for(graph)
    expected = interpret(graph, arrays)
    after = Pipeline.parse(find("numpy").pipeline.replace("fuse", OPTIONS["fuse"]), verify=True)(graph)
    executable = compile_graph(after)
    check(executable.plan)
    for _ in range(2):
        for a, b in zip(executable(*arrays), expected, strict=True):
            same(a, b)


@settings(max_examples=60, deadline=None)
@given(graph=graphs())
def test_donated_inputs_change_nothing_but_themselves(graph):
    donations = {}
    for j, t in enumerate(graph.output_types):
        i = next((i for i, u in enumerate(graph.input_types) if u == t and i not in donations.values()), None)
        if i is not None:
            donations[j] = i
    plan = make_plan(graph, donations)
    check(plan)
    arrays = arrays_for(graph)
    expected = interpret(graph, [a.copy() for a in arrays])
    executable = compile_graph(graph, donations)
    kept = [a.copy() for a in arrays]
    got = executable.run(arrays, {j: arrays[i] for j, i in donations.items()})
    for j, (a, b) in enumerate(zip(got, expected, strict=True)):
        same(a, b)
        assert j not in donations or a is arrays[donations[j]]
    for i, (a, b) in enumerate(zip(arrays, kept)):
        if i not in donations.values():
            same(a, b)


@settings(max_examples=100, deadline=None)
@given(graph=graphs())
def test_text_round_trip(graph):
    assert ng.parse(str(graph)) == graph
    ng.verify(graph)
