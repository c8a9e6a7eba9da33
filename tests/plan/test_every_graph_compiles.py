"""No graph that verifies may fail to compile: what can't be one kernel is cut until each part can, with any pipeline."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nagraph as ng
from nagraph.backends import find
from nagraph.fusion.outline import halved
from nagraph.ir.interpret import interpret
from nagraph.models import CLASSES
from nagraph.models.tasks import task_class
from nagraph.models.workloads import workload
from nagraph.nn import functional
from nagraph.pipeline import Pipeline, pass_names
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.regions.calls import Call
from tests.graphs import arrays_for, graphs

#: Every pass; fusion as it is for references and for kernels, with no eye to profit; `memory` comes last or its plan is dropped.
PASSES = [*pass_names(), "fuse{min_nbytes=0}", "fuse{max_nodes=128,min_nbytes=0,kernels=True}", "rematerialize{min_nbytes=0}"]


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("f")


def residual(x, ws):
    for w in ws:
        x = x + np.tanh(x @ w)
    return x


def orbit(step, start):
    def both(y, t):
        y = step(y)
        return y, y

    return np.mean(ng.scan(both, start, np.arange(5, dtype="f"))[1] ** 2)


def runge_kutta(f, h=0.1):
    def step(y):
        a = f(y)
        b = f(y + h / 2 * a)
        c = f(y + h / 2 * b)
        return y + h / 6 * (a + 2 * b + 2 * c + f(y + h * c))

    return step


def pendulum(p, start):
    return orbit(runge_kutta(lambda y: np.stack([y[1], -p * np.sin(y[0])])), start)


def heun(p, start):
    def step(y):
        a = np.tanh(y @ p)
        return y + 0.05 * (a + np.tanh((y + 0.1 * a) @ p))

    return orbit(step, start)


def decoder(ws, x):
    wq, wk, wv, wo, up, down = ws

    def heads(w):
        return np.transpose((functional.layer_norm(x, None, None) @ w).reshape(2, 6, 4, 4), (0, 2, 1, 3))

    for _ in range(2):
        mixed = functional.attention(heads(wq), heads(wk), heads(wv), causal=True)
        x = x + np.transpose(mixed, (0, 2, 1, 3)).reshape(2, 6, 16) @ wo
        x = x + np.maximum(functional.layer_norm(x, None, None) @ up, 0) @ down
    return np.mean(x**2)


PROGRAMS = {
    "checkpoint over residual layers": (
        ng.grad(lambda ws, x: np.mean(ng.checkpoint(residual)(x, ws) ** 2)), [numbers(16, 16, seed=i) for i in range(3)], numbers(32, 16)),
    "scan of Heun's steps": (ng.grad(heun), numbers(4, 4), numbers(8, 4)),
    "scan of Runge-Kutta's steps with stack": (ng.grad(pendulum), np.float32(1.5), numbers(2)),
    "many of these": (ng.vmap(ng.grad(pendulum), (None, 0)), np.float32(1.5), numbers(6, 2)),
    "attention decoder": (ng.grad(decoder), [*numbers(4, 16, 16), numbers(16, 32), numbers(32, 16)], numbers(2, 6, 16)),
    "running product of tanh of einsum": (
        ng.grad(lambda x, w: np.cumprod(np.tanh(np.einsum("ij,jk->ik", x, w)), axis=1).sum()), numbers(4, 5), numbers(5, 6)),
}


def agree(got, expected):
    for a, b in zip(ng.tree.leaves(got), ng.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * max(1.0, float(np.abs(b).max(initial=0))))


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_whose_regions_are_no_kernel(name):
    fn, *arguments = PROGRAMS[name]
    agree(ng.jit(fn)(*arguments), ng.jit(fn, backend="numpy")(*arguments))


@pytest.mark.parametrize("a,z", [*itertools.product((1, 2, 3, 8), (1, 3, 8, 65))])
def test_a_product_whose_readers_want_another_order_than_its_rows_have(a, z):
    for y in (1, 3, 8):
        x, w = numbers(a), numbers(z, y, a)
        got = ng.jit(lambda x, w: (np.einsum("a,zya->zay", x, w) ** 2).mean(0))(x, w)
        np.testing.assert_allclose(got, (np.einsum("a,zya->zay", x, w) ** 2).mean(0), rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(graph=graphs(), passes=st.lists(st.sampled_from(PASSES), max_size=6))
def test_any_passes_in_any_order(graph, passes):
    """The results are the interpreter's, whatever the pipeline."""
    arrays = arrays_for(graph)
    agree(ng.compile(graph, passes=",".join(passes))(*arrays), interpret(graph, arrays))


@pytest.mark.parametrize("model", CLASSES)
def test_regions_of_models_are_kernels_as_they_are(model):
    """What fusion thinks a kernel, lowering makes one: no region of a training step is cut."""
    sizes = {"layers": 1, "heads": 2, "groups": 1, "width": 16, "context": 8, "batch": 2, "patch": 4, "depths": "1,1", "text_layers": 1}
    known = {f.name for f in dataclasses.fields(task_class(model).Recipe)}
    graph = workload(model, "train", **{k: v for k, v in sizes.items() if k in known}).graph()
    kernel_plan(Pipeline.parse(find("llvm").pipeline)(graph), {}, lambda d: pytest.fail(f"{d.nodes[0].op.label} is cut: {d.reason}"))


@pytest.mark.parametrize("rows,width", [(64, 16), (3, 104), (128, 7)])
def test_a_row_less_its_first_element_is_normalised_in_one_kernel(rows, width):
    """One stage reads at another place what a second keeps, and this one reads what follows from it."""
    def normalised(x, y):
        z = np.tanh(np.exp(x) * y + np.sin(x))
        first = z[:, :1]
        mean = first + (z - first).mean(-1, keepdims=True)
        return z, (z - mean) / np.sqrt(((z - mean) ** 2).mean(-1, keepdims=True) + 1e-5)

    x, y = numbers(rows, width), numbers(rows, width, seed=1)
    lowered = ng.jit(normalised).lower(x, y)
    assert len(lowered.executable.kernels) == 1
    agree(lowered.executable(x, y), normalised(x, y))


@settings(max_examples=40, deadline=None)
@given(graph=graphs())
def test_regions_cut_in_halves_compute_the_same_down_to_single_nodes(graph):
    after = Pipeline.parse(find("llvm").pipeline.replace(",schedule", ""))(graph)
    arrays = arrays_for(graph)
    for _ in range(9):
        calls = [n for n in after.nodes if isinstance(n.op, Call) and n.op.kind == "fused"]
        if not calls:
            break
        after = halved(after, calls)
        ng.verify(after)
        kernel_plan(after, {})
        for a, b in zip(interpret(after, arrays), interpret(graph, arrays), strict=True):
            np.testing.assert_array_equal(a, b)
    assert not any(isinstance(n.op, Call) and n.op.kind == "fused" for n in after.nodes)
