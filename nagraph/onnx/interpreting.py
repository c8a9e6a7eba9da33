"""The interpreter: a model's graph, node by node, on traced values. So importing a model is tracing this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import NagraphError, OnnxError
from nagraph.files import short
from nagraph.ir.constant import Constant, Data
from nagraph.ir.emitter import current
from nagraph.ir.graph import Value
from nagraph.ir.location import Location
from nagraph.onnx import registry
from nagraph.onnx.attributes import arguments, resolved
from nagraph.onnx.dtypes import FORMAT_OF, NUMBER_OF, Format, carrier, element_type
from nagraph.onnx.formats import Carried
from nagraph.onnx.known import KnownValues
from nagraph.onnx.modelfile import ModelFile, versions
from nagraph.onnx.opsets import NEWEST, OLDEST, ONNX_DOMAINS
from nagraph.suggestions import suggestion
from nagraph.tracing.tracer import as_value

#: Nodes that are gone through, those of functions as often as they are called.
MOST_NODES = 100_000
#: Functions that call functions.
MOST_CALLS = 32
#: What an operator's function runs into where operands and attributes do not fit, and nobody has said so before.
_MISFITS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


class Scope:
    """The values of a graph by name, those of the graphs around it included; and the versions and attributes that hold in it."""

    def __init__(self, outer: Scope | None, opsets: Mapping[str, int], attributes: Mapping[str, Any], depth: int = 0):
        self.outer, self.opsets, self.attributes, self.depth = outer, opsets, attributes, depth
        self._values: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope._values:
                return scope._values[name]
            scope = scope.outer
        raise OnnxError(f"it reads {short(name)!r}, which no input, no tensor and no node before it gives; nodes must stand in an order "
                        "in which they can be computed, without cycles")

    def set(self, name: str, value: Any) -> None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope._values:
                raise OnnxError(f"it gives {short(name)!r}, which something before it gives already")
            scope = scope.outer
        self._values[name] = value


class Interpreter:
    """The walk over the nodes of one model."""

    def __init__(self, file: ModelFile):
        self.file, self.known = file, KnownValues()
        #: The model's inputs by their values, for messages.
        self.inputs: dict[Value, str] = {}
        self._nodes = 0

    def model(self, inputs: Mapping[str, Value], values: Mapping[str, np.ndarray]) -> tuple[Value, ...]:
        """The outputs of the model. values: inputs whose numbers are given."""
        scope = Scope(None, self.file.opsets, {})
        formats = {info.name: FORMAT_OF.get(info.type.tensor_type.elem_type) for info in self.file.proto.graph.input}
        for name, value in (*inputs.items(), *((name, as_value(array)) for name, array in values.items())):
            kind = formats[name]
            scope.set(name, value if kind is None else Carried(value, kind))
        self.inputs = {value: name for name, value in inputs.items()}
        return tuple(v.value if isinstance(v, Carried) else v for v in self._graph(self.file.proto.graph, scope))

    def region(self, graph: Any, outer: Scope, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs of a graph in a node, which sees the values around it."""
        scope = Scope(outer, outer.opsets, outer.attributes, outer.depth)
        if len(graph.input) != len(operands):
            raise OnnxError(f"its region {short(graph.name)!r} has {len(graph.input)} inputs for {len(operands)} operands")
        for info, operand in zip(graph.input, operands):
            scope.set(info.name, as_value(operand) if isinstance(operand, np.ndarray) else operand)
        return self._graph(graph, scope)

    def _graph(self, graph: Any, scope: Scope) -> tuple[Any, ...]:
        for tensor in graph.initializer:
            with _placed(f"tensor {short(tensor.name)!r}"):
                scope.set(tensor.name, self.tensor(tensor))
        for tensor in graph.sparse_initializer:
            with _placed(f"sparse tensor {short(tensor.values.name)!r}"):
                scope.set(tensor.values.name, self.sparse(tensor))
        for number, node in enumerate(graph.node):
            self.node(node, scope, number)
        with _placed("the graph"):
            return tuple(scope.get(info.name) for info in graph.output)

    # -- nodes ---------------------------------------------------------------------------------------------

    def node(self, node: Any, scope: Scope, number: int) -> None:
        """Emit what a node computes, and give its results their names."""
        self._nodes += 1
        shown = f"node {number}" + (f" {short(node.name)!r}" if node.name else "") + f" ({short(node.op_type)})"
        location = Location(str(self.file.path), number)
        with _placed(shown, location), current().at(location):
            if self._nodes > MOST_NODES:
                raise OnnxError(f"the model has more than {MOST_NODES:,} nodes, those of functions counted as often as they are called")
            operands = [scope.get(name) if name else None for name in node.input]
            while operands and operands[-1] is None:
                operands.pop()
            outputs = len(node.output)
            results = self._results(node, operands, scope, outputs)
            if len(results) < outputs:
                raise OnnxError(f"it has {outputs} outputs, of which {len(results)} are computed")
            for name, result in zip(node.output, results):
                if name:
                    scope.set(name, as_value(result) if isinstance(result, np.ndarray) else result)

    def _results(self, node: Any, operands: list[Any], scope: Scope, outputs: int) -> tuple[Any, ...]:
        domain = "" if node.domain in ONNX_DOMAINS else node.domain
        attributes = resolved(node, scope.attributes)
        function = self.file.functions.get((node.domain, node.op_type))
        if function is not None:
            return self._function(function, operands, attributes, scope)
        if domain not in scope.opsets and scope.depth == 0:
            raise OnnxError(f"the model does not say which version of the operators of {short(domain) or 'ONNX'} it uses")
        operator = None if domain else _operator(node.op_type, scope.opsets.get(domain, NEWEST))
        if operator is not None:
            return self._call(operator, node, operands, attributes, scope, outputs)
        function, usual = self._definition(node, domain, operands, scope)
        return self._function(function, operands, usual | attributes, scope)

    def _call(self, operator: registry.Operator, node: Any, operands: list[Any], attributes: Mapping[str, Any], scope: Scope,
              outputs: int) -> tuple[Any, ...]:
        if len(operands) > len(operator.inputs) and not operator.variadic:
            raise OnnxError(f"it has {len(operands)} inputs, of which {operator.name} takes {len(operator.inputs)}")
        for i in range(max(len(operands), operator.required)):
            if i >= len(operands) or operands[i] is None and (i < operator.required or i >= len(operator.inputs)):
                raise OnnxError(f"it lacks input {operator.inputs[i] if i < len(operator.inputs) else i}")
        call = Call(self, scope, outputs)
        formats = dict.fromkeys(v.format for v in operands if isinstance(v, Carried))
        if formats and operator.formats == "refused":
            raise OnnxError(f"it computes with {next(iter(formats))}, which is for storing alone; Cast or DequantizeLinear it first")
        if formats and operator.formats == "kept":
            if len(formats) > 1 or not all(isinstance(v, Carried) for v in operands[:1]):
                raise OnnxError(f"its operands are of different element types: {', '.join(map(str, formats))}")
            operands = [v.value if isinstance(v, Carried) else v for v in operands]
        for i in operator.known:
            if i < len(operands) and operands[i] is not None:
                operands[i] = call.needed(operands[i], f"the numbers of its input {operator.inputs[i]}")
        keywords = arguments(operator, attributes, self.file.tensors)
        if operator.takes_call:
            keywords["call"] = call
        found = operator.make(*operands, **keywords)
        results = tuple(found) if isinstance(found, (tuple, list)) and not isinstance(found, Carried) else (found,)
        if formats and operator.formats == "kept":
            (kept,) = formats
            return tuple(Carried(r, kept) if isinstance(r, Value) and r.dtype == kept.carrier else r for r in results)
        return results

    def _function(self, function: Any, operands: list[Any], attributes: Mapping[str, Any], scope: Scope) -> tuple[Any, ...]:
        """The outputs of a function of the model, or of an operator that ONNX defines by others."""
        if scope.depth >= MOST_CALLS:
            raise OnnxError(f"functions call functions more than {MOST_CALLS} deep")
        if len(operands) > len(function.input):
            raise OnnxError(f"it has {len(operands)} inputs, of which {short(function.name)} takes {len(function.input)}")
        given = {a.name: a for a in function.attribute_proto} | dict(attributes)
        inner = Scope(None, {**scope.opsets, **versions(function.opset_import)}, given, scope.depth + 1)
        for i, name in enumerate(function.input):
            inner.set(name, operands[i] if i < len(operands) else None)
        for number, node in enumerate(function.node):
            self.node(node, inner, number)
        return tuple(inner.get(name) for name in function.output)

    def _definition(self, node: Any, domain: str, operands: list[Any], scope: Scope) -> tuple[Any, dict[str, Any]]:
        """The function by which ONNX itself defines an operator, and the usual values of its attributes. OnnxError if there is none."""
        import onnx

        version = scope.opsets.get(domain, NEWEST)
        unknown = OnnxError(f"there is no translation of {short(domain) + '.' if domain else ''}{short(node.op_type)} at version {version}"
                            f"{suggestion(node.op_type, registry.names()) if not domain else ''}; docs/onnx.md lists what is translated")
        try:
            schema = onnx.defs.get_schema(node.op_type, version, domain)
        except onnx.defs.SchemaError:
            raise unknown from None
        usual = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}
        if schema.has_function:
            return schema.function_body, usual
        if not schema.has_context_dependent_function:
            raise unknown
        types = [b"" if v is None else _type_proto(v).SerializeToString() for v in operands]
        try:
            written = schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), types)
        except RuntimeError:
            raise unknown from None
        return onnx.FunctionProto.FromString(written), usual

    # -- tensors -------------------------------------------------------------------------------------------

    def tensor(self, proto: Any) -> Any:
        """A tensor of the file as a constant; its memory stays the file's where it can."""
        kind = self.file.tensors.type(proto)[0]
        return constant(Carried(self.file.tensors.array(proto), kind) if isinstance(kind, Format) else self.file.tensors.array(proto))

    def sparse(self, proto: Any) -> Any:
        """A sparse tensor: zeros with its numbers at their places."""
        shape, values, places = tuple(proto.dims), self.tensor(proto.values), self.file.tensors.array(proto.indices)
        if isinstance(values, Carried) or any(n < 0 for n in shape) or len(values.shape) != 1 or places.ndim not in (1, 2):
            raise OnnxError(f"a sparse tensor of shape {list(shape)} has numbers and places that do not fit it")
        zeros = F.zeros(shape, values.dtype)
        if places.ndim == 1:
            places = np.stack(np.unravel_index(places, shape), -1)
        if places.shape != (values.shape[0], len(shape)) or (places < 0).any() or (places >= np.array(shape)).any():
            raise OnnxError(f"a sparse tensor of shape {list(shape)} has numbers at places that it has not")
        return F.set_at(zeros, tuple(np.ascontiguousarray(places[:, a]) for a in range(len(shape))), values)


class Call:
    """What the function of an operator may ask of the interpreter."""

    def __init__(self, interpreter: Interpreter, scope: Scope, outputs: int):
        self._interpreter, self._scope = interpreter, scope
        #: How many results the node has.
        self.outputs = outputs

    def known(self, value: Any) -> np.ndarray | None:
        """The numbers of a value, if they follow from the model alone."""
        return value if isinstance(value, np.ndarray) else self._interpreter.known.of(value)

    def needed(self, value: Any, what: str) -> np.ndarray:
        """The numbers of a value, without which there is no graph."""
        found = None if isinstance(value, Carried) else self.known(value)
        if found is None:
            raise self.needs_value(what, value)
        return found

    def needs_value(self, what: str, value: Any) -> OnnxError:
        """The error that the graph can't be made without some numbers, with the inputs that they come from."""
        behind = self._interpreter.known.depends_on(value.value if isinstance(value, Carried) else value)
        names = [self._interpreter.inputs[v] for v in behind if v in self._interpreter.inputs]
        if not names:
            return OnnxError(f"the graph can't be made without {what}, which are known only when it runs, or are too many")
        listed = ", ".join(f"{short(name)!r}: ..." for name in names[:4])
        return OnnxError(f"the graph can't be made without {what}, which follow from {'inputs' if len(names) > 1 else 'the input'} "
                         f"{', '.join(repr(short(name)) for name in names[:4])}; give numbers: values={{{listed}}}")

    def region(self, graph: Any, operands: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The outputs of a region on operands."""
        return tuple(v.value if isinstance(v, Carried) else v for v in self._interpreter.region(graph, self._scope, operands))

    def outputs_of(self, graph: Any) -> int:
        return len(graph.output)

    def dtype(self, number: int) -> Any:
        """The dtype of a TensorProto.DataType."""
        return carrier(element_type(number))

    def constant(self, value: Any) -> Any:
        return constant(value)

    def sparse(self, proto: Any) -> Any:
        return self._interpreter.sparse(proto)


def constant(array: Any) -> Any:
    """A constant of the memory of an array that nobody writes to."""
    if isinstance(array, Carried):
        return Carried(constant(array.value), array.format)
    return current().emit(Constant(Data(array, copy=False)), ())[0]


class _placed:
    """A context in which errors name the part of the model that they come from; the innermost part is named last."""

    def __init__(self, shown: str, location: Location | None = None):
        self._shown, self._suffix = shown, "" if location is None else f" ({location})"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None or not isinstance(error, (NagraphError, *_MISFITS)):
            return
        if isinstance(error, NagraphError):
            text = str(error).removesuffix(self._suffix)
        else:
            text = f"its operands and attributes do not fit one another: {' '.join(str(error).split()) or type(error).__name__}"
        raise OnnxError(f"{self._shown}: {text}") from None


def _operator(name: str, version: int) -> registry.Operator | None:
    """The operator at a version. OnnxError if it is older than those that are read, and was another one then."""
    import onnx

    found = registry.find(name, version)
    if found is not None or version >= OLDEST or (newer := registry.find(name, OLDEST)) is None:
        return found
    try:
        old, new = (onnx.defs.get_schema(name, v, "") for v in (version, OLDEST))
    except onnx.defs.SchemaError:  # there was none yet
        return None
    if old.deprecated or _signature(old) != _signature(new):
        raise OnnxError(f"it is meant as in version {version} of ONNX's operators, and those from version {OLDEST} on are read; "
                        f"onnx.version_converter.convert_version(model, {OLDEST}) makes a newer model of it")
    return newer


def _signature(schema: Any) -> Any:
    """The inputs, outputs and attributes of an operator; versions that differ in element types alone have one."""
    return ([(p.name, p.option) for p in (*schema.inputs, *schema.outputs)],
            sorted((name, a.required, a.default_value.SerializeToString()) for name, a in schema.attributes.items()))


def _type_proto(value: Any) -> Any:
    import onnx

    if isinstance(value, Carried):
        number = next(n for n, f in FORMAT_OF.items() if f == value.format)
        return onnx.helper.make_tensor_type_proto(number, value.value.shape)
    return onnx.helper.make_tensor_type_proto(NUMBER_OF[value.dtype], value.shape)
