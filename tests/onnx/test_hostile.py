"""Files that lie: each is refused in one sentence, before memory is taken for what it claims."""

from __future__ import annotations

import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import nagraph as ng
from nagraph.errors import OnnxError
from tests.onnx.models import F32, model, numbers, written

node = helper.make_node


def one(tensors: dict[str, Any] | None = None, nodes: Any = None, output: Any = (F32, [4]), **kwargs: Any) -> Any:
    tensors = {"w": numbers(4)} if tensors is None else tensors
    return model(nodes or [node("Add", ["x", "w"], ["y"])], {"x": (F32, [4])}, {"y": output}, tensors, **kwargs)


def external(location: str = "model.data", **entries: Any) -> Any:
    made = one()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return made


def tensor_with(**fields: Any) -> Any:
    made = one()
    tensor = made.graph.initializer[0]
    for name, value in fields.items():
        if name == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)
        else:
            setattr(tensor, name, value)
    return made


def nested(depth: int) -> Any:
    plain = inner = helper.make_graph([node("Identity", ["x"], ["z"])], "deep", [], [helper.make_tensor_value_info("z", F32, [4])])
    for i in range(depth):
        inner = helper.make_graph([node("If", ["c"], [f"z{i}"], then_branch=inner, else_branch=plain)], "deep", [],
                                  [helper.make_tensor_value_info(f"z{i}", F32, [4])])
    return one({"c": np.bool_(True)}, [node("If", ["c"], ["y"], then_branch=inner, else_branch=plain)])


def doubling(depth: int) -> Any:
    """Functions, each of which calls the one before twice."""
    made = []
    for i in range(depth):
        inner = (lambda a, b: node("Abs", [a], [b])) if i == 0 else (lambda a, b, i=i: node(f"f{i - 1}", [a], [b], domain="own"))
        made.append(helper.make_function("own", f"f{i}", ["a"], ["c"], [inner("a", "b"), inner("b", "c")],
                                         [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]))
    return one({}, [node(f"f{depth - 1}", ["x"], ["y"], domain="own")], functions=made)


def endless() -> Any:
    own = helper.make_function("own", "f", ["a"], ["b"], [node("f", ["a"], ["b"], domain="own")], [helper.make_opsetid("own", 1)])
    return one({}, [node("f", ["x"], ["y"], domain="own")], functions=[own])


def pooled(size: int) -> Any:
    return model([node("MaxPool", ["x"], ["y"], kernel_shape=[size])], {"x": (F32, [1, 1, 4])}, {"y": (F32, [1, 1, 4])})


LIES: dict[str, tuple[Callable[[], Any], str]] = {
    "cycle": (lambda: one({}, [node("Add", ["x", "b"], ["a"]), node("Add", ["x", "a"], ["b"]), node("Abs", ["b"], ["y"])]),
              "node 0 (Add): it reads 'b', which no input, no tensor and no node before it gives; nodes must stand in an order in which "
              "they can be computed, without cycles"),
    "one name twice": (lambda: one(None, [node("Abs", ["x"], ["y"]), node("Add", ["x", "w"], ["y"])]),
                       "node 1 (Add): it gives 'y', which something before it gives already"),
    "a tensor twice": (lambda: (m := one(), m.graph.initializer.append(m.graph.initializer[0]))[0], "tensor 'w': it gives 'w', which"),
    "an output that nobody gives": (lambda: one(None, [node("Add", ["x", "w"], ["z"])]), "the graph: it reads 'y'"),
    "too many inputs": (lambda: one(None, [node("Abs", ["x", "w"], ["y"])]), "node 0 (Abs): it has 2 inputs, of which Abs takes 1"),
    "too few inputs": (lambda: one(None, [node("Add", ["x"], ["y"])]), "node 0 (Add): it lacks input y"),
    "too many outputs": (lambda: one(None, [node("Abs", ["x"], ["y", "z"])]), "it has 2 outputs, of which 1 are computed"),
    "an unknown attribute": (lambda: one({}, [node("Softmax", ["x"], ["y"], axes=1)]),
                             "it has an attribute axes, which Softmax has not (did you mean axis?)"),
    "an attribute of another kind": (lambda: one({}, [node("Softmax", ["x"], ["y"], axis=1.5)]),
     "its attribute axis is a float, but must be an integer"),
    "a missing attribute": (lambda: one({}, [node("Concat", ["x"], ["y"])]), "it lacks the attribute axis"),
    "axis out of range": (lambda: one({}, [node("Gather", ["x", "i"], ["y"], axis=1 << 40)]), "node 0 (Gather): it reads 'i'"),
    "a lying output shape": (lambda: one(output=(F32, [5])),
     "output 'y' is float32[5] by what the model says, and f32[4] by what it computes"),
    "a lying output type": (lambda: one(output=(TensorProto.DOUBLE, [4])),
     "output 'y' is float64[4] by what the model says, and f32[4] by"),
    "types that differ": (lambda: one({"w": np.zeros(4)}), "its operands are float32 and float64, but must have one element type"),
    "a tensor shorter than its shape": (lambda: tensor_with(dims=[5]),
     "tensor 'w': it has 16 bytes, by its type and shape it should have 20"),
    "a tensor of a huge shape": (lambda: tensor_with(dims=[1 << 40]),
     "tensor 'w': it has 16 bytes, by its type and shape it should have 4,398,046"),
    "a tensor of an impossible shape": (lambda: tensor_with(dims=[1 << 62]),
     "tensor 'w': its shape is [4611686018427387904], which no array has"),
    "a tensor of a negative shape": (lambda: tensor_with(dims=[-4]), "tensor 'w': its shape is [-4], which no array has"),
    "a tensor of strings": (lambda: tensor_with(data_type=8), "tensor 'w': element type 8 (strings) is none that a graph can hold"),
    "an unknown element type": (lambda: tensor_with(data_type=99), "tensor 'w': element type 99 (which ONNX does not define)"),
    "external data above the folder": (lambda: external("../secret"), "its external data is in '../secret', but must be in a file beneath"),
    "external data elsewhere": (lambda: external("/etc/passwd"), "its external data is in '/etc/passwd', but must be in a file beneath"),
    "external data by a link": (lambda: external("link.data"), "is a symbolic link; put the file itself there"),
    "external data in a linked folder": (lambda: external("folder/passwd"), "is a symbolic link; put the file itself there"),
    "external data in a pipe": (lambda: external("pipe"), "can't be read: it is a device, a pipe or a socket, not a file"),
    "external data that is missing": (lambda: external("none.data"), "none.data does not exist"),
    "external data beyond the file": (lambda: external(offset=8), "its external data ends at byte 24 of model.data, which holds 16"),
    "external data of another length": (lambda: external(length=12),
     "its external data has 12 bytes, by its type and shape it should have 16"),
    "external data at a negative place": (lambda: external(offset=-4),
     "the offset of its external data is '-4', not a whole number of bytes"),
    "external data at an endless place": (lambda: external(offset="9" * 400), "the offset of its external data is"),
    "deep nesting": (lambda: nested(20), "messages are nested more than 64 deep"),
    "an endless function": (endless, "functions call functions more than 32 deep"),
    "a future version": (lambda: one(opset=99), "it uses version 99 of the operators of ONNX, and versions 13 to"),
    "no version": (lambda: (m := one(), m.ClearField("opset_import"))[0],
                   "it is no ONNX model: it has no graph, or no versions of operators"),
    "an impossible expansion": (lambda: one({"s": np.array([1 << 62, 4])}, [node("Expand", ["x", "s"], ["y"])]), "node 0 (Expand): "),
    "a window of zeros": (lambda: pooled(0),
                          "kernel_shape is [0], but must hold 1 numbers of at least 1"),
    "a huge window": (lambda: pooled(1 << 30),
                      "a window of 1073741824 elements does not fit an axis of 4"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    make, expected = LIES[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(make().SerializeToString())
    (tmp_path / "model.data").write_bytes(numbers(4).tobytes())
    (tmp_path / "link.data").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    tracemalloc.start()
    try:
        with pytest.raises(OnnxError, match=re.escape(expected)) as caught:
            ng.from_onnx(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size + (64 << 20)
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text


def test_functions_that_double_come_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nagraph.onnx.interpreting.MOST_NODES", 500)
    onnx.save(doubling(20), tmp_path / "model.onnx")
    with pytest.raises(OnnxError, match="the model has more than 500 nodes, those of functions counted as often as they are called"):
        ng.from_onnx(tmp_path / "model.onnx")


def test_external_data_is_read_beneath_the_folder(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.data").write_bytes(b"\0" * 8 + numbers(4).tobytes())
    onnx.save(external("weights/a.data", offset=8, length=16), tmp_path / "model.onnx")
    x = numbers(4)
    assert np.array_equal(ng.from_onnx(tmp_path / "model.onnx").as_function()(x), x + numbers(4))


@pytest.mark.parametrize("content, expected", [
    (b"", "it is empty"), (b"\0" * 40, "it is damaged, or no ONNX model"), (b"PK\x03\x04" + b"x" * 99, "it "),
    (b"\x0b", "begins a field of kind 3"), (b"\x3a\xff\xff\xff\xff\x0f", "it is cut off"), (b"\x3a", "there is no number at byte 1"),
    (b"\x12\x02\xff\xff", "byte 2 of it is in a name, and no UTF-8 text"),
    (b"\x3a\x00" * 400_000, "more than 300,000 nodes"), (b"", "it is empty"),
])
def test_what_is_no_model_is_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(OnnxError, match=expected):
        ng.from_onnx(path)


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    data = written("mlp")
    path = tmp_path / "model.onnx"
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(OnnxError):
            ng.from_onnx(path, sizes={"batch": 2})


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="none.onnx does not exist"):
        ng.from_onnx(tmp_path / "none.onnx")
    with pytest.raises(OnnxError, match="can't be read: it is a folder"):
        ng.from_onnx(tmp_path)
