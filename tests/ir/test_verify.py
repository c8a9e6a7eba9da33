"""The verifier: what is malformed is refused, and what it accepts prints, reads back and runs."""

import random
import warnings
from collections import Counter

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import LabelError, NagraphError, VerifyError
from nagraph.ir import Constant, Graph, Node, Value, build, spec
from nagraph.ir.builder import fresh
from nagraph.ir.interpret import interpret
from nagraph.ir.verify import MAX_NESTING
from nagraph.ops.reduction import Sum
from nagraph.ops.slicing import Pad
from nagraph.ops.special import Tanh
from nagraph.regions.calls import Call
from tests.graphs import arrays_for, program
from tests.ir.corpus import constant_graph, constants, one_node_graphs, region_graphs
from tests.ir.mutations import ALWAYS, SOMETIMES, broken_op

ONE_NODE, REGIONS = list(one_node_graphs().values()), list(region_graphs().values())


def fresh_regions(graph: Graph) -> Graph:
    """The same graph, its regions included, with values of its own, so that breaking it breaks no other."""
    return fresh(graph.map_regions(fresh_regions))


def sources(rng: random.Random):
    """Valid graphs without end: random ones, ones of a single op, ones with regions, constants."""
    while True:
        yield fresh_regions(program([rng.randrange(64) for _ in range(rng.randint(20, 80))]))
        yield fresh_regions(rng.choice(ONE_NODE))
        yield fresh_regions(rng.choice(REGIONS))
        yield fresh(constant_graph(*rng.sample(list(constants().values()), 3)))


def broken(kind: str, mutation, count: int):
    """`count` graphs broken in this way."""
    rng = random.Random(kind)
    for graph in sources(rng):
        found = mutation(graph, rng)
        if found is not None:
            yield found
            count -= 1
            if not count:
                return


def check_runs(graph: Graph) -> None:
    """A graph that the verifier accepts prints, reads back, and gives arrays of its types."""
    text = str(graph)
    assert ng.parse(text) == graph
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = interpret(graph, arrays_for(graph))
        except LabelError:  # the numbers are no classes
            return
    for array, t in zip(found, graph.output_types, strict=True):
        assert (array.dtype, array.shape) == (t.dtype, t.shape), text


def test_valid_graphs_are_accepted():
    rng = random.Random(0)
    for graph, _ in zip(sources(rng), range(200)):
        ng.verify(graph)
        check_runs(graph)


@pytest.mark.parametrize("kind", ALWAYS)
def test_always_malformed(kind):
    for graph in broken(kind, ALWAYS[kind], 100):
        with pytest.raises(VerifyError):
            ng.verify(graph)


@pytest.mark.parametrize("kind", SOMETIMES)
def test_malformed_or_provably_valid(kind):
    outcomes: Counter[str] = Counter()
    for graph in broken(kind, SOMETIMES[kind], 400):
        try:
            ng.verify(graph)
        except VerifyError:
            outcomes["refused"] += 1
            continue
        outcomes["accepted"] += 1
        check_runs(graph)
    assert min(outcomes["refused"], outcomes["accepted"]) >= 10, outcomes


# -- each rule by its message -----------------------------------------------------------------------------------

F32 = spec((3,))


def one(op=None, operands=None, results=None, outputs=None, inputs=None, name="f") -> Graph:
    """The graph of tanh of one input, with parts replaced."""
    x, y = Value(F32, "x"), Value(F32)
    node = Node(op or Tanh(), (x,) if operands is None else operands, (y,) if results is None else results)
    return Graph(name, (x,) if inputs is None else inputs, (node,), (y,) if outputs is None else outputs)


def no_constant(array) -> Graph:
    op = Constant.of(np.zeros(3, np.float32))
    op.value.array = array
    return one(op, ())


def padded_integers() -> Graph:
    x = Value(spec((3,), "i32"))
    return one(Pad((0,), (0,), (0,), float("nan")), (x,), inputs=(x,))


def strange_value() -> Value:
    return Value(spec((), "f32").with_shape((-1,)))


def twice() -> Graph:
    graph = one()
    return graph.with_nodes(graph.nodes * 2)


def repeated_input() -> Graph:
    x = Value(F32, "x")
    return Graph("f", (x, x), (), ())


RULES = [
    (lambda: Graph(None, (), (), ()), "a graph has a name, got None"),
    (lambda: "graph @f", "a graph has a name"),
    (repeated_input, "graph f: input x is there twice"),
    (lambda: Graph("f", (), ("tanh",), ()), "graph f, node 0: 'tanh' is no registered op"),
    (lambda: one(op=np.tanh), "graph f, node 0: <ufunc 'tanh'> is no registered op"),
    (lambda: one(operands=(np.zeros(3),)), r"graph f, node 0 \(tanh\): operand 0 is a ndarray, not a value; constants are nodes"),
    (lambda: one(operands=(Value(F32),)), "operand 0 is read before it is made, or belongs to another graph"),
    (lambda: one(operands=[]), "its operands and its results are tuples"),
    (lambda: one(results=(Value(spec((3,), "f64")),), outputs=()), r"the op gives \(f32\[3\]\), the results are \(f64\[3\]\)"),
    (lambda: one(results=(strange_value(),), outputs=()), r"has no type that a graph can hold .*: TensorType\(.*-1"),
    (lambda: one(results=(Value(F32, 3),), outputs=()), "a value's name is a string, got 3"),
    (twice, "a result is made twice"),
    (lambda: one(outputs=(Value(F32),)), "graph f: output 0 is made by no node"),
    (padded_integers, r"node 0 \(pad\): pad: i32\[3\] can't hold the value nan"),
    (lambda: one(operands=()), r"node 0 \(tanh\): tanh takes 1 operand, got 0"),
    (lambda: one(broken_op(Sum(()), axes=[0])), r"node 0 \(sum\): attribute axes is \[0\], not"),
    (lambda: one(broken_op(Sum(()), axes=(0.0,))), r"attribute axes is \(0.0,\), not"),
    (lambda: no_constant(np.zeros(3, np.float32)), "a constant's array is its own, row-major and read-only"),
    (lambda: no_constant(np.zeros(3, complex)), r"a constant is an array of bool, i8, .*, got dtype\('complex128'\)"),
]


@pytest.mark.parametrize("make, message", RULES, ids=[m[:40] for _, m in RULES])
def test_the_message_states_the_rule(make, message):
    with pytest.raises(VerifyError, match=message):
        ng.verify(make())


def test_the_error_holds_the_node():
    graph = one(operands=(Value(F32),))
    with pytest.raises(VerifyError) as caught:
        ng.verify(graph)
    assert caught.value.node is graph.nodes[0]


def test_an_error_in_a_region_names_the_region():
    inner = one(operands=(Value(F32),), name="inner")
    x, y = Value(F32, "x"), Value(F32)
    with pytest.raises(VerifyError, match="graph inner, node 0"):
        ng.verify(Graph("outer", (x,), (Node(Call("c", "checkpoint", inner), (x,), (y,)),), (y,)))


def test_a_graph_that_holds_itself():
    op = broken_op(Call("c", "checkpoint", one()))
    graph = one(op)
    op.__dict__["body"] = graph
    with pytest.raises(VerifyError, match="graph f holds itself as a region"):
        ng.verify(graph)


def nested(depth: int) -> Graph:
    graph = build("g0", [F32], lambda x: [ng.numpy.tanh(x)])
    for k in range(1, depth + 1):
        graph = build(f"g{k}", [F32], lambda x, body=graph: [Call("c", "checkpoint", body)(x) * 2.0])
    return graph


def test_regions_as_deep_as_allowed_work_and_deeper_ones_are_refused():
    graph = nested(MAX_NESTING)
    ng.verify(graph)
    assert ng.parse(str(graph)) == graph
    compiled = ng.compile(graph)
    np.testing.assert_allclose(compiled(np.ones(3, "f4"))[0], np.tanh(np.float32(1)) * 2.0**MAX_NESTING, rtol=1e-6)
    with pytest.raises(VerifyError, match=f"regions are nested more than {MAX_NESTING} deep"):
        ng.verify(nested(MAX_NESTING + 1))


def test_a_region_met_many_times_is_checked_once():
    """Each level holds the one below twice: 2^30 paths, 31 graphs."""
    graph = build("g0", [F32], lambda x: [x])
    for k in range(1, MAX_NESTING - 1):
        graph = build(f"g{k}", [F32], lambda x, body=graph: [Call("a", "checkpoint", body)(Call("b", "checkpoint", body)(x))])
    ng.verify(graph)
    assert str(graph).count("graph @") == MAX_NESTING - 1


def test_errors_are_typed():
    assert issubclass(VerifyError, NagraphError) and issubclass(VerifyError, ValueError)
