"""Every optimisation against itself off: each decision forced, forbidden and taken at random; results are those of profit and NumPy.

Small programs cross every threshold, since forced decisions begin at 1. Models' whole training steps take random choices.
"""

import dataclasses
import functools

import numpy as np
import pytest

import nagraph as ng
from nagraph import choices
from nagraph.choices import DECISIONS
from nagraph.ir.interpret import interpret
from nagraph.models import CLASSES
from nagraph.models.tasks import task_class
from nagraph.models.workloads import workload
from nagraph.nn import functional
from tests.support import WHOLE

SMALL = {"layers": 1, "heads": 2, "groups": 1, "width": 8, "context": 8, "batch": 2, "patch": 4, "depths": "1,1", "text_layers": 1}


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("f")


def convolved(x, w, v):
    y = np.maximum(functional.conv(x, w, padding=1), 0)
    y = (y - y.mean((0, 2, 3), keepdims=True)) / np.sqrt(y.var((0, 2, 3), keepdims=True) + 1e-3)
    return (functional.conv(y, v, stride=2, padding=((0, 1), (1, 0))) ** 2).mean()


def attended(x, w):
    q, k, v = np.split(np.reshape(x @ w, (2, 6, 3, 2, 4)).transpose(2, 0, 3, 1, 4), 3)
    y = functional.attention(q[0], k[0], v[0], causal=True).transpose(0, 2, 1, 3)
    return (functional.layer_norm(np.concatenate([y.reshape(2, 6, 8), x], -1), None, None) ** 3).sum()


def perceived(ws, b, x, labels):
    h = np.tanh(x @ ws[0] + b)
    return functional.cross_entropy(np.pad(h, ((0, 0), (1, 1))) @ ws[1], labels).mean()


def recurred(w, x):
    def step(state, r):
        h, k = state
        h = ng.cond(np.True_, lambda h: np.tanh(h @ np.tanh(w) + r * k), lambda h: h, h)
        return (h, k), np.cumsum(h, -1) * ng.where(h.sum() > 0, 1, h)

    return ng.scan(step, (x[0], np.float32(2)), x)[1].sum()


def moved(x, i):
    y = ng.numpy.take(x, i, axis=0) + np.eye(x.shape[1], dtype="f")[0]
    z = np.concatenate([y[::-1, :3], np.pad(y, ((0, 0), (2, 1)))], 1)
    return np.sort(z, 0), z.argmax(1), np.cumsum(z, 1)[:, 2:4], ng.numpy.tril(z @ z.T).max(0), np.einsum("ab,cb->bca", z[:, :5], y).sum(1)


def summed(x, w, b):
    y = (x + b) @ w
    return y.sum(0), (y * y).mean(1), y.max((0, 1)), np.log(np.exp(y).sum(-1))


#: Functions and arguments: what networks are made of, and the gradients of it.
PROGRAMS = {
    "convolutions": (ng.value_and_grad(convolved, (0, 1, 2)), numbers(2, 3, 6, 5), numbers(4, 3, 3, 3), numbers(2, 4, 2, 3)),
    "attention": (ng.value_and_grad(attended, (0, 1)), numbers(2, 6, 8), numbers(8, 24)),
    "perceptron": (ng.value_and_grad(perceived, (0, 1)), [numbers(5, 7), numbers(9, 3)], numbers(7), numbers(9, 5), np.arange(9) % 3),
    "recurrence": (ng.value_and_grad(recurred, (0, 1)), numbers(4, 4), numbers(5, 3, 4)),
    "movement": (moved, numbers(6, 5), np.array([3, 0, 5, 3])),
    "sums": (summed, numbers(8, 12, 5), numbers(5, 6), numbers(5)),
    "gradients of sums": (
        ng.grad(lambda x, w, b: sum(y.sum() for y in summed(x, w, b)), (0, 1, 2)), numbers(8, 12, 5), numbers(5, 6), numbers(5)),
}


@functools.cache
def graph_of(name):
    fn, *arguments = PROGRAMS[name]
    graph = ng.trace(fn, *arguments)
    arrays = ng.tree.leaves(arguments)
    return graph, arrays, interpret(graph, [np.asarray(a) for a in arrays])


@functools.cache
def step_of(model):
    known = {f.name for f in dataclasses.fields(task_class(model).Recipe)}
    work = workload(model, "train", **{k: v for k, v in SMALL.items() if k in known})
    graph, arrays = work.graph(), work.arrays()
    return graph, arrays, ng.compile(graph, backend="numpy")(*(a.copy() for a in arrays))


def agree(got, expected, atol):
    """Equal but for the order of additions.

    atol: biases of keys have no gradient but what rounding leaves, which Adam makes steps of: less than 1e-5, the rate.
    """
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=3e-4, atol=max(atol, 1e-5 * float(np.abs(b[np.isfinite(b)]).max(initial=0))))
        else:
            np.testing.assert_array_equal(a, b)


SEEDS = [f"chaos={seed}" for seed in range(4)]
MODES = [*(f"{how}={name}" for name in DECISIONS for how in ("force", "forbid")), *SEEDS]
#: How many of the programs each mode runs, another selection for each.
SHARE = len(PROGRAMS) if WHOLE else 1


@pytest.mark.parametrize("mode,backend", [*((m, "llvm") for m in MODES), *((m, "numpy") for m in SEEDS)])
def test_small_programs(mode, backend):
    first = MODES.index(mode)
    for name in [[*PROGRAMS][(first + i) % len(PROGRAMS)] for i in range(SHARE)]:
        graph, arrays, expected = graph_of(name)
        with choices.using(mode):
            agree(ng.compile(graph, backend=backend)(*arrays), expected, 1e-6)


@pytest.mark.parametrize("model", CLASSES)
def test_training_steps(model):
    graph, arrays, expected = step_of(model)
    with choices.using(f"chaos={len(model)}"):
        agree(ng.compile(graph)(*(a.copy() for a in arrays)), expected, 5e-6)


def made(graph, mode):
    """What is made of a graph: its regions, its plan, its kernels."""
    with choices.using(mode):
        executable = ng.compile(graph)
    kernels = [str(k) for k in executable.kernels]
    return str(executable.graph), str(executable.plan), kernels, executable.source("llvm")


def test_chaos_changes_what_is_made():
    """Regions, plans, kernels and their code differ from profit's, and from seed to seed; equal choices make equal programs."""
    graph, *_ = graph_of("attention")
    found = [made(graph, mode) for mode in ("", "chaos=1", "chaos=2", "chaos=3")]
    for part in zip(*found):
        assert len(set(map(str, part))) == len(part)
    assert made(graph, "chaos=1") == found[1]


#: For each decision a program in which it is taken or not.
SHOWN = {
    "cse": "convolutions", "direct": "sums", "expand": "attention", "fold_constants": "recurrence", "fuse": "attention",
    "in_place": "convolutions", "narrow": "movement", "offsets": "convolutions", "storage_order": "attention", "place": "convolutions",
    "rematerialize": "convolutions",
    "rows": "attention", "schedule": "convolutions", "simplify": "attention", "split": "sums", "row_sums": "gradients of sums",
    "tile": "attention", "pretranspose": "attention", "cut": "convolutions", "gemm": "attention", "loop_split": "movement",
    "index_values": "attention", "licm": "recurrence", "prune_regions": "recurrence", "fold_control": "recurrence",
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_decision_changes_what_is_made(name):
    graph, *_ = graph_of(SHOWN[name])
    assert made(graph, f"force={name}") != made(graph, f"forbid={name}")
