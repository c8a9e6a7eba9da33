"""`ng.from_onnx`: graphs, weights, shapes that follow from the model, functions, and what is asked of the user."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import nagraph as ng
from nagraph.errors import OnnxError, SignatureError, VerifyError
from nagraph.ir.builder import Builder
from nagraph.ir.constant import Constant, Data
from tests.onnx import models
from tests.onnx.models import F32, I64, MODELS, model, numbers, written


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def save(made: Any, **kwargs: Any) -> Path:
        path = tmp_path / "model.onnx"
        onnx.save(made, path, **kwargs)
        return path

    return save


@pytest.mark.parametrize("name", sorted(MODELS))
def test_models_compute_what_the_reference_computes(name: str, saved: Any) -> None:
    path = saved(MODELS[name]())
    graph = ng.from_onnx(path, sizes={"batch": 2} if b"batch" in written(name) else {})
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    if name == "functions":  # whose reference does not know attributes of functions
        expected = [np.where(x < 0, 0.125 * x, x)]
    else:
        expected = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})
    for backend in ("numpy", "llvm"):
        for found, wanted in zip(ng.compile(graph, backend=backend)(x), expected, strict=True):
            np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)


def test_shapes_that_follow_from_the_model_leave_no_node(saved: Any) -> None:
    graph = ng.from_onnx(saved(models.shapes()), sizes={"batch": 5})
    assert [n.op.name for n in graph.nodes] == ["reshape", "transpose"]
    assert str(graph.outputs[0].type) == "f32[5,2,6,4]"


def test_nodes_carry_their_number(saved: Any) -> None:
    graph = ng.from_onnx(saved(models.mlp()), sizes={"batch": 2})
    assert {str(n.location) for n in graph.nodes if n.op.name == "dot_general"} == {"model.onnx:0", "model.onnx:2"}


def test_names_are_those_of_the_model(saved: Any) -> None:
    graph = ng.from_onnx(saved(models.control_flow()))
    assert graph.input_names == ("x",) and graph.output_names == ("y", "rows") and graph.name == "small"
    assert ng.parse(str(graph)) == graph


def test_the_function_can_be_called_traced_and_differentiated(saved: Any) -> None:
    graph = ng.from_onnx(saved(models.mlp()), sizes={"batch": 2})
    run, x = graph.as_function(), numbers(2, 4)
    y = run(x)
    assert np.array_equal(run(x=x), y) and y.shape == (2, 3)
    assert np.array_equal(ng.jit(lambda x: run(x) + 1)(x), y + 1)
    w, b, out = numbers(8, 4), numbers(8), numbers(8, 3)
    expected = ((x @ w.T + b > 0) * out.sum(1)) @ w
    np.testing.assert_allclose(ng.grad(lambda x: run(x).sum())(x), expected, 1e-5, 1e-5)
    with pytest.raises(SignatureError, match=r"input 'x' is f32\[2,4\], got f32\[3,4\]"):
        run(numbers(3, 4))
    with pytest.raises(SignatureError, match="has no input 'y'; it has x"):
        run(y=x)
    with pytest.raises(SignatureError, match="lacks input 'x'"):
        run()


def test_external_weights_are_mapped_and_not_copied(tmp_path: Path) -> None:
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (F32, [2, 512])}, {"y": (F32, [2, 512])}, {"w": numbers(512, 512)})
    onnx.save(made, tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    graph = ng.from_onnx(tmp_path / "model.onnx")
    (array,) = (n.op.array for n in graph.nodes if isinstance(n.op, Constant))
    assert not array.flags.owndata and not array.flags.writeable and np.array_equal(array, numbers(512, 512))
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert "mmap" in type(getattr(owner.base, "obj", owner.base)).__name__


def test_weights_in_the_file_are_mapped_where_they_are_aligned(saved: Any) -> None:
    for pad in range(4):
        made = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": (F32, [64])}, {"y": (F32, [64])}, {"w": numbers(64)})
        made.producer_name = "x" * pad
        (array,) = (n.op.array for n in ng.from_onnx(saved(made)).nodes if isinstance(n.op, Constant))
        assert np.array_equal(array, numbers(64)) and array.flags.aligned


def test_a_constant_of_memory_that_somebody_writes_to_is_refused() -> None:
    memory = np.zeros(4, np.float32)
    view = memory.view()
    view.flags.writeable = False
    with Builder() as builder:
        graph = builder.graph("g", builder.emit(Constant(Data(view, copy=False)), ()))
    with pytest.raises(VerifyError, match="a constant's array is its own, row-major and read-only"):
        ng.verify(graph)
    memory.flags.writeable = False
    ng.verify(graph)


def test_open_sizes_stay_open_unless_they_are_given(saved: Any) -> None:
    path = saved(models.mlp())
    graph = ng.from_onnx(path)
    assert [str(v.type) for v in (*graph.inputs, *graph.outputs)] == ["f32[batch,4]", "f32[batch,3]"]
    for rows in (1, 5):
        x = numbers(rows, 4)
        (found,), (expected,) = ng.compile(graph)(x), ng.compile(ng.from_onnx(path, sizes={"batch": rows}))(x)
        assert np.array_equal(found, expected)
    bounded = ng.from_onnx(path, sizes={"batch": ng.Dim("rows", max=7)})
    assert [str(d) for d in bounded.dims] == ["rows"] and bounded.dims[0].max == 7
    with pytest.raises(OnnxError, match=r"sizes names 'bach', which no input has \(did you mean batch\?\)"):
        ng.from_onnx(path, sizes={"bach": 2, "batch": 2})
    assert ng.from_onnx(path, types={"x": numbers(7, 4)}).output_types[0].shape == (7, 3)
    with pytest.raises(OnnxError, match=r"types has f64\[7,4\] for input 'x', which the model has as float32\[batch, 4\]"):
        ng.from_onnx(path, types={"x": np.zeros((7, 4))})


def test_shapes_that_are_computed_of_open_sizes(saved: Any) -> None:
    """Rows of a batch in pairs, side by side, counted: what of the shape is computed is an expression."""
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "first"], ["n"]),
             helper.make_node("Mul", ["n", "two"], ["doubled"]), helper.make_node("Concat", ["doubled", "minus"], ["to"], axis=0),
             helper.make_node("Reshape", ["x", "to"], ["y"]), helper.make_node("Squeeze", ["n"], ["count"]),
             helper.make_node("Range", ["zero", "count", "one"], ["numbers"])]
    tensors = {n: np.array(v, np.int64) for n, v in {"first": [0], "two": [2], "minus": [-1], "zero": 0, "one": 1}.items()}
    graph = ng.from_onnx(saved(model(nodes, {"x": (F32, ["rows", "min"])}, {"y": (F32, ["a", "b"]), "numbers": (I64, ["rows"])}, tensors)),
                         sizes={"min": 6})
    assert [str(v.type) for v in graph.outputs] == ["f32[2*rows,3]", "i64[rows]"]
    x = numbers(4, 6)
    y, counted = ng.compile(graph)(x)
    assert np.array_equal(y, x.reshape(8, 3)) and counted.tolist() == [0, 1, 2, 3]


def test_sizes_that_must_be_numbers_are_asked_for(saved: Any) -> None:
    nodes = [helper.make_node("Shape", ["x"], ["k"]), helper.make_node("TopK", ["x", "k"], ["y", "z"], axis=0)]
    made = model(nodes, {"x": (F32, ["batch size"])}, {"y": (F32, ["n"]), "z": (I64, ["n"])})
    with pytest.raises(OnnxError, match=r"node 1 \(TopK\): int\(\) needs a number, and the size batch_size .* sizes=\{...\}"):
        ng.from_onnx(saved(made))
    assert ng.from_onnx(saved(made), sizes={"batch size": 3}).output_types[0].shape == (3,)


def reshaped() -> Any:
    return model([helper.make_node("Reshape", ["x", "shape"], ["y"], name="to_rows")], {"x": (F32, [6]), "shape": (I64, [2])},
                 {"y": (F32, ["a", "b"])})


def test_numbers_that_shapes_need_are_asked_for_and_given(saved: Any) -> None:
    path = saved(reshaped())
    with pytest.raises(OnnxError, match=re.escape(
            "node 0 'to_rows' (Reshape): the graph can't be made without the numbers of its input shape, which follow from the input "
            "'shape'; give numbers: values={'shape': ...}")):
        ng.from_onnx(path)
    graph = ng.from_onnx(path, values={"shape": [2, 3]})
    assert graph.input_names == ("x",) and graph.output_types[0].shape == (2, 3)


def test_shapes_that_depend_on_data_name_the_node(saved: Any) -> None:
    made = model([helper.make_node("Abs", ["x"], ["a"]), helper.make_node("NonZero", ["a"], ["y"], name="find")], {"x": (F32, [6])},
                 {"y": (I64, [1, "n"])})
    with pytest.raises(OnnxError, match=r"node 1 'find' \(NonZero\): .*the numbers of its input x, which follow from the input 'x'"):
        ng.from_onnx(saved(made))
    assert ng.from_onnx(saved(made), values={"x": [0, 1, 0, 2, 0, 0]}).output_types[0].shape == (1, 2)


def test_a_loop_becomes_a_scan_and_a_branch_a_branch(saved: Any) -> None:
    graph = ng.from_onnx(saved(models.control_flow()))
    assert [n.op.name for n in graph.nodes if n.op.regions] == ["scan", "cond"]


def test_a_loop_on_data_becomes_a_while_loop(saved: Any) -> None:
    node, info = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph([node("Add", ["c", "c"], ["d"]), node("ReduceMax", ["d"], ["top"], keepdims=0),
                              node("Less", ["top", "limit"], ["go"])],
                             "body", [info("i", I64, []), info("g", models.BOOL, []), info("c", F32, [3])],
                             [info("go", models.BOOL, []), info("d", F32, [3])])
    made = model([node("Loop", ["", "true", "x"], ["y"], body=body)], {"x": (F32, [3])}, {"y": (F32, [3])},
                 {"true": np.bool_(True), "limit": np.float32(10)})
    graph = ng.from_onnx(saved(made))
    assert [n.op.name for n in graph.nodes if n.op.regions] == ["while_loop"]
    assert np.array_equal(ng.compile(graph)(np.array([1, 2, 3], np.float32))[0], [4, 8, 12])


def test_operators_that_onnx_defines_by_others_are_written_out(saved: Any) -> None:
    made = model([helper.make_node("AffineGrid", ["theta", "size"], ["y"])], {"theta": (F32, [2, 2, 3])}, {"y": (F32, [2, 2, 2, 2])},
                 {"size": np.array([2, 1, 2, 2])})
    theta = np.array([[[1, 0, 0], [0, 1, 0]]] * 2, np.float32)
    assert np.allclose(ng.compile(ng.from_onnx(saved(made)))(theta)[0][0, :, :, 0], [[-0.5, 0.5], [-0.5, 0.5]])


def test_an_unknown_operator_is_named(saved: Any) -> None:
    made = model([helper.make_node("Softmaxx", ["x"], ["y"])], {"x": (F32, [6])}, {"y": (F32, [6])})
    with pytest.raises(OnnxError, match=r"there is no translation of Softmaxx at version 20 \(did you mean Softmax\?\)"):
        ng.from_onnx(saved(made))


def test_old_models_are_read_where_operators_mean_the_same(saved: Any) -> None:
    plain = model([helper.make_node("Abs", ["x"], ["y"])], {"x": (F32, [6])}, {"y": (F32, [6])}, opset=13)
    assert len(ng.from_onnx(saved(plain)).nodes) == 1
    old = model([helper.make_node("Squeeze", ["x"], ["y"], axes=[0])], {"x": (F32, [1])}, {"y": (F32, [])}, opset=11)
    with pytest.raises(OnnxError, match=r"those from version 13 on are read; onnx.version_converter.convert_version\(model, 13\)"):
        ng.from_onnx(saved(old))
