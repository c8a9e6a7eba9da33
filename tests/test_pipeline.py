"""The pipeline: its text, its observers, what it says when a pass fails, and faults that it must catch."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import numpy as np
import pytest

import nagraph as ng
from nagraph import pipeline
from nagraph.backends import find
from nagraph.errors import PassError, TypeRuleError, VerifyError
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.types import TensorType
from nagraph.observers import Differential, Diffs, Dump, Timings
from nagraph.ops.base import Cast
from nagraph.ops.elementwise import Add, Multiply, multiply
from nagraph.ops.special import Tanh, tanh
from nagraph.passes.dce import dce
from nagraph.passes.fuse import Fuse
from nagraph.passes.memory import Memory
from nagraph.passes.simplify import Simplify
from nagraph.pipeline import Pipeline, format_pass, graph_pass, load, pass_names
from nagraph.rewrite.greedy import rewrite
from nagraph.rewrite.pattern import holes
from nagraph.rewrite.rule import rules

SPEC = ng.spec((3, 4), "float32")
ARRAYS = [np.random.default_rng(i).normal(size=(3, 4)).astype(np.float32) for i in (0, 1)]
x, y = holes("x y")


def function(a, b):
    c = np.tanh(a) * 1 + b
    return c * np.tanh(a), (-(-b)).sum(axis=0)


@pytest.fixture
def graph() -> Graph:
    return ng.trace(function, SPEC, SPEC)


def train_graph() -> Graph:
    """A graph with composites, a loop and a gradient."""
    def loss(w, v):
        h, _ = ng.scan(lambda h, row: (np.tanh(h @ w + row), h), v[0], v)
        return ng.nn.functional.softmax(h)[0] ** 2

    return ng.trace(ng.grad(loss, argnums=(0, 1)), ng.spec((4, 4), "float64"), ng.spec((5, 4), "float64"))


# -- text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "", "simplify", "dce,cse,dce", "fuse{max_nodes=8}", "fuse{max_nodes=8,min_nbytes=0}",
    "simplify{inexact=True},fold_constants{max_elements=4}",
    "memory{donations=((0, 1),)}", "memory{donations=((0, 1),(1, 0))},dce", find("numpy").pipeline,
])
def test_text_round_trip(text: str) -> None:
    made = Pipeline.parse(text)
    assert str(made).replace(" ", "") == text.replace(" ", "")
    assert Pipeline.parse(str(made)).passes == made.passes


def test_text_means_passes_with_options() -> None:
    assert Pipeline.parse(" simplify, fuse{ max_nodes = 8 },\n dce ,").passes == (Simplify(), Fuse(max_nodes=8), dce)
    assert Pipeline.parse("memory{donations=((0, 2), (1, 3))}").passes == (Memory(((0, 2), (1, 3))),)
    assert str(Pipeline(Fuse(max_nodes=64), Fuse(max_nodes=65))) == "fuse,fuse{max_nodes=65}", "defaults are not shown"


def test_the_default_runs_every_pass_but_none_twice_in_a_row() -> None:
    names = [format_pass(p) for p in Pipeline.parse(find("numpy").pipeline).passes]
    kernels = [p.pass_name for p in Pipeline.parse(find("llvm").pipeline).passes]
    assert ",".join(names) == find("numpy").pipeline and {*names, *kernels} == set(pass_names())
    assert all(a != b for a, b in zip(names, names[1:]))
    assert [load(name).pass_name for name in pass_names()] == list(pass_names())


@pytest.mark.parametrize("text, told", [
    ("simplfy", "unknown pass 'simplfy' (did you mean simplify?); there is canonicalize, cse, dce, expand, "),
    ("qqq", "unknown pass 'qqq'; there is "),
    ("dce,turn{rows=8}", "unknown pass 'turn' (it is called pretranspose now)"),
    ("simplify,fold,cse", "unknown pass 'fold' (it is called fold_constants now)"),
    ("dce,Fuse", "unknown pass 'Fuse' (did you mean fuse?)"),
    ("fuse{max_node=8}", "pass fuse has no option 'max_node' (did you mean max_nodes?); it has max_nodes, min_nbytes"),
    ("fuse{max_nodes=many}", "pass fuse: option max_nodes has value 'many', which is no number"),
    ("fuse{max_nodes=8.5}", "pass fuse: option max_nodes has the type int, got 8.5"),
    ("fuse{max_nodes=True}", "pass fuse: option max_nodes has the type int, got True"),
    ("fuse{max_nodes='8'}", "pass fuse: option max_nodes has the type int, got '8'"),
    ("simplify{inexact=1}", "pass simplify: option inexact has the type bool, got 1"),
    ("memory{donations=3}", "pass memory: option donations has the type tuple[tuple[int, int], ...], got 3"),
    ("fuse{max_nodes}", "pass fuse: can't read the options {max_nodes}"),
    ("fuse{8}", "pass fuse: can't read the options {8}"),
    ("fuse{max_nodes=}", "pass fuse: can't read the options {max_nodes=}"),
    ("fuse{max_nodes=1,max_nodes=2}", "pass fuse: can't read the options"),
    ("fuse{max_nodes=__import__('os')}", "pass fuse: option max_nodes has value"),
    ("fuse{**{}}", "can't read the pipeline"),
    ("dce{x=1}", "pass dce has no options, got {x=1}"),
    ("fuse{max_nodes=8", "can't read the pipeline 'fuse{max_nodes=8'; it reads like \"simplify,cse,fuse{max_nodes=64}\""),
    ("fuse max_nodes=8}", "can't read the pipeline"),
    ("fuse{{max_nodes=8}}", "can't read the pipeline"),
    ("{max_nodes=8}", "can't read the pipeline"),
    ("simplify cse", "can't read the pipeline"),
    ("simplify,,cse", "can't read the pipeline"),
    ("fuse{max_nodes=8}cse", "can't read the pipeline"),
])
def test_wrong_texts(text: str, told: str) -> None:
    with pytest.raises(PassError) as caught:
        Pipeline.parse(text)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_pass() -> None:
    with pytest.raises(PassError, match=r"got <class .*Fuse'>; write Fuse\(\)"):
        Pipeline(dce, Fuse)
    with pytest.raises(PassError, match=r"got 'dce'; write Pipeline.parse\('dce'\)"):
        Pipeline("dce")
    with pytest.raises(PassError, match="got 3"):
        Pipeline(3)


# -- observers --------------------------------------------------------------------------------------------


def test_observers_see_each_pass(graph: Graph) -> None:
    seen: list[pipeline.Observation] = []
    after = Pipeline.parse("simplify,cse,dce").with_observers(seen.append)(graph)
    assert [(o.index, o.step) for o in seen] == [(1, "simplify"), (2, "cse"), (3, "dce")]
    assert seen[0].before is graph and seen[-1].after is after
    assert all(a.after is b.before for a, b in zip(seen, seen[1:])) and all(o.seconds >= 0 for o in seen)


def test_observers_are_added_and_the_first_pipeline_stays(graph: Graph) -> None:
    first = Pipeline.parse("dce", verify=True)
    a, b = Timings(), Timings()
    second = first.with_observers(a).with_observers(b, verify=False)
    second(graph)
    assert len(a.rows) == len(b.rows) == 1 and first.observers == () and first.verify and not second.verify


def test_replacing_options(graph: Graph) -> None:
    changed = Pipeline.parse("fuse,dce,fuse{max_nodes=3}", verify=True).replace("fuse", min_nbytes=1)
    assert str(changed) == "fuse{min_nbytes=1},dce,fuse{max_nodes=3,min_nbytes=1}" and changed.verify


def test_timings(graph: Graph) -> None:
    timings = Timings()
    after = Pipeline.parse("simplify,dce").with_observers(timings)(graph)
    assert [(step, nodes) for step, _, nodes in timings.rows][-1] == ("dce", len(after.nodes))
    lines = str(timings).splitlines()
    assert lines[0].startswith("simplify ") and " ms " in lines[0] and lines[1].endswith(f"{len(after.nodes)} nodes")


@pytest.mark.parametrize("make", [lambda: ng.trace(function, SPEC, SPEC), train_graph], ids=["small", "train"])
def test_dumps_parse_back(make, tmp_path: pathlib.Path) -> None:
    graph = make()
    seen: list[pipeline.Observation] = []
    passes = Pipeline.parse(find("numpy").pipeline)
    passes.with_observers(Dump(tmp_path / "a" / "b"), seen.append)(graph)
    names = sorted(p.name for p in (tmp_path / "a" / "b").iterdir())
    assert names[:3] == ["00_traced.ng", "01_canonicalize.ng", "02_narrow.ng"] and names[-1] == "22_memory.ng"
    assert len(names) == 1 + len(passes.passes) == 23
    texts = [(tmp_path / "a" / "b" / n).read_text() for n in names]
    assert [ng.parse(t) for t in texts] == [graph, *(o.after for o in seen)]


def test_dumps_of_passes_with_options(graph: Graph, tmp_path: pathlib.Path) -> None:
    Pipeline.parse("fuse{max_nodes=3}").with_observers(Dump(tmp_path))(graph)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00_traced.ng", "01_fuse.ng"]


def test_diffs_show_what_changed_and_nothing_else(graph: Graph) -> None:
    diffs = Diffs()
    Pipeline.parse("canonicalize,simplify,cse,dce,dce").with_observers(diffs)(graph)
    steps = [step for step, _ in diffs.texts]
    assert "simplify" in steps and steps.count("dce") == 1, "what changes nothing has no difference"
    removed = [line for line in dict(diffs.texts)["dce"].splitlines() if line.startswith("-") and not line.startswith("---")]
    assert removed and any("negative" in line for line in removed)


def test_the_differential_observer_accepts_the_default(graph: Graph) -> None:
    seen: list[pipeline.Observation] = []
    Pipeline.parse(find("numpy").pipeline, verify=True).with_observers(Differential(*ARRAYS), seen.append)(graph)
    assert sum(o.before is not o.after for o in seen) >= 3


# -- passes of one's own ----------------------------------------------------------------------------------


@graph_pass
@dataclass(frozen=True)
class Rename:
    """The graph under another name."""

    name: str = "renamed"

    def __call__(self, graph: Graph) -> Graph:
        return graph.with_name(self.name)


def swap_operands(graph: Graph) -> Graph:
    """a + b becomes b + a; a plain function is a pass too."""
    return graph.rebuild(lambda n: Node(n.op, n.operands[::-1], n.results, n.location) if isinstance(n.op, Add) else None)


def test_passes_of_ones_own(graph: Graph) -> None:
    timings = Timings()
    mine = Pipeline(Rename("mine"), swap_operands, dce, verify=True).with_observers(timings, Differential(*ARRAYS))
    after = mine(graph)
    assert after.name == "mine" and [step for step, *_ in timings.rows] == ["rename{name='mine'}", "swap_operands", "dce"]
    pairs = [(n.operands, m.operands) for n, m in zip(graph.nodes, after.nodes) if isinstance(n.op, Add)]
    assert pairs and all(a == b[::-1] for a, b in pairs)
    np.testing.assert_array_equal(ng.jit(function, passes=mine, backend="numpy")(*ARRAYS)[0], function(*ARRAYS)[0])


def test_a_pass_reaches_regions_once_and_leaves_fused_ones() -> None:
    seen: list[str] = []

    @graph_pass
    def note(graph: Graph) -> Graph:
        seen.append(graph.name)
        return graph

    graph = train_graph()
    Pipeline(note)(graph)
    assert seen[-1] == graph.name and len(seen) > 3
    fused = Pipeline.parse("expand,fuse{min_nbytes=0}")(graph)
    assert any(getattr(n.op, "kind", "") == "fused" for n in fused.nodes)
    seen.clear()
    Pipeline(note)(fused)
    assert "fused" not in seen


# -- failures ---------------------------------------------------------------------------------------------


def failing(error: Exception):
    @graph_pass
    def break_at_add(graph: Graph) -> Graph:
        def visit(node: Node) -> None:
            if isinstance(node.op, Add):
                raise error

        return graph.rebuild(visit)

    return break_at_add


@pytest.mark.parametrize("error", [TypeRuleError("shapes differ"), KeyError("lost"), ZeroDivisionError("division by zero")])
def test_a_failing_pass_is_named_and_its_node_shown(graph: Graph, error: Exception) -> None:
    with pytest.raises(PassError) as caught:
        Pipeline(dce, failing(error))(graph)
    message = str(caught.value)
    assert "pass break_at_add (number 2) failed on graph function: " in message and str(error) in message
    (marked,) = (line for line in message.splitlines() if line.startswith("> "))
    assert "add(" in marked and "test_pipeline.py" in marked, "the node with the user's line"
    assert 3 <= len(message.splitlines()) <= 9, "the neighbourhood, not the graph"
    assert caught.value.__cause__ is error


def test_a_failure_in_a_region_shows_the_region() -> None:
    graph = train_graph()
    with pytest.raises(PassError) as caught:
        Pipeline(failing(KeyError("lost")))(graph)
    message = str(caught.value)
    assert "failed on graph" in message and "in graph @" in message and f"in graph @{graph.name}:" not in message
    (marked,) = (line for line in message.splitlines() if line.startswith("> "))
    assert "add(" in marked


def test_a_pass_that_returns_no_graph(graph: Graph) -> None:
    with pytest.raises(PassError, match=r"pass nothing \(number 1\) returned NoneType, not a graph"):
        Pipeline(graph_pass(_named("nothing", lambda graph: None)))(graph)


def _named(name, fn):
    fn.__name__ = name
    return fn


def test_interrupts_pass_through(graph: Graph) -> None:
    def interrupt(graph: Graph) -> Graph:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline(interrupt)(graph)


def test_a_failed_pipeline_leaves_nothing_behind(graph: Graph) -> None:
    with pytest.raises(PassError):
        Pipeline(failing(KeyError("lost")))(graph)
    from nagraph.ir.builder import active

    assert active() is None
    assert Pipeline(dce, verify=True)(graph) == Pipeline(dce)(graph)


def test_a_graph_that_is_wrong_before_any_pass(graph: Graph) -> None:
    broken = graph.with_nodes(graph.nodes[1:])
    ran = []
    with pytest.raises(PassError, match="the graph is wrong before any pass: .* is read before it is made"):
        Pipeline(lambda g: ran.append(g) or g, verify=True)(broken)
    assert not ran


# -- planted faults: each is caught by the verifier or by the differential observer ----------------------


def drop_a_node(graph: Graph) -> Graph:
    """A node goes that another one reads."""
    return graph.with_nodes([n for n in graph.nodes if n is not graph.producers[graph.nodes[-1].operands[0]]])


def drop_a_dependency(graph: Graph) -> Graph:
    """Nodes in an order in which one is read before it is made."""
    return graph.with_nodes(graph.nodes[::-1])


def drop_an_output(graph: Graph) -> Graph:
    return Graph(graph.name, graph.inputs, graph.nodes, graph.outputs[:1])


def drop_an_input(graph: Graph) -> Graph:
    return dce(Graph(graph.name, graph.inputs[:1], graph.nodes, graph.outputs))


def widen_an_output(graph: Graph) -> Graph:
    wide = Node.create(Cast(np.dtype("float64")), (graph.outputs[0],))
    return Graph(graph.name, graph.inputs, [*graph.nodes, wide], [wide.result, *graph.outputs[1:]])


def claim_another_type(graph: Graph) -> Graph:
    """A result's type is not what the op gives."""
    last = graph.nodes[-1]
    lie = Value(TensorType(np.dtype("float64"), last.result.type.shape))
    return Graph(graph.name, graph.inputs, [*graph.nodes[:-1], Node(last.op, last.operands, (lie,))],
                 [lie if v is last.result else v for v in graph.outputs])


def mix_types(graph: Graph) -> Graph:
    """A node reads an operand of another shape."""
    at, node = next((i, n) for i, n in enumerate(graph.nodes) if isinstance(n.op, Multiply))
    wrong = Value(TensorType(np.dtype("float32"), (5, 4)))
    return Graph(graph.name, [*graph.inputs, wrong],
                 [*graph.nodes[:at], Node(node.op, (node.operands[0], wrong), node.results), *graph.nodes[at + 1:]], graph.outputs)


@pytest.mark.parametrize("fault, told", [
    (drop_a_node, "read before it is made"),
    (drop_a_dependency, "read before it is made"),
    (drop_an_output, "its outputs are no longer of types (f32[3,4], f32[4]) but (f32[3,4])"),
    (drop_an_input, "read before it is made, or belongs to another graph"),
    (widen_an_output, "its outputs are no longer of types (f32[3,4], f32[4]) but (f64[3,4], f32[4])"),
    (claim_another_type, "the op gives (f32[4]), the results are (f64[4])"),
    (mix_types, "do not broadcast"),
])
def test_the_verifier_catches_broken_graphs_and_signatures(graph: Graph, fault, told: str) -> None:
    with pytest.raises(PassError) as caught:
        Pipeline(dce, fault, verify=True)(graph)
    message = str(caught.value)
    assert f"pass {fault.__name__} made a wrong graph: " in message and told in message
    assert "in graph @function:" in message and "multiply" in message
    if "read before" in told or "op gives" in told or "broadcast" in told:
        assert sum(line.startswith("> ") for line in message.splitlines()) == 1, "the node is marked"


def test_jit_verifies_once_at_the_end(graph: Graph) -> None:
    """Without `verify` too, a wrong graph does not reach the backend."""
    with pytest.raises(VerifyError, match="read before it is made"):
        ng.jit(function, passes=Pipeline(dce, drop_a_node, dce))(*ARRAYS)
    with pytest.raises(VerifyError, match="read before it is made"):
        ng.compile(graph, passes=Pipeline(drop_a_dependency))


def test_faults_in_a_region_are_caught_and_shown() -> None:
    """The region of a loop loses its tanh, which is an output of it."""
    def fault(graph: Graph) -> Graph:
        return graph.with_nodes([n for n in graph.nodes if not isinstance(n.op, Tanh)])

    with pytest.raises(PassError) as caught:
        Pipeline(fault, verify=True)(train_graph())
    message = str(caught.value)
    assert "pass fault made a wrong graph: graph lambda.fwd: output 0 is made by no node\nin graph @lambda.fwd:\n" in message
    assert "add" in message


@pytest.mark.parametrize("wrong", [
    ("x - y => x + y", x - y, x + y), ("x * 1 => 1", x * 1, 1), ("-x => x", -x, x), ("x + y => x", x + y, x),
    ("x + 0 => 0", x + 0, 0), ("x * y => x + y", x * y, x + y),
], ids=lambda w: w[0])
def test_a_corrupted_rule_is_caught_by_the_differential_observer(wrong) -> None:
    """Well-typed and wrong: the verifier can't know, running both graphs tells."""
    corrupted = rules(wrong)

    @graph_pass
    def simplify_wrongly(graph: Graph) -> Graph:
        return rewrite(graph, corrupted)

    graph = ng.trace(lambda a, b: -((a - b) * 1 + (a + 0) * b), SPEC, SPEC)
    Pipeline(simplify_wrongly, verify=True)(graph)
    with pytest.raises(PassError, match="(?s)pass simplify_wrongly changed output 0 of .*: .* entries, the first at .*: it was"):
        Pipeline(simplify_wrongly).with_observers(Differential(*ARRAYS))(graph)
    repaired = rules(("x * 1 => x", x * 1, x))
    fine = graph_pass(_named("fine", lambda g: rewrite(g, repaired)))
    assert len(Pipeline(fine, dce).with_observers(Differential(*ARRAYS))(graph).nodes) < len(graph.nodes)


@pytest.mark.parametrize("change, told", [
    (lambda v: multiply(v, np.float32(1 + 1e-3)), "entries, the first at"),
    (lambda v: multiply(v, np.float32(np.nan)), "is nan"),
    (lambda v: tanh(v), "it was"),
    (lambda v: Cast(np.dtype("float64"))(v), "it was f32[3,4] and is f64[3,4]"),
    (lambda v: v[:1], "it was f32[3,4] and is f32[1,4]"),
])
def test_the_differential_observer_names_the_pass_and_the_entry(graph: Graph, change, told: str) -> None:
    def fault(graph: Graph) -> Graph:
        from nagraph.ir.builder import Builder

        with Builder() as builder:
            builder.nodes += graph.nodes
            made = change(graph.outputs[0])
            return Graph(graph.name, graph.inputs, builder.nodes, [made, *graph.outputs[1:]])

    with pytest.raises(PassError) as caught:
        Pipeline(dce, fault).with_observers(Differential(*ARRAYS))(graph)
    assert "pass fault changed output 0 of function: " in str(caught.value) and told in str(caught.value)


def test_the_differential_observer_compares_integers_exactly_and_counts_outputs() -> None:
    big = np.array([2**62 + 1], np.int64)
    graph = ng.trace(lambda i: i + 0, ng.spec((1,), "int64"))

    def one_more(graph: Graph) -> Graph:
        return ng.trace(lambda i: i - 1, ng.spec((1,), "int64"))

    with pytest.raises(PassError, match=f"it was {2**62 + 1} and is {2**62}"):
        Pipeline(one_more).with_observers(Differential(big))(graph)
    with pytest.raises(PassError, match="changed the number of outputs of .* from 1 to 0"):
        Pipeline(lambda g: Graph(g.name, g.inputs, g.nodes, ())).with_observers(Differential(big))(graph)


def test_rules_in_circles_are_named(graph: Graph) -> None:
    circle = rules(("x + y => y + x", x + y, y + x))
    with pytest.raises(PassError, match=r"(?s)pass around \(number 1\) failed .*rules go in circles .*x \+ y => y \+ x"):
        Pipeline(graph_pass(_named("around", lambda g: rewrite(g, circle))))(graph)
