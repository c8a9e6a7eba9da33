"""ONNX models: what onnx.checker says of them, and what ONNX Runtime computes with them beside our own references."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import ExportError
from nagraph.export.subject import Subject
from nagraph.ir.interpret import interpret

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

F = ng.nn.functional
F32 = np.float32
#: Of the largest value of a result.
TOLERANCE = 2e-5


def drawn(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(F32)


def loaded(path: pathlib.Path) -> Any:
    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(str(path))


def ran(path: pathlib.Path, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feeds)  # type: ignore[no-any-return]


def agree(fn: Any, path: pathlib.Path, inputs: Sequence[Any], specs: Any = None, **options: Any) -> Any:
    """The model, whose results are those of our own references."""
    types = tuple(ng.spec(x.shape, x.dtype) for x in inputs)
    ng.export.onnx(fn, path, types if specs is None else specs, **options)
    subject = Subject.of(fn, types, optimised=False)
    given = subject.weights | dict(zip(subject.free, inputs))
    wanted = interpret(subject.graph, [given[name] for name in subject.inputs])
    for expected, found in zip(wanted, ran(path, dict(zip(subject.free, inputs))), strict=True):
        assert (expected.shape, expected.dtype) == (found.shape, found.dtype)
        if expected.dtype.kind in "iub":
            np.testing.assert_array_equal(expected, found)
        else:
            np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * max(np.abs(expected).max(initial=0), 1e-30))
    return loaded(path)


def operators(model: Any) -> list[str]:
    return [n.op_type for n in model.graph.node]


def test_a_function_becomes_a_model_with_the_users_names(tmp_path: pathlib.Path) -> None:
    model = agree(lambda x, w: {"y": np.tanh(x @ w) + 1}, tmp_path / "m.onnx", [drawn(2, 3), drawn(3, 4)], metadata={"by": "me"})
    assert operators(model) == ["MatMul", "Tanh", "Add"]
    assert [i.name for i in model.graph.input] == ["x", "w"] and [o.name for o in model.graph.output] == ["y"]
    assert {p.key: p.value for p in model.metadata_props} == {"by": "me"}
    assert "test_onnx.py" in model.graph.node[0].doc_string


def test_sizes_that_are_known_later_are_names_of_dimensions(tmp_path: pathlib.Path) -> None:
    batch, time = ng.Dim("batch"), ng.Dim("time")

    def heads(x: Any) -> Any:
        y = x.reshape(x.shape[0], x.shape[1], 2, 4).transpose(0, 2, 1, 3)
        return F.softmax(y @ y.transpose(0, 1, 3, 2)), y.mean(), ng.numpy.arange(x.shape[1])

    for size in ((2, 5, 8), (1, 1, 8)):
        model = agree(heads, tmp_path / "m.onnx", [drawn(*size)], specs=ng.spec((batch, time, 8)))
    assert [d.dim_param or d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == ["batch", 2, "time", "time"]
    assert "Softmax" in operators(model)


def test_weights_are_initialisers_under_their_names_inline_or_in_one_file(tmp_path: pathlib.Path) -> None:
    model = ng.nn.Linear.init(ng.random.key(0), 64, 32)
    x = drawn(3, 64)
    inline = agree(model, tmp_path / "a.onnx", [x])
    assert {t.name for t in inline.graph.initializer} == {"weight", "bias"}
    agree(model, tmp_path / "b.onnx", [x], external=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "b.onnx.data"]
    assert (tmp_path / "b.onnx").stat().st_size < 2000


def test_what_has_no_translation_is_told_at_once_and_nothing_is_written(tmp_path: pathlib.Path) -> None:
    def talks(x: Any) -> Any:
        ng.debug.print("{}", x)
        return ng.numpy.nextafter(x, x + 1)

    with pytest.raises(ExportError, match=r"(?s)2 reasons.*debug_print.*test_onnx\.py:\d+.*nextafter.*test_onnx\.py:\d+"):
        ng.export.onnx(talks, tmp_path / "m.onnx", ng.spec((3,)))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ExportError, match="opset is a whole number from 18 to 24, got 3"):
        ng.export.onnx(talks, tmp_path / "m.onnx", ng.spec((3,)), opset=3)


@pytest.mark.parametrize("opset", [20, 23])
@pytest.mark.parametrize("mask", ["none", "bool", "numbers"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_an_operator_where_there_is_one_and_rows_that_see_nothing_are_zeros(tmp_path: pathlib.Path, opset: int, mask: str,
                                                                                         causal: bool) -> None:
    masks = {"none": [], "bool": [np.array([[True, True, False], [False] * 3]).reshape(2, 1, 1, 3)], "numbers": [drawn(5, 3)]}
    for n, m, groups in ((5, 3, 4), (3, 3, 2), (2, 3, 4)):
        given = [x[..., :n, :] if x.shape[-2] == 5 else x for x in masks[mask]]
        arrays = [drawn(2, 4, n, 8), drawn(2, groups, m, 8), drawn(2, groups, m, 6), *given]
        model = agree(lambda q, k, v, *mask: F.attention(q, k, v, *mask, causal=causal), tmp_path / "m.onnx", arrays, opset=opset)
        assert ("Attention" in operators(model)) == (opset == 23)
        assert [f.name for f in model.functions] == ["attention"] * (opset == 20)
        assert opset == 23 or "Softmax" in [n.op_type for n in model.functions[0].node]


def test_a_nan_is_the_largest_and_the_smallest_and_where_both_are(tmp_path: pathlib.Path) -> None:
    x = drawn(4, 5)
    x[1, 3] = x[2] = np.nan
    ng.export.onnx(lambda x: (x.max(1), x.min(1), ng.numpy.argmax(x, 1), ng.numpy.argmin(x, 1)), tmp_path / "m.onnx", ng.spec(x.shape))
    found = ran(tmp_path / "m.onnx", {"x": x})
    for one, expected in zip(found, (x.max(1), x.min(1), x.argmax(1), x.argmin(1)), strict=True):
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_functions_that_onnx_lacks_are_functions_of_the_model_accurate_near_zero_and_far_away(tmp_path: pathlib.Path, dtype: str) -> None:
    n = ng.numpy
    x = np.array([0, -0.0, 1e-5, -1e-5, 0.3, -0.4, 0.8, -0.9, 1, 3, -5, 20, -30, np.inf, -np.inf, np.nan], ng.spec((), dtype).dtype)
    one = [n.expm1, n.log1p, n.exp2, n.cbrt, n.arcsinh, n.sinh, n.cosh, n.tan, n.arctan, n.arcsin, n.arccos, n.arctanh, n.erf, n.erfc,
           n.log2, n.log10, n.arccosh, F.softplus]
    ng.export.onnx(lambda x: tuple(f(x) for f in one), tmp_path / "m.onnx", ng.spec(x.shape, x.dtype))
    for f, found in zip(one, ran(tmp_path / "m.onnx", {"x": x}), strict=True):
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(found, f(x), rtol=2e-6 if dtype == "f32" else 1e-14, atol=0, err_msg=str(f))


def images() -> list[Any]:
    return [drawn(2, 4, 3, 3), drawn(4), drawn(4)]


@pytest.mark.parametrize(("fn", "arrays", "since", "operator"), [
    (F.gelu, [drawn(3, 4)], 20, "Gelu"), (F.gelu_tanh, [drawn(3, 4)], 20, "Gelu"), (F.silu, [drawn(3, 4)], 24, "Swish"),
    (F.softmax, [drawn(3, 4)], 18, "Softmax"), (F.layer_norm, [drawn(3, 4)], 18, "LayerNormalization"),
    (F.rms_norm, [drawn(3, 4), drawn(4)], 23, "RMSNormalization"), (F.relu, [drawn(3, 4)], 18, "Relu"),
    (lambda x, w, b: F.group_norm(x, w, b, groups=2), images(), 21, "GroupNormalization"),
    (lambda x, m, v: F.batch_norm(x, m, v * v), images(), 18, "BatchNormalization"),
    (F.rope, [drawn(2, 3, 5, 8), drawn(5, 4), drawn(5, 4)], 23, "RotaryEmbedding"),
])
def test_a_composite_is_the_operator_of_the_opset_or_a_function(fn: Any, arrays: list[Any], since: int, operator: str,
                                                               tmp_path: pathlib.Path) -> None:
    for opset in {18, since}:
        model = agree(fn, tmp_path / "m.onnx", arrays, opset=opset)
        assert (operator in operators(model)) == (opset >= since)
        assert len(model.functions) == (opset < since)


def test_a_row_that_a_model_masks_throughout_gives_zeros(tmp_path: pathlib.Path) -> None:
    model = agree(lambda x: F.softmax(ng.where(x > 9, x, -np.inf)), tmp_path / "m.onnx", [drawn(2, 3)])
    assert "Where" in operators(model) and operators(agree(F.softmax, tmp_path / "n.onnx", [drawn(2, 3)])) == ["Softmax"]


def test_a_part_of_a_composite_is_the_operator_and_slices_that_part_an_axis_are_one_split(tmp_path: pathlib.Path) -> None:
    model = agree(lambda x, w: F.gelu(F.layer_norm(x @ w, eps=1e-3))[:, 0], tmp_path / "m.onnx", [drawn(2, 5, 3), drawn(3, 4)])
    assert {"LayerNormalization", "Gelu"} <= {*operators(model)} and not model.functions
    parts = agree(lambda x: (x[:, 2:4] + 1, x[:, :2], x[:, 4:]), tmp_path / "m.onnx", [drawn(3, 9)])
    assert operators(parts).count("Split") == 1 and "Slice" not in operators(parts)
    assert operators(agree(lambda x: (x[:, 2:4], x[:, :2]), tmp_path / "m.onnx", [drawn(3, 9)])) == ["Slice", "Slice"]
