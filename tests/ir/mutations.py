"""Ways to break a graph. Each takes a graph with values of its own and a seeded generator, and gives another graph, or None
where the graph has nothing to break in this way."""

import random
from collections.abc import Callable

import numpy as np

from nagraph.ir import Constant, Data, Graph, Node, Op, TensorType, Value, spec
from nagraph.ir.types import DTYPES

Mutation = Callable[[Graph, random.Random], Graph | None]
#: Kinds after which a graph is always malformed, and kinds after which it may still be a graph.
ALWAYS: dict[str, Mutation] = {}
SOMETIMES: dict[str, Mutation] = {}


def always(f: Mutation) -> Mutation:
    ALWAYS[f.__name__] = f
    return f


def sometimes(f: Mutation) -> Mutation:
    SOMETIMES[f.__name__] = f
    return f


def replaced(graph: Graph, i: int, *nodes: Node) -> Graph:
    """The graph with other nodes in the place of node i."""
    return graph.with_nodes((*graph.nodes[:i], *nodes, *graph.nodes[i + 1:]))


def pick(graph: Graph, rng: random.Random, holds: Callable[[Node], object] = lambda n: True) -> int | None:
    found = [i for i, n in enumerate(graph.nodes) if holds(n)]
    return rng.choice(found) if found else None


def changed(node: Node, **parts) -> Node:
    """A node with other parts, whatever they are."""
    given = {"op": node.op, "operands": node.operands, "results": node.results, **parts}
    return Node(given["op"], given["operands"], given["results"], node.location)


def at(items: tuple, i: int, item) -> tuple:
    return (*items[:i], item, *items[i + 1:])


def broken_op(op: Op, **attributes) -> Op:
    """The op with attributes that nobody looked at."""
    made = object.__new__(type(op))
    made.__dict__.update(op.attributes() | attributes)
    return made


def _operand(graph: Graph, rng: random.Random, value: Callable[[Node, Value], object]) -> Graph | None:
    """The graph with one operand replaced."""
    i = pick(graph, rng, lambda n: n.operands)
    if i is None:
        return None
    node = graph.nodes[i]
    k = rng.randrange(len(node.operands))
    return replaced(graph, i, changed(node, operands=at(node.operands, k, value(node, node.operands[k]))))


@always
def use_before_definition(graph, rng):
    i = pick(graph, rng, lambda n: any(graph.uses[r] for r in n.results))
    if i is None:
        return None
    node = graph.nodes[i]
    last = max(j for j, n in enumerate(graph.nodes) if any(r in n.operands for r in node.results))
    return graph.with_nodes((*graph.nodes[:i], *graph.nodes[i + 1:last + 1], node, *graph.nodes[last + 1:]))


@always
def a_value_of_another_graph(graph, rng):
    return _operand(graph, rng, lambda node, v: Value(v.type, v.name))


@always
def an_operand_that_is_no_value(graph, rng):
    return _operand(graph, rng, lambda node, v: rng.choice([None, 1, 2.0, "%0", np.zeros(3), [], v.type, (v,), np.float32(1)]))


@always
def a_node_reads_itself(graph, rng):
    return _operand(graph, rng, lambda node, v: node.results[0])


@always
def two_nodes_read_each_other(graph, rng):
    found = [(i, graph.nodes.index(u)) for i, n in enumerate(graph.nodes) if n.operands for r in n.results for u in graph.uses[r]]
    if not found:
        return None
    i, j = rng.choice(found)
    node = graph.nodes[i]
    return replaced(graph, i, changed(node, operands=at(node.operands, 0, graph.nodes[j].results[0])))


@always
def a_result_of_another_type(graph, rng):
    i = pick(graph, rng)
    if i is None:
        return None
    node = graph.nodes[i]
    k = rng.randrange(len(node.results))
    old = node.results[k].type
    new = rng.choice([TensorType(old.dtype, (*old.shape, 1)), TensorType(old.dtype, (7, *old.shape[1:], 3)),
                      TensorType(rng.choice([d for d in DTYPES.values() if d != old.dtype]), old.shape)])
    node.results[k].type = new
    return graph


@always
def a_type_that_no_value_has(graph, rng):
    values = [*graph.inputs, *(r for n in graph.nodes for r in n.results)]
    v = rng.choice(values)
    shapes = [list(v.shape), (-1,), (2.5,), ("2",), (None,), (1,) * 65, (2**40, 0, 2**40)]
    dtypes = [np.dtype("c8"), np.dtype(">f4"), np.dtype("O"), np.float32, "f32", None]
    v.type = rng.choice([None, "f32[3]", v.type.shape, v.dtype, *(TensorType(v.dtype, s) for s in shapes),
                         *(TensorType(d, v.shape) for d in dtypes)])
    return graph


@always
def a_node_twice(graph, rng):
    i = pick(graph, rng)
    return None if i is None else replaced(graph, i, graph.nodes[i], graph.nodes[i])


@always
def a_result_made_by_two_nodes(graph, rng):
    i = pick(graph, rng)
    return None if i is None else replaced(graph, i, graph.nodes[i], changed(graph.nodes[i]))


@always
def an_input_twice(graph, rng):
    return Graph(graph.name, (*graph.inputs, graph.inputs[0]), graph.nodes, graph.outputs) if graph.inputs else None


@always
def an_input_made_by_a_node(graph, rng):
    i = pick(graph, rng)
    return None if i is None else Graph(graph.name, (*graph.inputs, graph.nodes[i].results[0]), graph.nodes, graph.outputs)


@always
def an_output_that_nothing_makes(graph, rng):
    other = rng.choice([Value(spec((2,))), None, 1.0, np.zeros(2), "x", []])
    return Graph(graph.name, graph.inputs, graph.nodes, (*graph.outputs, other))


@always
def a_node_left_out(graph, rng):
    i = pick(graph, rng, lambda n: any(graph.uses[r] or r in graph.outputs for r in n.results))
    return None if i is None else replaced(graph, i)


@always
def an_input_left_out(graph, rng):
    read = [v for v in graph.inputs if graph.uses[v] or v in graph.outputs]
    if not read:
        return None
    gone = rng.choice(read)
    return Graph(graph.name, [v for v in graph.inputs if v is not gone], graph.nodes, graph.outputs)


@always
def one_result_more_or_less(graph, rng):
    i = pick(graph, rng)
    if i is None:
        return None
    node = graph.nodes[i]
    more = (*node.results, Value(node.results[0].type))
    return replaced(graph, i, changed(node, results=rng.choice([more, node.results[:-1]])))


@always
def one_operand_more_or_less(graph, rng):
    i = pick(graph, rng, lambda n: n.operands and n.op.name != "concatenate")  # which takes any number
    if i is None:
        return None
    node = graph.nodes[i]
    k = rng.randrange(len(node.operands))
    more, less = (*node.operands, node.operands[k]), (*node.operands[:k], *node.operands[k + 1:])
    return replaced(graph, i, changed(node, operands=rng.choice([more, less])))


@always
def no_operands(graph, rng):
    i = pick(graph, rng, lambda n: n.operands)
    return None if i is None else replaced(graph, i, changed(graph.nodes[i], operands=()))


@always
def lists_for_tuples(graph, rng):
    i = pick(graph, rng)
    if i is None or rng.random() < 0.3:
        part = rng.choice(["inputs", "nodes", "outputs"])
        setattr(graph, part, rng.choice([list(getattr(graph, part)), None, iter(getattr(graph, part))]))
        return graph
    node, part = graph.nodes[i], rng.choice(["operands", "results"])
    return replaced(graph, i, changed(node, **{part: rng.choice([list(getattr(node, part)), None])}))


class Unregistered(Op):
    name = "tanh"

    def infer(self, x):
        return x


@always
def an_op_that_is_none(graph, rng):
    i = pick(graph, rng)
    other = rng.choice([None, "tanh", Op(), Unregistered(), np.tanh])
    return None if i is None else replaced(graph, i, changed(graph.nodes[i], op=other))


@always
def a_node_that_is_none(graph, rng):
    return graph.with_nodes((*graph.nodes, rng.choice([None, "tanh", 1, graph, Value(spec(()))])))


@always
def an_attribute_of_another_kind(graph, rng):
    i = pick(graph, rng, lambda n: n.op.attributes())
    if i is None:
        return None
    op = graph.nodes[i].op
    key, value = rng.choice(list(op.attributes().items()))
    others = [object(), {}, 1j, b"", set(), np.zeros(2), np.int64(1), [value]]
    return replaced(graph, i, changed(graph.nodes[i], op=broken_op(op, **{key: rng.choice(others)})))


@always
def a_region_of_other_inputs(graph, rng):
    i = pick(graph, rng, lambda n: n.op.regions)
    if i is None:
        return None
    op = graph.nodes[i].op
    key, region = rng.choice(list(op.regions.items()))
    more, fewer = (*region.inputs, Value(spec((3,)))), region.inputs[:-1]
    other = Graph(region.name, rng.choice([more, fewer]), region.nodes, region.outputs)
    return replaced(graph, i, changed(graph.nodes[i], op=broken_op(op, **{key: other})))


@always
def a_region_of_other_outputs(graph, rng):
    i = pick(graph, rng, lambda n: n.op.regions)
    if i is None:
        return None
    op = graph.nodes[i].op
    key, region = rng.choice([(k, g) for k, g in op.regions.items() if k != "fwd"])
    extra = Value(spec((3, 5, 7), "u16"))
    other = Graph(region.name, region.inputs, (*region.nodes, Node(Constant.of(np.zeros((3, 5, 7), "u2")), (), (extra,))),
                  rng.choice([(*region.outputs, extra), region.outputs[:-1]]))
    return replaced(graph, i, changed(graph.nodes[i], op=broken_op(op, **{key: other})))


@always
def a_broken_region(graph, rng):
    i = pick(graph, rng, lambda n: n.op.regions)
    if i is None:
        return None
    op = graph.nodes[i].op
    key, region = rng.choice(list(op.regions.items()))
    kind = rng.choice(["use_before_definition", "a_value_of_another_graph", "a_node_twice", "a_node_left_out",
                       "an_operand_that_is_no_value", "a_node_reads_itself"])
    other = ALWAYS[kind](region, rng)
    return None if other is None else replaced(graph, i, changed(graph.nodes[i], op=broken_op(op, **{key: other})))


@always
def a_graph_that_holds_itself(graph, rng):
    i = pick(graph, rng, lambda n: n.op.regions)
    if i is None:
        return None
    key = rng.choice(list(graph.nodes[i].op.regions))
    op = broken_op(graph.nodes[i].op)
    whole = replaced(graph, i, changed(graph.nodes[i], op=op))
    op.__dict__[key] = whole
    return whole


@always
def a_constant_that_is_no_constant(graph, rng):
    i = pick(graph, rng, lambda n: isinstance(n.op, Constant))
    if i is None:
        return None
    array = graph.nodes[i].op.array
    writeable = array.copy()
    shape = np.zeros((*array.shape, 2), array.dtype)
    shape.flags.writeable = False
    other = np.zeros(array.shape, "f8" if array.dtype == np.float32 else "f4")
    other.flags.writeable = False
    strange = np.zeros(array.shape, rng.choice(["c16", "O", ">i8", "U8"]))
    strange.flags.writeable = False
    data = Data(array)
    data.array = rng.choice([writeable, shape, other, strange, None, array.tolist()])
    return replaced(graph, i, changed(graph.nodes[i], op=Constant(data)))


@always
def a_name_that_is_no_string(graph, rng):
    if graph.inputs and rng.random() < 0.5:
        rng.choice(graph.inputs).name = rng.choice([None, 3, b"x"])
        return graph
    return graph.with_name(rng.choice([None, 3, b"x"]))


# -- these may leave a graph that is as good as before ----------------------------------------------------------


@sometimes
def another_value_for_an_operand(graph, rng):
    i = pick(graph, rng, lambda n: n.operands)
    if i is None:
        return None
    known = [*graph.inputs, *(r for n in graph.nodes[:i] for r in n.results)]
    node = graph.nodes[i]
    return replaced(graph, i, changed(node, operands=at(node.operands, rng.randrange(len(node.operands)), rng.choice(known))))


@sometimes
def operands_in_another_order(graph, rng):
    i = pick(graph, rng, lambda n: len(n.operands) > 1)
    if i is None:
        return None
    node = graph.nodes[i]
    return replaced(graph, i, changed(node, operands=tuple(rng.sample(node.operands, len(node.operands)))))


@sometimes
def an_input_of_another_type(graph, rng):
    if not graph.inputs:
        return None
    v = rng.choice(graph.inputs)
    v.type = rng.choice([TensorType(rng.choice(list(DTYPES.values())), v.shape), TensorType(v.dtype, v.shape[::-1]),
                         TensorType(v.dtype, v.shape[1:]), TensorType(v.dtype, tuple(rng.choice([0, 1, 2, s]) for s in v.shape))])
    return graph


@sometimes
def nodes_in_another_order(graph, rng):
    return graph.with_nodes(rng.sample(graph.nodes, len(graph.nodes)))


@sometimes
def another_attribute(graph, rng):
    """A number, word or dtype somewhere in an attribute changes, or a tuple loses or doubles an item."""
    i = pick(graph, rng, lambda n: n.op.attributes() and not isinstance(n.op, Constant))
    if i is None:
        return None
    op = graph.nodes[i].op
    key, value = rng.choice(list(op.attributes().items()))
    return replaced(graph, i, changed(graph.nodes[i], op=broken_op(op, **{key: _other(value, rng)})))


def _other(value, rng):
    if isinstance(value, tuple) and value and rng.random() < 0.7:
        k = rng.randrange(len(value))
        return at(value, k, _other(value[k], rng))
    if isinstance(value, tuple):
        return rng.choice([value[:-1], (*value, *value[-1:]), (*value, 0), value[::-1], ()])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([value + 1, value - 1, -value, 0, 1, -1, 2, 7])
    if isinstance(value, float):
        return rng.choice([0.0, -0.0, float("nan"), float("inf"), 1e300])
    if isinstance(value, str):
        return rng.choice(["", "set", "add", "max", "composite", "fused", "checkpoint"])
    if isinstance(value, np.dtype):
        return rng.choice(list(DTYPES.values()))
    return None


@sometimes
def another_op(graph, rng):
    i, j = pick(graph, rng), pick(graph, rng)
    return None if i is None else replaced(graph, i, changed(graph.nodes[i], op=graph.nodes[j].op))
