"""Small ONNX models of every kind of thing that a file may hold."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def tensor(name: str, array: Any) -> Any:
    return numpy_helper.from_array(np.asarray(array), name)


def model(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], tensors: dict[str, Any] | None = None, *, opset: int = 20,
          functions: Any = ()) -> Any:
    """A model; inputs and outputs by name, as (element type, shape)."""
    made = helper.make_graph(nodes, "small", [helper.make_tensor_value_info(n, *t) for n, t in inputs.items()],
                             [helper.make_tensor_value_info(n, *t) for n, t in outputs.items()],
                             [tensor(n, a) for n, a in (tensors or {}).items()])
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in {f.domain for f in functions})]
    return helper.make_model(made, opset_imports=imports, functions=list(functions), ir_version=10)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def mlp(batch: Any = "batch") -> Any:
    node = helper.make_node
    return model([node("Gemm", ["x", "w1", "b1"], ["h"], transB=1), node("Relu", ["h"], ["a"]), node("MatMul", ["a", "w2"], ["y"])],
                 {"x": (F32, [batch, 4])}, {"y": (F32, [batch, 3])}, {"w1": numbers(8, 4), "b1": numbers(8), "w2": numbers(8, 3)})


def images() -> Any:
    node = helper.make_node
    return model([node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
                  node("MaxPool", ["n"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), node("GlobalAveragePool", ["p"], ["g"]),
                  node("Flatten", ["g"], ["y"])],
                 {"x": (F32, [2, 3, 8, 8])}, {"y": (F32, [2, 5])},
                 {"w": numbers(5, 3, 3, 3), "s": numbers(5), "b": numbers(5), "m": numbers(5), "v": np.abs(numbers(5)) + 1})


def shapes() -> Any:
    """Heads of attention, whose shape is computed from that of the input."""
    node = helper.make_node
    return model([node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]), node("Unsqueeze", ["n", "axis"], ["n1"]),
                  node("Concat", ["n1", "rest"], ["wanted"], axis=0), node("Reshape", ["x", "wanted"], ["r"]),
                  node("Transpose", ["r"], ["y"], perm=[0, 2, 1, 3])],
                 {"x": (F32, ["batch", 6, 8])}, {"y": (F32, ["batch", 2, 6, 4])},
                 {"zero": np.int64(0), "axis": np.array([0]), "rest": np.array([6, 2, 4])})


def control_flow() -> Any:
    """A loop with a stacked output, and a branch on data."""
    node, info = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph([node("Add", ["carry", "step"], ["next"]), node("Identity", ["goes"], ["again"]),
                              node("Identity", ["next"], ["row"])],
                             "body", [info("i", I64, []), info("goes", BOOL, []), info("carry", F32, [3])],
                             [info("again", BOOL, []), info("next", F32, [3]), info("row", F32, [3])])
    then, other = (helper.make_graph([node(op, ["total"], [f"{op}_out"])], op, [], [info(f"{op}_out", F32, [3])]) for op in ("Exp", "Neg"))
    return model([node("Loop", ["trips", "go", "x"], ["total", "rows"], body=body), node("ReduceSum", ["total"], ["sum"], keepdims=0),
                  node("Greater", ["sum", "zero"], ["positive"]), node("If", ["positive"], ["y"], then_branch=then, else_branch=other)],
                 {"x": (F32, [3])}, {"y": (F32, [3]), "rows": (F32, [4, 3])},
                 {"trips": np.int64(4), "go": np.bool_(True), "step": numbers(3), "zero": np.float32(0)})


def quantised() -> Any:
    node = helper.make_node
    made = model([node("QuantizeLinear", ["x", "scale", "zero"], ["q"]), node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
                  node("DequantizeLinear", ["w", "scale"], ["wide"]), node("MatMul", ["d", "wide"], ["y"])],
                 {"x": (F32, [2, 4])}, {"y": (F32, [2, 3])}, {"scale": np.float32(0.1), "zero": np.uint8(7)}, opset=21)
    made.graph.initializer.append(helper.make_tensor("w", TensorProto.INT4, [4, 3], np.arange(-6, 6)))
    return made


def recurrent() -> Any:
    return model([helper.make_node("LSTM", ["x", "w", "r"], ["y", "", "c"], hidden_size=5, direction="bidirectional")],
                 {"x": (F32, [4, 2, 3])}, {"y": (F32, [4, 2, 2, 5]), "c": (F32, [2, 2, 5])},
                 {"w": numbers(2, 20, 3), "r": numbers(2, 20, 5)})


def functions() -> Any:
    """A function of the model's own, with an attribute that comes from its call."""
    node = helper.make_node
    scaled = node("LeakyRelu", ["a"], ["b"])
    scaled.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    own = helper.make_function("own", "Leaky", ["a"], ["b"], [scaled], [helper.make_opsetid("", 20)], ["slope"])
    return model([node("Leaky", ["x"], ["h"], domain="own", slope=0.25), node("Leaky", ["h"], ["y"], domain="own", slope=0.5)],
                 {"x": (F32, [5])}, {"y": (F32, [5])}, functions=[own])


MODELS: dict[str, Callable[[], Any]] = {f.__name__: f for f in (mlp, images, shapes, control_flow, quantised, recurrent, functions)}


@functools.cache
def written(name: str) -> bytes:
    return onnx.ModelProto.SerializeToString(MODELS[name]())  # type: ignore[no-any-return]
