"""What passes say of themselves is what they do in the run that each backend has by default."""

import functools
from collections import Counter

import numpy as np
import pytest

import nagraph as ng
from nagraph.analysis.index_values import made_of_indices
from nagraph.analysis.live_ranges import peak_live_bytes
from nagraph.backends import find
from nagraph.fusion.row_regions import row_split
from nagraph.ir.constant import Constant
from nagraph.nn import functional as F
from nagraph.pipeline import Pipeline, load, pass_names
from nagraph.plan import Planned

BACKENDS = ("llvm", "numpy")


def images(x, w, v, g, b):
    y = F.conv(x, w, padding=1)
    y, _, _ = F.batch_norm_training(y, g, b)
    return (F.conv(np.maximum(y, 0), v, padding=1) ** 2).sum()


def loop(x, w, xs):
    def step(carry, row):
        h, unused = carry
        return (np.tanh(h * np.exp(w) + row), unused + 1), h

    (h, _), rows = ng.scan(step, (x, x), xs)
    return ng.cond(True, lambda a: a * 2, lambda a: a - 1, h), (rows + 0).sum()


def masked(x, w):
    mask = np.tril(np.ones((64, 64), bool))
    scores = np.where(mask, F.softmax(x @ w + 2 * 3.0), 0)
    return scores, np.tanh(x @ w)[0:1], np.exp(x) + np.exp(x), np.where(mask, x, 0)


def order(x, y):
    a, b, c = x @ x, y @ y, x @ y
    return a.max(), b.max(), c.max()


PROGRAMS = {
    "images": (ng.grad(images, argnums=(1, 2, 3, 4)), [(8, 4, 32, 32), (16, 4, 3, 3), (16, 16, 3, 3), (16,), (16,)]),
    "loop": (loop, [(64, 512), (64, 512), (9, 64, 512)]), "masked": (masked, [(64, 64), (64, 64)]),
    "order": (order, [(256, 256), (256, 256)]), "long": (lambda x, w: (x @ w.T, x.sum()), [(2048, 1024), (192, 1024)]),
}


@functools.cache
def steps(backend):
    """(pass, graph before, graph after) of all passes in the default runs on all programs; regions stand in the graphs."""
    found = []
    for fn, shapes in PROGRAMS.values():
        graph = ng.trace(fn, *(ng.spec(s, "float32") for s in shapes))
        for step in Pipeline.parse(find(backend).pipeline).passes:
            found.append((step.pass_name, graph, Pipeline(step, verify=True)(graph)))
            graph = found[-1][2]
    return found


def test_a_pass_that_not_every_backend_runs_says_for_whom_it_is():
    run = {b: {p.pass_name for p in Pipeline.parse(find(b).pipeline).passes} for b in BACKENDS}
    for name in pass_names():
        told = "It is for backends" in " ".join((load(name).__doc__ or "").split())
        assert told == (not all(name in names for names in run.values())), name
        assert any(name in names for names in run.values()), f"{name} runs by default nowhere"


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_pass_of_the_default_run_does_something_in_it(backend):
    idle = {p.pass_name for p in Pipeline.parse(find(backend).pipeline).passes}
    for name, before, after in steps(backend):
        if isinstance(after, Planned) or str(before) != str(after):
            idle.discard(name)
    assert not idle


@pytest.mark.parametrize("backend", BACKENDS)
def test_schedule_never_takes_more_memory_and_keeps_every_node(backend):
    seen = [(before, after) for name, before, after in steps(backend) if name == "schedule"]
    for before, after in seen:
        assert set(before.nodes) == set(after.nodes)
        assert peak_live_bytes(after, after.nodes) <= peak_live_bytes(before, before.nodes)
    assert len(seen) == len(PROGRAMS)


def count(graph, left_out=()):
    """How often each op stands in the graph, and in its fused regions; constants, and nodes that make `left_out`, do not count."""
    found = Counter()
    for node in graph.nodes:
        if node.op.fused:
            found += count(node.op.body, made_of_indices(node.op.body) if left_out else ())
        elif not isinstance(node.op, Constant) and not set(node.results) & set(left_out):
            found[node.op.name if node.op.regions else str(node.op)] += 1
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_fusion_computes_nothing_twice_but_what_follows_from_indices(backend):
    regions = 0
    for name, before, after in steps(backend):
        if name == "fuse":
            everywhere = made_of_indices(before) if backend == "llvm" else ()
            assert count(before, everywhere) == count(after, everywhere and made_of_indices(after))
            regions += sum(n.op.fused for n in after.nodes)
    assert regions >= 4


def test_regions_of_numpy_run_row_by_row():
    found = [n for name, _, after in steps("numpy") if name == "fuse" for n in after.nodes if n.op.fused]
    assert found and all(row_split(n.op.body) is not None for n in found)


def test_memory_plans_at_the_end_of_numpys_run_and_nowhere_else():
    assert [p.pass_name for p in Pipeline.parse(find("numpy").pipeline).passes].index("memory") + 1 == len(
        Pipeline.parse(find("numpy").pipeline).passes)
    assert "memory" not in find("llvm").pipeline
    assert all(isinstance(after, Planned) for name, _, after in steps("numpy") if name == "memory")
