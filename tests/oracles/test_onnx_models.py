"""Two models as PyTorch exports them: imported they compute what ONNX Runtime computes. All: `tests.oracles.onnx_backend.exported`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracles.onnx_backend.exported import TOLERANCE, difference, difference_of_sizes


@pytest.mark.parametrize("name", ["gpt2", "resnet"])
def test_agrees_with_onnx_runtime(name: str, tmp_path: Path) -> None:
    assert difference(name, tmp_path) <= TOLERANCE


def test_open_sizes_stay_open(tmp_path: Path) -> None:
    assert difference_of_sizes("gpt2", tmp_path, [(1, 1), (2, 7), (3, 32)]) <= TOLERANCE
