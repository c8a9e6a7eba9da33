"""ONNX models on the command line: wherever a target may be."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import onnx
import pytest

import nagraph as ng
from nagraph.storage import read_safetensors, write_safetensors
from tests.cli.running import run
from tests.onnx.models import mlp, numbers


@pytest.fixture
def target(tmp_path: pathlib.Path) -> str:
    onnx.save(mlp(), tmp_path / "net.onnx")
    return f"{tmp_path / 'net.onnx'}(batch=2)"


def good(*args: Any) -> str:
    """What a command that succeeds prints."""
    done = run(*args)
    assert not done.code, done
    return done.out


def test_inspect_shows_the_graph(target: str) -> None:
    out = good("inspect", target)
    assert "graph @small(%x: f32[2,4]) -> (f32[2,3])" in out and "dot_general" in out


def test_opt_prints_and_writes_what_can_be_read_again(target: str, tmp_path: pathlib.Path) -> None:
    assert "graph @small" in good("opt", target, "-p", "simplify,cse,dce")
    good("opt", target, "-p", "simplify,cse,dce", "-o", tmp_path / "better.ng")
    graph, x = ng.parse((tmp_path / "better.ng").read_text()), numbers(2, 4)
    expected = ng.from_onnx(target.partition("(")[0], sizes={"batch": 2}).as_function()(x)
    np.testing.assert_allclose(ng.compile(graph)(x)[0], expected, 1e-6)
    assert "name a file that ends in .ng" in run("opt", target, "-o", tmp_path / "better.txt").one_sentence()


def test_run_shows_and_keeps_results(target: str, tmp_path: pathlib.Path) -> None:
    out = good("run", target, "--random")
    assert "f32[2,4]" in out and "f32[2,3]" in out and "compiled in" in out
    write_safetensors(tmp_path / "in.safetensors", {"x": numbers(2, 4)})
    good("run", target, "--inputs", tmp_path / "in.safetensors", "--out", tmp_path / "out.safetensors", "--backend", "numpy")
    (found,) = ng.compile(ng.from_onnx(target.partition("(")[0], sizes={"batch": 2}), backend="numpy")(numbers(2, 4))
    assert np.array_equal(read_safetensors(tmp_path / "out.safetensors")[0]["y"], found)
    assert "name the arrays to run on" in run("run", target).err
    write_safetensors(tmp_path / "other.safetensors", {"x": numbers(3, 4)})
    assert "'x' is f32[3,4]" in run("run", target, "--inputs", tmp_path / "other.safetensors").one_sentence()


def test_bench_times_onnx_runtime_beside(target: str, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("onnxruntime")
    good("bench", target, "--quick", "--threads", 1, "--against", "ort", "--out", tmp_path / "times.json")
    rows = json.loads((tmp_path / "times.json").read_text())["rows"]
    assert {row["column"] for row in rows} == {"nagraph", "ort"}


def test_wrong_sizes_are_told_in_a_sentence(target: str) -> None:
    path = target.partition("(")[0]
    for command in ("inspect", "opt"):
        told = run(command, path).one_sentence()
        assert "leaves sizes open (batch from 1); say how large they are, as in 'model.onnx(batch=2)'" in told
    assert "'batch' gives no size its number; write batch=2" in run("inspect", f"{path}(batch)").one_sentence()
    assert "sizes names 'time'" in run("inspect", f"{path}(batch=2, time=3)").one_sentence()
    assert "none.onnx does not exist" in run("inspect", "none.onnx").one_sentence()
