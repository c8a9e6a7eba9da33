"""`nagraph inspect --why`: what fusion and the plan decided, and why."""

from __future__ import annotations

import re

import numpy as np

import nagraph as ng
from nagraph.backends import find
from nagraph.cli.reasons import remarks
from nagraph.passes.fuse import Fuse
from nagraph.plan.kernel_planner import kernel_plan
from tests.cli.running import run

FUSE = "fuse{max_nodes=256,min_nbytes=0,kernels=True}"


def told(fn, *shapes, pipeline: str = FUSE):
    return remarks(ng.trace(fn, *(ng.spec(s, np.float32) for s in shapes)), pipeline)


def test_a_region_that_is_formed_tells_what_it_saves() -> None:
    (d,) = told(lambda x: np.tanh(np.exp(x)) + np.sin(x), (64, 32))
    assert d.formed and [n.op.name for n in d.nodes] == ["exp", "tanh", "sin", "add"] and d.reason == ""
    assert d.saved == 3 * 2 * 64 * 32 * 4, "three values are neither written nor read"


def test_a_value_that_is_read_outside_is_written_all_the_same() -> None:
    def fn(x):
        y = np.exp(x)
        return np.tanh(y), y

    (d,) = told(fn, (64, 32))
    assert d.saved == 64 * 32 * 4, "one read"


def test_refusals_name_their_reason() -> None:
    reasons = {
        "no number of rows in common: 2048 or 64 and 32": told(lambda x: np.exp(x).sum(0), (64, 32)),
        "sort to f32[64,32] has no rows that a region could share": told(lambda x: np.exp(np.sort(x)), (64, 32)),
        "a value that one of them computes is wanted from other rows, or whole": told(lambda x: np.exp(x)[::-1], (64, 32)),
        "together more than 2 nodes": told(lambda x: np.sin(np.tanh(np.exp(x))), (64, 32), pipeline="fuse{max_nodes=2}"),
        "no value of 65536 bytes or more between its nodes": told(lambda x: np.tanh(np.exp(x)), (8, 8), pipeline="fuse"),
    }
    for wanted, found in reasons.items():
        assert wanted in {d.reason for d in found if not d.formed}, (wanted, found)


def test_a_path_that_leads_around() -> None:
    found = told(lambda x: np.exp(x) + np.sort(np.exp(x)), (64, 32), pipeline=f"cse,{FUSE}")
    assert "a third group stands between them: it reads one and is read by the other" in {d.reason for d in found}


def test_pairs_that_came_together_another_way_are_no_refusals() -> None:
    found = told(lambda x: np.tanh(np.exp(x)), (64, 32))
    assert [d.formed for d in found] == [True]


def test_telling_changes_nothing() -> None:
    graph = ng.trace(lambda x: np.tanh(np.exp(x)).sum(1) + x[:, 0], ng.spec((64, 32), np.float32))
    heard = []
    fuse = Fuse(max_nodes=256, min_nbytes=0, kernels=True)
    assert fuse(graph, why=heard.append) == fuse(graph) and heard


def test_regions_that_the_plan_takes_apart() -> None:
    text = """graph @shifted(%x: f32[64,1024]) -> (f32[64]) {
  %0: f32[64] = call{label="sum_flip_add", kind="fused", body=@body}(%x)
  return %0
}
graph @body(%x: f32[64,1024]) -> (f32[64]) {
  %0: f32[64] = sum{axes=[1]}(%x)
  %1: f32[64] = flip{axes=[0]}(%0)
  %2: f32[64] = add(%0, %1)
  return %2
}"""
    heard = []
    kernel_plan(ng.parse(text), {}, heard.append)
    (d,) = heard
    assert not d.formed and d.nodes[0].op.label == "sum_flip_add" and d.reason


def test_regions_of_loops_are_told_as_well() -> None:
    def fn(x):
        return ng.scan(lambda c, _: (np.tanh(np.exp(c)), None), x, None, length=3)[0]

    assert any(d.formed and [n.op.name for n in d.nodes] == ["exp", "tanh"] for d in told(fn, (64, 32), pipeline=find("llvm").pipeline))


def test_the_command_shows_both_tables() -> None:
    done = run("inspect", "gpt2", "--why", "--rows", 2)
    assert done.code == 0 and done.err == ""
    formed, refused = re.split(r"^refused *$", done.out, flags=re.MULTILINE)
    assert formed.startswith("formed") and formed.splitlines()[1].split() == ["times", "nodes", "each", "saves", "region", "lines"]
    assert "gpt2.py:" in formed and re.search(r"dot_general_\w+", formed)
    rows = refused.strip().splitlines()
    assert rows[0].split() == ["times", "bytes", "between", "nodes", "reason", "lines"] and "other cases" in rows[-1] and len(rows) == 4


def test_a_pipeline_without_fusion_decides_nothing() -> None:
    assert "does not run fuse" in run("inspect", "gpt2", "--why", "--pipeline", "cse,dce").one_sentence()
