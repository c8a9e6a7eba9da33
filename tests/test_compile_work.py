"""What compiling costs grows like the graph, in calls of functions: they are the same on every machine."""

from __future__ import annotations

import cProfile
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.analysis.index_values import made_of_indices
from nagraph.backends import find
from nagraph.fusion import groups
from nagraph.ir import Graph, spec
from nagraph.optim.base import OptimizerState
from nagraph.pipeline import Pipeline, apply, format_pass
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.program.lowering import lower


def unrolled(steps: int, rows: int = 4) -> Callable[[], Graph]:
    """The gradient of a recurrence that is written out; of one row, so that products stay alone, or of several."""
    def loss(x: Any, w: Any) -> Any:
        for _ in range(steps):
            x = np.tanh(x @ w + x)
        return x.sum()

    return lambda: ng.trace(ng.grad(loss, argnums=1), spec((rows, 8), "f32"), spec((8, 8), "f32"))


def train_step(layers: int) -> Callable[[], Graph]:
    """A train step of a deep perceptron with norms and residual connections, by Adam."""
    def loss(model: Any, x: Any) -> Any:
        for p in model:
            x = x + ng.nn.functional.relu(ng.nn.functional.rms_norm(x, p["g"]) @ p["w"])
        return (x * x).mean()

    optimiser = ng.optim.Adam(1e-3)

    def step(model: Any, state: Any, x: Any) -> Any:
        value, gradient = ng.value_and_grad(loss)(model, x)
        return value, optimiser.update(model, gradient, state)

    model = [{"g": spec((16,), "f32"), "w": spec((16, 16), "f32")}] * layers
    state = OptimizerState(spec((), "i64"), dict.fromkeys(optimiser.slots, model))
    return lambda: ng.trace(step, model, state, spec((32, 16), "f32"))


def update(leaves: int) -> Callable[[], Graph]:
    """Adam's update of a model of so many arrays."""
    optimiser, model = ng.optim.Adam(1e-3), [spec((4,), "f32")] * leaves
    state = OptimizerState(spec((), "i64"), dict.fromkeys(optimiser.slots, model))
    return lambda: ng.trace(optimiser.update, model, model, state)


GRAPHS = {"unrolled": unrolled, "of one row": functools.partial(unrolled, rows=1), "train step": train_step, "update": update}
SIZES = {"unrolled": (4, 8, 12), "of one row": (4, 8, 12), "train step": (2, 4, 6), "update": (16, 32, 48)}


def work(run: Callable[[], Any]) -> tuple[Any, int]:
    """What `run` gives, and how many functions it calls, those of Python's own included."""
    profile = cProfile.Profile()
    found = profile.runcall(run)
    return found, sum(row.callcount for row in profile.getstats())


def stages(trace: Callable[[], Graph]) -> Iterator[tuple[str, Any, int]]:
    """What each stage of compiling makes, by its name, and the calls that it takes: all but the writing of code."""
    graph, count = work(trace)
    yield "trace", graph, count
    pipeline = Pipeline.parse(find("llvm").pipeline)
    for name in ("rematerialize", "fuse"):
        pipeline = pipeline.replace(name, max_nodes=12)  # so that small graphs have regions of all sizes
    for i, step in enumerate(pipeline.passes, 1):
        graph, count = work(functools.partial(apply, step, graph))
        yield f"{i}. {format_pass(step)}", graph, count
    yield "verify", *work(lambda: ng.verify(graph))
    (planner, plan), count = work(lambda: kernel_plan(graph, {}))
    yield "plan", plan, count
    yield "lowering", *work(lambda: lower(planner, plan, lambda kernel: kernel))


@pytest.mark.parametrize("kind", GRAPHS)
def test_compiling_is_linear(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph of three parts takes as much more than one of two as that takes more than one of one, and has no more kernels."""
    monkeypatch.setattr(groups, "MOST_VISITED", 4)  # which small graphs reach as well
    list(stages(GRAPHS[kind](2)))
    one, two, three = (list(stages(GRAPHS[kind](n))) for n in SIZES[kind])
    for (name, _, a), (_, _, b), (_, _, c) in zip(one, two, three, strict=True):
        assert c - b <= 1.01 * (b - a) + 50, (name, a, b, c)
    (_, less, _), (_, more, _) = two[-1], three[-1]
    assert len(more.launches) > len(less.launches), "more work"
    assert len(more.functions) <= len(less.functions), "by the same kernels"
    assert len({id(x.kernel) for x in more.launches}) == len(more.functions), "each lowered once"


@pytest.mark.parametrize("name, most", [("negative", 128), ("exp", 42), ("sin", 9)])
def test_a_kernel_is_bounded_by_what_it_costs_to_compile(name: str, most: int) -> None:
    """A function that is many instructions counts for more, and a chain of it has few kernels to compile."""
    def chain(x: Any) -> Any:
        for _ in range(2 * most + 1):
            x = getattr(ng.numpy, name)(x)
        return x

    graph = ng.trace(chain, spec((64, 512), "f32"))
    for step in Pipeline.parse("fuse{max_nodes=128,kernels=True}").passes:
        graph = apply(step, graph)
    assert [len(n.op.body.nodes) for n in graph.nodes if n.op.regions] == [most, most]


def test_groups_do_not_follow_from_addresses() -> None:
    graph = unrolled(30)()
    for step in Pipeline.parse("simplify,cse,dce").passes:
        graph = apply(step, graph)
    text = str(graph)
    found = set()
    for _ in range(4):
        graph = ng.parse(text)
        place = {n: i for i, n in enumerate(graph.nodes)}
        found.add(tuple(tuple(place[n] for n in group) for group in groups.grow(graph, 128, True, made_of_indices(graph))))
    assert len(found) == 1
