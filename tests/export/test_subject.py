"""Subjects: the graph, names, weights and trees of whatever is exported; and refusals, which tell all at once."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import ExportError, SignatureError
from nagraph.export.refusals import Refusals
from nagraph.export.subject import Subject
from nagraph.ir.nested import nested_graphs

F32 = np.float32


class Layer(ng.nn.Module):
    w: Any
    b: Any
    scale: int = 2

    def __call__(self, x: Any) -> Any:
        return {"logits": ng.nn.functional.softmax(x @ self.w * self.scale + self.b)}

    def twice(self, x: Any) -> Any:
        return self(x)["logits"] * 2


LAYER = Layer(np.arange(6, dtype=F32).reshape(3, 2), np.ones(2, F32))


def affine(x: Any, w: Any) -> Any:
    return np.tanh(x @ w)


def names_of(subject: Subject) -> tuple[Any, ...]:
    return subject.name, subject.inputs, subject.outputs, sorted(subject.weights)


def test_arrays_are_weights_and_specs_are_inputs() -> None:
    w = np.ones((3, 4), F32)
    found = Subject.of(affine, (ng.spec((ng.Dim("n"), 3)), w))
    assert names_of(found) == ("affine", ("x", "w"), ("output",), ["w"]) and found.free == ("x",)
    assert found.weights["w"] is w and str(found.graph.output_types[0]) == "f32[n,4]"
    assert found.tree_in is not None and found.tree_in.structure.keys == ("x",) and found.tree_in.mask == (True,)
    assert names_of(Subject.of(affine, (np.ones((2, 3), F32), w)))[3] == ["w", "x"]


@pytest.mark.parametrize("what, name, outputs", [
    (LAYER, "Layer", ("logits",)), (LAYER.twice, "twice", ("output",)), (functools.partial(Layer.twice, LAYER), "twice", ("output",)),
    (ng.jit(Layer.twice).bind(LAYER), "twice", ("output",)),
    (functools.partial(ng.jit(Layer.__call__, constant_argnames="self"), LAYER), "call", ("logits",)),
], ids=["model", "method", "partial", "bound", "constant"])
def test_a_model_brings_its_weights(what: Any, name: str, outputs: tuple[str, ...]) -> None:
    found = Subject.of(what, ng.spec((5, 3)))
    weights = ["b", "w"] if isinstance(what, Layer) or hasattr(what, "__self__") else ["self.b", "self.w"]
    assert sorted(found.weights) == weights and found.free == ("x",) and found.outputs == outputs
    assert found.name.strip('_') == name
    assert all(np.array_equal(found.weights[n], getattr(LAYER, n[-1])) for n in weights)
    held = [n.op for g in nested_graphs(found.graph) for n in g.nodes if n.op.name == "const" and n.result.type.size > 1]
    assert not held, "no weight is a constant"


def test_donated_and_static_arguments() -> None:
    def step(state: Any, x: Any, power: int) -> Any:
        return {"w": state["w"] - x.sum() ** power, "none": state["none"]}, x.sum()

    jitted = ng.jit(step, donate_argnames="state", static_argnames="power")
    found = Subject.of(jitted, ({"w": ng.spec((3,)), "none": None}, ng.spec((4,)), 2))
    assert names_of(found) == ("step", ("state.w", "x"), ("output0.w", "output1"), []) and found.donations == {0: 0}
    assert found.tree_in is not None and found.tree_in.mask == (False, True, True)
    assert found.tree_out is not None and found.tree_out.mask == (False, True, True)
    given = Subject.of(jitted, ({"w": np.ones(3, F32), "none": None}, ng.spec((4,)), 2))
    assert given.donations == {} and given.free == ("x",)


def test_dynamic_shapes_and_graphs_keep_their_sizes() -> None:
    n = ng.Dim("n", max=64)
    jitted = ng.jit(affine, dynamic_shapes={"x": {0: n}})
    assert Subject.of(jitted, (ng.spec((7, 3)), np.ones((3, 4), F32))).graph.dims == (n,)
    graph = ng.trace(affine, ng.spec((n, 3)), ng.spec((3, 4)))
    for what in (graph, ng.compile(graph)):
        found = Subject.of(what)
        assert names_of(found) == ("affine", ("x", "w"), ("output",), []) and found.graph.dims == (n,) and found.tree_in is None
    assert Subject.of(graph, (ng.spec((n, 3)), np.ones((3, 4)).astype(F32))).free == ("x",)
    for wrong in ((ng.spec((2, 3)), ng.spec((3, 4))), (ng.spec((n, 3)),), (ng.spec((n, 3)), np.ones((3, 4)))):
        with pytest.raises(SignatureError):
            Subject.of(graph, wrong)


def test_fused_regions_are_opened_and_composites_stay() -> None:
    kinds = {"fused": 0, "composite": 0}
    executable = ng.jit(Layer.__call__).lower(LAYER, ng.spec((5, 3))).executable
    assert "fused" in str(executable.graph)
    for what in (Subject.of(executable), Subject.of(LAYER, ng.spec((5, 3))), Subject.of(LAYER, ng.spec((5, 3)), optimised=False)):
        for node in what.graph.nodes:
            kinds[getattr(node.op, "kind", "composite")] += node.op.name == "call"
    assert kinds == {"fused": 0, "composite": 2}


def test_optimised_runs_passes() -> None:
    def wasteful(x: Any) -> Any:
        np.exp(x)
        return x * 1 + (x + 2) - (x + 2)

    plain, better = (len(Subject.of(wasteful, ng.spec((3,)), optimised=o).graph.nodes) for o in (False, True))
    assert better < plain


def test_names_can_be_given() -> None:
    found = Subject.of(affine, (ng.spec((2, 3)), ng.spec((3, 4))), names={"x": "pixels", "output": "scores"})
    assert found.inputs == ("pixels", "w") and found.outputs == ("scores",)
    step = Subject.of(lambda p: p, {"a": ng.spec((2,)), "b": [ng.spec((2,))]}, names={"p": "params"})
    assert step.inputs == ("params.a", "params.b.0") and step.outputs == ("a", "b.0")
    assert Subject.of(lambda a: {"a": a}, ng.spec(())).outputs == ("output.a",), "an input has this name"
    with pytest.raises(ExportError, match="names has 'y', which is no input or output; there is x, w, output"):
        Subject.of(affine, (ng.spec((2, 3)), ng.spec((3, 4))), names={"y": "z"})
    with pytest.raises(ExportError, match="two inputs or outputs called 'w'"):
        Subject.of(affine, (ng.spec((2, 3)), ng.spec((3, 4))), names={"x": "w"})


def test_what_can_not_be_exported_is_told() -> None:
    with pytest.raises(ExportError, match="argument 'p' holds arrays and specs"):
        Subject.of(lambda p: p, {"a": ng.spec((2,)), "b": np.ones(2)})
    with pytest.raises(ExportError, match="a function, a graph or an executable, got int"):
        Subject.of(3)
    with pytest.raises(ExportError, match="by keyword"):
        Subject.of(functools.partial(affine, w=np.ones(3)), ng.spec((3,)))


def test_refusals_tell_all_at_once() -> None:
    def prints(x: Any) -> Any:
        ng.debug.print("{}", x)
        y = np.sort(x)
        return np.sort(y + 1)

    graph = ng.trace(prints, ng.spec((3,)))
    refusals = Refusals("punched cards", graph.name)
    refusals.check()
    for node in graph.nodes:
        if node.op.name == "sort":
            refusals.add(node)
    with pytest.raises(ExportError, match=r"^prints can't be exported to punched cards: sort: it has no translation "
                                          r"\(test_subject.py:\d+, test_subject.py:\d+\)$"):
        refusals.check()
    refusals.add(next(n for n in graph.nodes if "print" in n.op.name), "cards print nothing")
    with pytest.raises(ExportError, match=r"for 2 reasons:\n  sort: .*\n  .*print.*: cards print nothing \(test_subject.py:"):
        refusals.check()
