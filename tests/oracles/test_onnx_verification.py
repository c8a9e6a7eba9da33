"""What is written as ONNX is verified, and not written if it is not what it should be."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import ExportError
from nagraph.export.to_onnx import registry, runtime
from nagraph.ops import elementwise, special

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

F = ng.nn.functional


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "m.onnx"


def means(monkeypatch: pytest.MonkeyPatch, op: Any, operator: str) -> None:
    """Have an op translated as an operator."""
    planted(monkeypatch, op, lambda w, node, *operands: w.emit(operator, *operands))


def planted(monkeypatch: pytest.MonkeyPatch, op: Any, write: Any) -> None:
    registry.translated()
    monkeypatch.setitem(registry._OPS, op, [registry.Translation(since=0, write=write, usual={})])


def test_three_sizes_of_each_dimension_are_tried_and_the_largest_error_told(path: pathlib.Path, capsys: Any) -> None:
    batch, time = ng.Dim("batch"), ng.Dim("time", min=2, max=6)
    ng.export.onnx(lambda x, w: F.softmax(x @ w), path, (ng.spec((batch, time, 3)), ng.spec((3, 4))))
    told = capsys.readouterr().out
    for name, sizes in (("batch", {1, 2, 5}), ("time", {2, 3, 5})):
        assert {int(n) for n in re.findall(rf"{name}=(\d+)", told)} == sizes
    assert re.search(r"m\.onnx: agrees with ONNX Runtime .*largest error \d\.\de-0[678] ", told)
    ng.export.onnx(lambda x: x.reshape(2, -1).sum(1), path, ng.spec((2 * batch,)), verify=False)
    assert not capsys.readouterr().out


def test_what_differs_is_an_error_and_nothing_is_written(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means(monkeypatch, special.Tanh, "Sin")
    batch = ng.Dim("batch")

    def fn(x: Any) -> Any:
        return {"same": x * 2, "other": np.tanh(x)}

    with pytest.raises(ExportError, match=r"output other for batch=1 differs in ONNX Runtime .*off by .*verify=False"):
        ng.export.onnx(fn, path, ng.spec((batch, 4)))
    assert not list(path.parent.iterdir())
    path.write_bytes(b"an older one")
    with pytest.raises(ExportError, match="differs"):
        ng.export.onnx(fn, path, ng.spec((3,)), external=True)
    assert path.read_bytes() == b"an older one" and len(list(path.parent.iterdir())) == 1
    ng.export.onnx(fn, path, ng.spec((3,)), verify=False)
    assert onnx.load(path).graph.node


def test_a_model_that_is_not_valid_or_does_not_run_is_an_error(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means(monkeypatch, special.Tanh, "Gelu")
    with pytest.raises(ExportError, match="not valid, which is a fault of nagraph's"):
        ng.export.onnx(np.tanh, path, ng.spec((3,)), opset=18)  # of which Gelu is no operator
    means(monkeypatch, special.Tanh, "Tan")
    with pytest.raises(ExportError, match="does not take the model"):  # it has none for float64
        ng.export.onnx(np.tanh, path, ng.spec((3,), "f64"))
    planted(monkeypatch, elementwise.Add, lambda w, node, x, y: w.emit("Gather", x, y))
    with pytest.raises(ExportError, match="fails on what was made: "):
        ng.export.onnx(lambda x: x + x, path, ng.spec((1,), "i64"))
    assert not list(path.parent.iterdir())


def test_without_onnx_runtime_it_is_checked_alone(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(runtime, "installed", lambda: False)
    ng.export.onnx(lambda x: x + 1, path, ng.spec((3,)))
    assert "ONNX Runtime is not installed, so it was not run" in capsys.readouterr().out


def test_inputs_are_drawn_so_that_results_are_finite_and_labels_are_classes(path: pathlib.Path, capsys: Any) -> None:
    ng.export.onnx(lambda x, labels: ng.nn.losses.cross_entropy(np.log(x), labels), path, (ng.spec((5, 2)), ng.spec((5,), "i64")))
    assert "agrees" in capsys.readouterr().out
    with pytest.raises(ExportError, match="can't be verified with random arrays: label 1 .*verify=False"):
        ng.export.onnx(ng.nn.losses.cross_entropy, path, (ng.spec((5, 1)), ng.spec((5,), "i64")))
    for dtype in ("bf16", "f16", "f64", "bool", "u8"):
        ng.export.onnx(lambda x: (x, x | x if x.dtype == bool else x + x), path, ng.spec((3, 2), dtype))
