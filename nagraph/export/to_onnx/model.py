"""ONNX models: what is written around a graph, and where its weights are."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from nagraph.errors import ExportError
from nagraph.export.progress import Pieces
from nagraph.export.refusals import Refusals
from nagraph.export.subject import Subject
from nagraph.export.to_onnx import verification
from nagraph.export.to_onnx.scope import DOMAIN, Common, Operand, Scope, live, read_by, value_info
from nagraph.export.to_onnx.sizes import Sizes
from nagraph.files import atomic_files
from nagraph.onnx.dtypes import NUMBER_OF

#: The oldest opset that is written, and the newest that has been tried.
OLDEST, NEWEST = 18, 24
#: Bytes of weights from which on they are in a file of their own: a protobuf message holds 2 GB.
MOST_INLINE_NBYTES = 1_500_000_000
#: Smaller tensors stay in the model itself: shapes, and numbers that the checker wants to read.
_LEAST_EXTERNAL_NBYTES = 1024
#: Where tensors begin in that file: whole pages, so that readers can map them.
_ALIGNMENT = 4096


def onnx(what: Any, path: str | pathlib.Path, args_or_specs: Any = None, *, opset: int = 20, optimised: bool = True,
         names: Mapping[str, str] | None = None, metadata: Mapping[str, str] | None = None, external: bool | None = None,
         verify: bool = True) -> pathlib.Path:
    """Write a function, graph or executable as an ONNX model, and say where.

    opset: the version of ONNX's operators. optimised: whether the passes run that rewrite graphs. names: other names for inputs and
    outputs. external: whether weights are in a file beside the model, PATH.data; by itself from 1.5 GB on. verify: whether the model
    is checked by onnx.checker and, if ONNX Runtime is installed, run there on random arrays, with three sizes of each dimension, beside our
    own references; what was found is printed. Raises ExportError, which lists every op without a translation, or says what is not as it
    is here; then nothing is written.
    """
    if type(opset) is not int or not OLDEST <= opset <= NEWEST:
        raise ExportError(f"opset is a whole number from {OLDEST} to {NEWEST}, got {opset!r}")
    require()
    subject = Subject.of(what, args_or_specs, optimised=optimised, names=names, metadata=metadata)
    model, tensors = model_of(subject, opset)
    target = pathlib.Path(path)
    nbytes = sum(a.nbytes for a in tensors.values())
    with atomic_files(target, ExportError) as draft:
        if external or external is None and nbytes > MOST_INLINE_NBYTES:
            beside = draft.with_name(f"{target.name}.data")
            with open(beside, "xb") as data:
                _add_external(model, tensors, data, beside.name)
        else:
            _add_inline(model, tensors)
        draft.write_bytes(model.SerializeToString(deterministic=True))
        if verify:
            print(f"{target}: {verification.verify(draft, subject)}")
    return target


def require() -> None:
    """ExportError if the package onnx is not installed."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ExportError("writing ONNX models takes the package onnx; pip install 'nagraph[onnx]'") from None


def model_of(subject: Subject, opset: int) -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    """The ModelProto of a subject without the numbers of its tensors, and these by name. ExportError for what has no translation."""
    from onnx import helper

    refusals = Refusals(f"ONNX at opset {opset}", subject.name)
    common = Common(opset, refusals)
    w = Scope(common)
    inputs = [Operand(w.take(name), v.type) for name, v in zip(subject.inputs, subject.graph.inputs)]
    for name in subject.outputs:
        w.take(name)
    free = [x for x in inputs if x not in subject.weights]
    w.sizes = Sizes(w, [(x, x.shape) for x in free])
    outputs = w.write(subject.graph, inputs)
    refusals.check()
    named = w.distinct(outputs, [*inputs, *w.initializers])
    nodes, renamed = live(w.nodes, named), dict(zip(named, subject.outputs))
    read = {name for node in nodes for name in read_by(node)}
    tensors = {**subject.weights, **{name: array for name, array in w.initializers.items() if name in read}}
    made = {name for node in nodes for name in node.output}
    _rename(nodes, renamed)
    graph = helper.make_graph(
        nodes, subject.name, [value_info(x, x.type) for x in free],
        [value_info(n, v.type) for n, v in zip(subject.outputs, subject.graph.outputs)],
        value_info=[value_info(n, t) for n, t in w.types.items() if n in made and n not in renamed],
    )
    domains = [helper.make_opsetid("", opset), *([helper.make_opsetid(DOMAIN, 1)] if common.functions else [])]
    model = helper.make_model(graph, opset_imports=domains, functions=list(common.functions.values()), producer_name="nagraph",
                              ir_version=max(8, helper.find_min_ir_version_for(domains, ignore_unknown=True)))
    helper.set_model_props(model, subject.metadata)
    return model, tensors


def _rename(nodes: Any, names: Mapping[str, str]) -> None:
    """Give values other names, in nodes and in the graphs that they hold."""
    for node in nodes:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                if name in names:
                    field[i] = names[name]
        if node.name in names:
            node.name = names[node.name]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g.node, names)


def _add_inline(model: Any, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    from onnx import numpy_helper

    for name, array in tensors.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))


def _add_external(model: Any, tensors: Mapping[str, np.ndarray[Any, Any]], data: Any, location: str) -> None:
    """Write the numbers into a file beside the model, and where they are into the model."""
    from onnx import numpy_helper

    pieces = Pieces(location, sum(a.nbytes for a in tensors.values()))
    for name, array in tensors.items():
        if array.nbytes < _LEAST_EXTERNAL_NBYTES:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
            continue
        data.write(bytes(-data.tell() % _ALIGNMENT))
        tensor = model.graph.initializer.add(name=name, dims=array.shape, data_type=NUMBER_OF[array.dtype], data_location=1)
        for key, value in (("location", location), ("offset", data.tell()), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        for piece in pieces.of(array):
            data.write(piece)
