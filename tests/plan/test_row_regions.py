"""Regions that NumPy's backend runs in blocks of rows: what may be part of one, and that blocks compute what the whole does."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.fusion.row_regions import block_graph, row_split
from nagraph.fusion.rows import row_form
from nagraph.ir.axes import ANYWHERE, IN_ORDER, SAME
from nagraph.ir.interpret import interpret
from nagraph.plan import planner

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("relation, result, operand, rows, form", [
    ((0, 1), (4, 8), (4, 8), 32, True), ((0, ANYWHERE), (4, 8), (4, 6), 4, True), ((0, ANYWHERE), (4, 6), (4, 6), 24, None),
    ((SAME, 0), (4, 8), (8,), 4, False), ((SAME, 0), (4, 8), (8,), 32, None), ((SAME, 0), (1, 8), (8,), 8, True),
    ((1, 0), (8, 4), (4, 8), 8, None), ((1, 0, 2), (4, 1, 3), (1, 4, 3), 4, True), (IN_ORDER, (4, 8), (2, 2, 8), 4, True),
    (IN_ORDER, (4, 8), (2, 16), 4, None), ((ANYWHERE, 1), (4, 8), (4, 8), 4, None), ((0, 1), (4, 8), (4, 8), 8, None),
])
def test_what_a_row_reads(relation, result, operand, rows, form):
    assert row_form(relation, result, operand, rows) is form


PROGRAMS = {
    "leading axes of size 1": (lambda x, b: np.tanh(x * b).sum(-1)[0], [(1, 64, 8), (64, 1)]),
    "they change places": (lambda x: np.exp(np.swapaxes(x + 1, 0, 1) * 2), [(1, 64, 8)]),
    "several axes of rows": (lambda x, b: np.maximum(np.reshape(x * b, (8, 8, 2, 5)).max(-1), 0) + 1, [(64, 10), (10,)]),
    "parts of a row": (lambda x: np.exp(x[:, 2:6] * 2)[:, ::-1] + 1, [(64, 8)]),
    "the largest of a row": (lambda x: np.argmax(x * 2, axis=1) + 1, [(64, 8)]),
    "whole matrices of a row": (lambda x: np.tanh(x * x).sum(1), [(64, 6, 7)]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_blocks_compute_what_the_whole_does(name, monkeypatch):
    """Three blocks and a shorter one, bit for bit."""
    fn, shapes = PROGRAMS[name]
    arrays = [RNG.normal(size=s).astype("f4") for s in shapes]
    graph = ng.trace(fn, *(ng.spec(s, "float32") for s in shapes))
    fused = ng.Pipeline.parse("canonicalize,simplify,fold_constants,cse,dce,fuse{min_nbytes=0}")(graph)
    assert len([n for n in fused.nodes if n.op.fused]) == 1
    monkeypatch.setattr(planner, "BLOCK_NBYTES", 20 * 8 * 4)
    exe = ng.compile(graph, backend="numpy", passes="canonicalize,simplify,fold_constants,cse,dce,fuse{min_nbytes=0},schedule,memory")
    (loop,) = [s.row_loop for s in exe.plan.steps if s.row_loop]
    assert loop.rows == 64 or loop.rows % 64 == 0
    assert 1 < loop.size < loop.rows
    np.testing.assert_array_equal(exe(*arrays)[0], interpret(graph, arrays)[0])


def test_products_joins_and_indices_stay_outside():
    """A block of a product would be added in another order; what is joined is copied; an index is another in each block."""
    def fn(x, y):
        z = np.tanh(x @ y) * 2
        return np.concatenate([z, z], 1) * 2 + np.arange(16, dtype=np.float32)

    traced = ng.trace(fn, ng.spec((8, 4), "f4"), ng.spec((4, 8), "f4"))
    graph = ng.Pipeline.parse("canonicalize,simplify,cse,dce,fuse{min_nbytes=0}")(traced)
    inside = {n.op.name for c in graph.nodes if c.op.fused for n in c.op.body.nodes}
    assert inside and not inside & {"dot_general", "concatenate", "iota"}
    for node in graph.nodes:
        if node.op.fused:
            split = row_split(node.op.body)
            assert split is not None and len(block_graph(node.op.body, split, 2).nodes) == len(node.op.body.nodes)
