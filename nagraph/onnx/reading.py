"""Reading a model: `ng.from_onnx` gives the graph of an ONNX file."""

from __future__ import annotations

import itertools
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nagraph import arrays as kinds
from nagraph.compiler.jitted import jit
from nagraph.errors import NagraphError, OnnxError, SignatureError, SizeError
from nagraph.files import short
from nagraph.ir.emitter import current
from nagraph.ir.graph import Graph, Value
from nagraph.ir.location import user_frames_only
from nagraph.ir.named_graph import NamedGraph
from nagraph.ir.sizes import RESERVED, Dim
from nagraph.ir.types import TensorType, spec
from nagraph.ir.verify import verify
from nagraph.onnx.dtypes import carrier, element_type
from nagraph.onnx.interpreting import Interpreter
from nagraph.onnx.modelfile import ModelFile
from nagraph.passes.dce import dce
from nagraph.suggestions import suggestion
from nagraph.tracing.tracer import as_value, trace_leaves


class OnnxGraph(NamedGraph):
    """The graph of an ONNX model: a `Graph`, with the names that the model has for its inputs and outputs."""

    def as_function(self) -> Callable[..., Any]:
        """The graph as a function of arrays, in the order of the inputs or by their names; of one output it gives the array, else a tuple.

        It is compiled when it is first called; in a trace it becomes a part of what is traced, so it can be differentiated and batched.
        """
        def on_arrays(*arrays: Any) -> Any:
            operands = [as_value(a) for a in arrays]
            for name, wanted, given in zip(self.input_names, self.inputs, operands, strict=True):
                if given.type != wanted.type:
                    raise SignatureError(f"{self.name}: input {name!r} is {wanted.type}, got {given.type}")
            found = current().inline(self, operands)
            return found[0] if len(found) == 1 else tuple(found)

        on_arrays.__name__ = re.sub(r"\W", "_", self.name) or "model"
        compiled = jit(on_arrays)

        def function(*arrays: Any, **by_name: Any) -> Any:
            return compiled(*self._ordered(arrays, by_name))

        function.__name__ = function.__qualname__ = on_arrays.__name__
        function.__doc__ = f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}"
        return function

    def _ordered(self, arrays: tuple[Any, ...], by_name: Mapping[str, Any]) -> list[Any]:
        """The arguments in the order of the inputs. SignatureError for missing, unknown and double ones."""
        if len(arrays) > len(self.input_names):
            raise SignatureError(f"{self.name} has {len(self.input_names)} inputs, got {len(arrays)} arrays")
        found = dict(zip(self.input_names, arrays))
        for name, array in by_name.items():
            if name not in self.input_names:
                raise SignatureError(f"{self.name} has no input {name!r}{suggestion(name, self.input_names)}; "
                                     f"it has {', '.join(self.input_names)}")
            if name in found:
                raise SignatureError(f"{self.name}: input {name!r} is given twice")
            found[name] = array
        missing = [name for name in self.input_names if name not in found]
        if missing:
            raise SignatureError(f"{self.name} lacks input {missing[0]!r}; it has {', '.join(self.input_names)}")
        return [found[name] for name in self.input_names]


def from_onnx(path: str | pathlib.Path, *, sizes: Mapping[str, int] | None = None, types: Mapping[str, Any] | None = None,
              values: Mapping[str, Any] | None = None) -> OnnxGraph:
    """The graph of an ONNX model. Its weights are constants, mapped from the file, or from the files of external data beside it.

    sizes: numbers for sizes that the model leaves open, by their names: {"batch": 2}; or `ng.Dim` with bounds. Others stay open, as
    dimensions of these names (`ng.Dim`), which are known when the graph is compiled or called.
    types: types of inputs, as `ng.spec` or as arrays of the type, by name, in place of what the model says.
    values: arrays for inputs that the graph is to be made for, such as the shape of a Reshape; they are inputs no longer.
    OnnxError says what is damaged, not there, or beyond what a graph can hold, and at which node.
    """
    with user_frames_only():
        try:
            file = ModelFile(path)
            return _imported(file, dict(sizes or {}), dict(types or {}), dict(values or {}))
        except NagraphError as error:
            text = str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
            raise OnnxError(text + "; or read the model for given sizes: sizes={...}" * _is_of_sizes(error)) from None


def _is_of_sizes(error: BaseException | None) -> bool:
    """Whether an error, or one that it was made of, is that a size is not known."""
    return error is not None and (isinstance(error, SizeError) or _is_of_sizes(error.__context__))


def _imported(file: ModelFile, given_sizes: dict[str, int], types: dict[str, Any], values: dict[str, Any]) -> OnnxGraph:
    proto = file.proto.graph
    tensors = {t.name for t in proto.initializer} | {t.values.name for t in proto.sparse_initializer}
    infos = {info.name: info for info in proto.input if info.name not in tensors}
    for what, given in (("types", types), ("values", values)):
        for name in given:
            if name not in infos:
                raise OnnxError(f"{what} names {name!r}, which is no input{suggestion(name, infos)}; there is {', '.join(infos) or 'none'}")
    used: set[str] = set()
    sizes = _open_sizes([name for name in infos if name not in types and name not in values], infos) | given_sizes
    known = {name: _value(name, array, infos[name]) for name, array in values.items()}
    wanted = {name: _input_type(info, sizes, types, used) for name, info in infos.items() if name not in known}
    unused = [name for name in given_sizes if name not in used]
    if unused:
        named = dict.fromkeys(d.dim_param for info in infos.values() for d in info.type.tensor_type.shape.dim if d.dim_param)
        raise OnnxError(f"sizes names {unused[0]!r}, which no input has{suggestion(unused[0], named)}; "
                        f"there is {', '.join(named) or 'none'}")
    interpreter = Interpreter(file)

    def model(*operands: Value) -> tuple[Value, ...]:
        return interpreter.model(dict(zip(wanted, operands)), known)

    name = re.sub(r"[^\w.\-]", "_", short(proto.name))[:80] or "model"
    graph, _, _, _ = trace_leaves(model, list(wanted.values()), name, [re.sub(r"\W", "_", n) for n in wanted], closed=True)
    outputs = [info.name for info in proto.output]
    for info, value in zip(proto.output, graph.outputs):
        _check_output(info, value.type, sizes)
    graph = dce(Graph(name, graph.inputs, graph.nodes, graph.outputs))
    verify(graph)
    return OnnxGraph(graph, list(wanted), outputs)


def _open_sizes(names: list[str], infos: Mapping[str, Any]) -> dict[str, Any]:
    """A dimension for each size that the model leaves open and gives a name; its own name differs where that is no word."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(d.dim_param for n in names for d in infos[n].type.tensor_type.shape.dim if d.dim_param):
        word = re.sub(r"\W", "_", short(name), flags=re.ASCII)
        word = word if re.match("[A-Za-z_]", word) and word not in RESERVED else f"size_{word}"
        taken = {d.name for d in found.values()}
        found[name] = Dim(next(w for w in itertools.chain([word], (f"{word}_{i}" for i in itertools.count(2))) if w not in taken))
    return found


def _input_type(info: Any, sizes: Mapping[str, int], types: Mapping[str, Any], used: set[str]) -> TensorType:
    """The type of an input: what is given for it, or what the model says with the sizes that are given."""
    name = short(info.name)
    if info.type.WhichOneof("value") != "tensor_type":
        raise OnnxError(f"input {name!r} is no tensor, but {info.type.WhichOneof('value') or 'of no type'}")
    tensor = info.type.tensor_type
    dtype = carrier(element_type(tensor.elem_type))
    used.update(d.dim_param for d in tensor.shape.dim if d.dim_param in sizes)
    if info.name in types:
        given = types[info.name]
        found = given if isinstance(given, TensorType) else kinds.type_of_array(given if kinds.is_array(given) else np.asarray(given))
        if found.dtype != dtype or tensor.HasField("shape") and len(tensor.shape.dim) != found.rank:
            raise OnnxError(f"types has {found} for input {name!r}, which the model has as {_shown(tensor)}")
        return found
    if not tensor.HasField("shape"):
        raise OnnxError(f"input {name!r} has no shape; give it: types={{{name!r}: ng.spec((2, 3), {dtype.name!r})}}")
    shape = []
    for axis, d in enumerate(tensor.shape.dim):
        if d.HasField("dim_value"):
            shape.append(d.dim_value)
        elif d.dim_param in sizes:
            shape.append(sizes[d.dim_param])
        else:
            raise OnnxError(f"size {axis} of input {name!r} is open and has no name; give the input's type, "
                            f"types={{{name!r}: ng.spec((2, 3), {dtype.name!r})}}")
    if any(n < 0 for n in shape if isinstance(n, int)):
        raise OnnxError(f"input {name!r} has the shape {shape}")
    return spec(tuple(shape), dtype)


def _shown(tensor: Any) -> str:
    sizes = ", ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim)
    dtype = carrier(element_type(tensor.elem_type))
    return f"{dtype}[{sizes}]" if tensor.HasField("shape") else str(dtype)


def _value(name: str, array: Any, info: Any) -> np.ndarray:
    dtype = carrier(element_type(info.type.tensor_type.elem_type))
    found = np.asarray(array)
    if found.dtype != dtype and not (found.dtype.kind in "iu" and dtype.kind in "iufV" or found.dtype.kind == "f" and dtype.kind in "fV"):
        raise OnnxError(f"values has {found.dtype} for input {short(name)!r}, which is {dtype}")
    return np.array(found, dtype)


def _check_output(info: Any, found: TensorType, sizes: Mapping[str, int]) -> None:
    """OnnxError unless an output is what the model says of it; sizes that it leaves open are free."""
    tensor = info.type.tensor_type
    if info.type.WhichOneof("value") != "tensor_type" or not tensor.elem_type:
        return
    fits = carrier(element_type(tensor.elem_type)) == found.dtype
    if tensor.HasField("shape"):
        fits &= len(tensor.shape.dim) == found.rank and all(
            not d.HasField("dim_value") or d.dim_value == n for d, n in zip(tensor.shape.dim, found.shape))
    if not fits:
        raise OnnxError(f"output {short(info.name)!r} is {_shown(tensor)} by what the model says, and {found} by what it computes")
