"""Models as PyTorch exports them: imported they compute what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import nagraph as ng
from tests.oracles.onnx_backend.exported import MODELS, export, inputs


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_onnx_runtime(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(name, path)
    arrays = inputs(name)
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, arrays)
    graph = ng.from_onnx(path)
    found = ng.compile(graph, threads=1)(*(arrays[n] for n in graph.input_names))
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-5 * max(1, np.abs(theirs).max())
