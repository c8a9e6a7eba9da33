"""What compiling costs grows like the graph, in calls of functions: they are the same on every machine."""

from __future__ import annotations

import cProfile
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.analysis.index_values import made_of_indices
from nagraph.backends import find
from nagraph.fusion import groups
from nagraph.ir import Graph, spec
from nagraph.pipeline import Pipeline, apply, format_pass


def unrolled(steps: int, rows: int = 4) -> Graph:
    """The gradient of a recurrence that is written out; of one row, so that products stay alone, or of several."""
    def loss(x: Any, w: Any) -> Any:
        for _ in range(steps):
            x = np.tanh(x @ w + x)
        return x.sum()

    return ng.trace(ng.grad(loss, argnums=1), spec((rows, 8), "f32"), spec((8, 8), "f32"))


def train_step(layers: int) -> Graph:
    """A train step of a deep perceptron with layer norms and residual connections, by Adam."""
    def loss(model: Any, x: Any) -> Any:
        for p in model:
            x = x + ng.nn.functional.gelu_tanh(ng.nn.functional.layer_norm(x, p["g"], p["b"]) @ p["w"] + p["c"])
        return (x * x).mean()

    optimiser = ng.optim.Adam(1e-3)

    def step(model: Any, state: Any, x: Any) -> Any:
        value, gradient = ng.value_and_grad(loss)(model, x)
        return value, optimiser.update(model, gradient, state)

    def specs(name: str) -> Any:
        return [{"g": spec((16,), "f32"), "b": spec((16,), "f32"), "w": spec((16, 16), "f32"), "c": spec((16,), "f32")}] * layers

    state = ng.tree.map(lambda x: x, optimiser.init({"x": np.zeros(1, np.float32)}))
    state = type(state)(spec((), "i64"), {name: specs(name) for name in optimiser.slots})
    return ng.trace(step, specs("model"), state, spec((32, 16), "f32"))


GRAPHS = {"unrolled": unrolled, "of one row": functools.partial(unrolled, rows=1), "train step": train_step}


def work(run: Callable[[], Any]) -> tuple[Any, int]:
    """What `run` gives, and how many functions it calls, those of Python's own included."""
    profile = cProfile.Profile()
    found = profile.runcall(run)
    return found, sum(row.callcount for row in profile.getstats())


def steps(graph: Graph) -> dict[str, tuple[Graph, int]]:
    """For each pass of the native pipeline, with its number, the graph after it and the calls that it took."""
    found = {}
    for i, step in enumerate(Pipeline.parse(find("llvm").pipeline).passes, 1):
        graph, count = work(functools.partial(apply, step, graph))
        found[f"{i}. {format_pass(step)}"] = graph, count
    return found


@pytest.mark.parametrize("kind", GRAPHS)
def test_passes_are_linear(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph of three parts takes as much more than one of two as that takes more than one of one."""
    monkeypatch.setattr(groups, "MOST_VISITED", 4)  # which small graphs reach as well
    steps(GRAPHS[kind](1))
    one, two, three = (steps(GRAPHS[kind](n)) for n in (2, 4, 6))
    for name in one:
        a, b, c = (found[name][1] for found in (one, two, three))
        assert c - b <= 1.1 * (b - a) + 100, (name, a, b, c)


def test_groups_do_not_follow_from_addresses() -> None:
    text = str(steps(unrolled(30))["17. dce"][0])
    found = set()
    for _ in range(4):
        graph = ng.parse(text)
        place = {n: i for i, n in enumerate(graph.nodes)}
        found.add(tuple(tuple(place[n] for n in group) for group in groups.grow(graph, 128, True, made_of_indices(graph))))
    assert len(found) == 1
