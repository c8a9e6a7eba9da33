"""Tracing: run a Python function on stand-ins and record the graph of what it does to them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

import nagraph.ops  # noqa: F401 - fills the operators that tracers use
from nagraph import arrays, tree
from nagraph import numpy as namespace
from nagraph.errors import DeviceError, LeakedTracerError, SignatureError
from nagraph.ir.builder import Builder, active, active_stack, current
from nagraph.ir.constant import Constant
from nagraph.ir.emitter import LEAKED
from nagraph.ir.graph import Graph, Node, Value, structure_of
from nagraph.ir.location import caller_location, located, show_user_frames_only, user_frames_only
from nagraph.ir.promotion import WEAK, default_dtype
from nagraph.ir.sizes import Size
from nagraph.ir.types import TensorType, type_of
from nagraph.ops.base import cast
from nagraph.ops.operands import as_array, mark_weak, size_value
from nagraph.tracing.protocols import METHODS, array_function, array_ufunc, refuse

#: Captured arrays above this size draw a warning: they belong among the arguments.
LARGE_CAPTURE_NBYTES = 1 << 20


class Tracer(Value):
    """A value under trace: a Value that answers NumPy's protocols and explains what it can't answer."""

    __slots__ = ("maker", "weak")
    __weak_slot__ = True
    __array_priority__ = 1000

    def __init__(self, type: TensorType, trace: Trace, name: str = ""):
        self.type, self.name, self.maker, self.weak = type, name, trace, False

    # -- NumPy's protocols ----------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return array_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        return array_function(func, args, kwargs)

    # -- what has no answer while tracing --------------------------------------------------------

    def _refuse(self, what: str, cure: str) -> NoReturn:
        refuse(what, cure, self)

    def __bool__(self) -> bool:
        self._refuse(
            "the truth of a traced value is not known while tracing: `if`, `while`, `and`, `or` and `not` need it",
            "use ng.where(condition, x, y) to choose between values, ng.cond or ng.while_loop for control flow",
        )

    def __float__(self) -> float:
        self._refuse("float() needs a number, which is not known while tracing", "keep the value as it is, or return it")

    def __int__(self) -> int:
        self._refuse("int() needs a number, which is not known while tracing", "use .astype('int32'), or return it")

    def __index__(self) -> int:
        self._refuse("an index of a plain array or range needs a number, which is not known while tracing",
                     "use ng.numpy.take(array, index), or ng.scan for a loop")

    def __complex__(self) -> complex:
        self._refuse("complex() needs a number, which is not known while tracing", "graphs hold no complex numbers")

    def item(self) -> Any:
        self._refuse(".item() needs a number, which is not known while tracing", "return the value and read it outside")

    def tolist(self) -> Any:
        self._refuse(".tolist() needs numbers, which are not known while tracing", "return the value and read it outside")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self._refuse(
            "NumPy asked for the numbers of a traced value, which are not known while tracing",
            "use ng.numpy.take(w, t) for w[t], ng.numpy.stack([...]) for np.array([...]), "
            "ng.numpy.dot(w, t) for w.dot(t), t.astype(dtype) for np.float32(t)",
        )

    def __setitem__(self, index: Any, value: Any) -> None:
        self._refuse("a traced value can't be assigned to in place",
                     "write x = ng.numpy.set_at(x, index, value) (also add_at, max_at, min_at)")

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a value of rank 0")
        return self.shape[0]

    def __iter__(self) -> Any:
        if not self.shape:
            raise TypeError("iteration over a value of rank 0")
        return (self[i] for i in range(self.shape[0]))

    def __eq__(self, other: object) -> Any:
        return namespace.equal(self, other)

    def __ne__(self, other: object) -> Any:
        return namespace.not_equal(self, other)

    __hash__ = object.__hash__

    def _no_writing(self, other: Any) -> Any:
        """x += y, which NumPy does in place on arrays; numbers (rank 0) it rebinds."""
        return NotImplemented if not self.shape else self._refuse(
            "an in-place operator (x += y, x[i] += y, ...) writes in place",
            "write x = x + y, or x = ng.numpy.add_at(x, i, y) for a part of x")

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = __ipow__ = __imatmul__ = _no_writing
    __iand__ = __ior__ = __ixor__ = __ilshift__ = __irshift__ = _no_writing

    # -- ndarray's attributes and methods --------------------------------------------------------

    @property
    def T(self) -> Any:
        return namespace.transpose(self)

    @property
    def mT(self) -> Any:
        return namespace.swapaxes(self, -1, -2)

    @property
    def nbytes(self) -> int:
        return self.type.nbytes

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        return cast(self, dtype)

    def reshape(self, *shape: Any) -> Any:
        return namespace.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        return namespace.transpose(self, (axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes) or None)

    def flatten(self) -> Any:
        return self.reshape(-1)

    def copy(self) -> Any:
        return self

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        if name in _WRITE:
            self._refuse(f".{name}() writes in place", _WRITE[name])
        raise AttributeError(f"a traced value of type {self.type} has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"Tracer<{self.type}>"


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """The method of tracers that calls NumPy's function."""
    return lambda self, *args, **kwargs: array_function(function, (self, *args), kwargs)


for _name in METHODS:
    setattr(Tracer, _name, _method(getattr(np, _name)))

#: Methods that change an array, and what to write instead.
_WRITE = {"sort": "write x = np.sort(x)", "fill": "write x = np.full_like(x, value)", "put": "write x = ng.numpy.set_at(x, index, value)",
          "partition": "write x = np.sort(x)", "resize": "write x = x.reshape(shape)", "setflags": "traced values can't be written to"}


class Weak(NamedTuple):
    """A weak type is that of a Python scalar."""

    type: TensorType

    @property
    def dtype(self) -> Any:
        return self.type.dtype

    def __str__(self) -> str:
        return f"Python {WEAK[('b', 'i', 'f').index(self.type.dtype.kind)].__name__}"


class Trace(Builder):
    """The builder of a function under trace: makes tracers, captures values of enclosing traces, refuses leaked ones."""

    def __init__(self, closed: bool = False, lifted: list[Any] | None = None) -> None:
        """closed: what it captures of outer traces is an error to its user, so arrays become constants of its own.

        lifted: a list for copies of the captured arrays, which then are inputs, not constants; also those of traces within.
        """
        super().__init__()
        self.captured: dict[Value, Tracer] = {}
        self._constants: dict[int, Value] = {}
        outer = None if closed else active()
        enclosing = outer if isinstance(outer, Trace) else None
        #: Each captured array (kept, so that its memory stays its own) with its latest copy; shared by traces inside one another.
        self._copies: dict[Any, tuple[Any, Constant]] = enclosing._copies if enclosing else {}
        #: Captured arrays that are not NumPy's, by identity: the array, so that it stays itself, and its numbers.
        self._read_once: dict[int, tuple[Any, Any]] = enclosing._read_once if enclosing else {}
        self._lifted = lifted
        self._kept: list[Any] = []
        #: The trace whose inputs captured arrays become.
        self._lifting: Trace | None = self if lifted is not None else enclosing._lifting if enclosing else None

    def make_value(self, type: TensorType) -> Tracer:
        return Tracer(type, self)

    def accept(self, value: Value) -> Value:
        if isinstance(value, Tracer) and value.maker is self:
            return value
        if value in self.captured:
            return self.captured[value]
        outer = active_stack()
        known = outer[:outer.index(self)] if self in outer else ()
        if isinstance(value, Tracer):
            if not any(value.maker is b for b in known):
                raise located(LeakedTracerError(f"a traced value of type {value.type} {LEAKED}"), caller_location())
        elif all(isinstance(b, Trace) for b in known):
            raise LeakedTracerError(f"a value of another graph, of type {value.type}, is used in this trace")
        inner = Tracer(value.type, self, value.name)
        inner.weak = value.weak
        self.captured[value] = inner
        return inner

    def accept_all(self, values: Sequence[Value]) -> tuple[Value, ...]:
        for v in values:
            if type(v) is not Tracer or v.maker is not self:
                return tuple(map(self.accept, values))
        return tuple(values)

    def constant(self, array: Any, expected: bool = False) -> Value:
        """A captured array as it is now: copied, again only if it was written since, with a warning if large and not `expected`.

        One that is not NumPy's is read for that, but where captured arrays become inputs: then it is one, and stays where it is.
        """
        if type(array) is not np.ndarray and arrays.is_elsewhere(array):
            if self._lifting is not None:
                return self.accept(self._lifting._lift(array, leaf_type(array)[0], lambda: arrays.copy(array)))
            array = self._read(array)
        if not isinstance(array, np.ndarray) or array.size <= (16 if self._lifting is None else 1):
            return super().constant(array)
        # By memory rather than by object: reading an array may have made new views of it.
        key = (array.ctypes.data, array.shape, array.strides, array.dtype)
        known = self._copies.get(key)
        if known is None or not known[1].value.holds(array):
            if known is None and array.nbytes > LARGE_CAPTURE_NBYTES and not expected and self._lifting is None:
                warnings.warn(
                    f"an array of {array.nbytes / 2**20:.1f} MB ({type_of(array)}) is captured as a constant "
                    f"({caller_location()}); pass it as an argument instead", stacklevel=2)
            known = self._copies[key] = array, Constant.of(array)
        if self._lifting is not None:
            op = known[1]
            return self.accept(self._lifting._lift(op, op.infer(), lambda: op.array))
        return self._constant(known[1])

    def _read(self, array: Any) -> np.ndarray[Any, Any]:
        """The numbers of a captured array that is not NumPy's, read once."""
        if id(array) not in self._read_once:
            try:
                self._read_once[id(array)] = array, arrays.read(array)
            except TypeError as error:
                raise located(DeviceError(f"a captured array: {error}"), caller_location()) from None
        found: np.ndarray[Any, Any] = self._read_once[id(array)][1]
        return found

    def _constant(self, op: Constant) -> Value:
        if id(op) not in self._constants:
            self._constants[id(op)] = self.emit(op, ())[0]  # the node keeps the op, so that its id stays its own
        return self._constants[id(op)]

    def _lift(self, known_by: Any, type: TensorType, copied: Callable[[], Any]) -> Value:
        """The input that stands for a captured array. known_by: what is the same where the array is; it stays as long as the trace."""
        assert self._lifted is not None
        if id(known_by) not in self._constants:
            self._constants[id(known_by)] = self.input(type)
            self._lifted.append(copied())
            self._kept.append(known_by)
        return self._constants[id(known_by)]

    def finish(self, name: str, outputs: Sequence[Value]) -> tuple[Graph, list[Value]]:
        """The graph, of plain values, and the captured outer values that its last inputs stand for."""
        record = self.record(outputs)
        return record.graph(name), record.captured

    def record(self, outputs: Sequence[Value]) -> Record:
        """What was recorded. The trace lets go of it and of itself, so that all is gone when nobody has it any more."""
        made = Record([*self.inputs, *self.captured.values()], self.nodes, self.accept_all(outputs), list(self.captured))
        self.inputs, self.nodes, self.captured, self._constants, self._lifting = [], [], {}, {}, None
        return made


class Record(NamedTuple):
    """A graph of tracers, as a trace recorded it. captured: the outer values that its last inputs stand for."""

    inputs: list[Value]
    nodes: list[Node]
    outputs: tuple[Value, ...]
    captured: list[Value]

    @property
    def structure(self) -> tuple[Any, ...]:
        """That of the graph, but for its name: a hashable that is equal for graphs equal up to names and source locations."""
        return structure_of(self.inputs, self.nodes, self.outputs)

    def graph(self, name: str) -> Graph:
        """The graph, of plain values."""
        plain: dict[Value, Value] = {}

        def settle(v: Value) -> Value:
            made = plain[v] = Value(v.type, v.name)
            return made

        inputs = list(map(settle, self.inputs))
        nodes = []
        for node in self.nodes:
            operands = tuple([plain[v] for v in node.operands])
            nodes.append(Node(node.op, operands, tuple(map(settle, node.results)), node.location))
        return Graph(name, inputs, nodes, [plain[v] for v in self.outputs])


def leaf_type(leaf: Any) -> tuple[TensorType, bool]:
    """The type that a leaf, or what stands for one, is traced with, and whether it is weak. SignatureError if it is no array."""
    if isinstance(leaf, TensorType):
        return leaf, False
    if type(leaf) is Weak:
        return leaf.type, True
    if isinstance(leaf, Value):
        return leaf.type, leaf.weak
    if type(leaf) in WEAK:
        return TensorType(default_dtype(type(leaf)), ()), True
    kind = arrays.HOST if isinstance(leaf, (np.ndarray, np.generic)) else arrays.kind_of(leaf)
    if kind is not None:
        if isinstance(leaf, (np.matrix, np.ma.MaskedArray)):
            raise SignatureError(f"{type(leaf).__name__} computes by rules of its own, which graphs do not have; pass np.asarray of it")
        try:
            return kind.type(leaf), False
        except TypeError as error:
            raise SignatureError(str(error)) from None
    raise SignatureError(
        f"{type(leaf).__name__} is no array, number, or container of them: {leaf!r:.80}; "
        "name the argument in static_argnames if the function should be specialised on it"
    )


def trace_leaves(fn: Callable[..., Any], leaves: Sequence[Any], name: str, names: Sequence[str] = (), *,
                 closed: bool = False) -> tuple[Graph, list[Value], tree.Structure, list[bool]]:
    """Trace fn(*leaves) (None leaves stay None). `closed`: as of a `Trace`.

    Returns the graph, the captured outer values, the structure of the result, and for each leaf of
    the result whether it is an output (True) or None.
    """
    record, structure, mask = recorded(fn, leaves, names, closed=closed)
    return record.graph(name), record.captured, structure, mask


def recorded(fn: Callable[..., Any], leaves: Sequence[Any], names: Sequence[str] = (), *, closed: bool = False,
             lifted: list[Any] | None = None) -> tuple[Record, tree.Structure, list[bool]]:
    """The same without making a graph. `closed`, `lifted`: as of a `Trace`."""
    with Trace(closed, lifted) as trace:
        arguments: list[Any] = []
        for i, leaf in enumerate(leaves):
            if leaf is None:
                arguments.append(None)
                continue
            type, weak = leaf_type(leaf)
            tracer = trace.input(type, names[i] if i < len(names) else "")
            tracer.weak = weak  # type: ignore[misc]
            arguments.append(tracer)
        result = fn(*arguments)
        found, structure = tree.flatten(result)
        record = trace.record([as_value(x) for x in found if x is not None])
    return record, structure, [x is not None for x in found]


def as_value(x: Any) -> Value:
    """A result of a traced function as a value: arrays and numbers become constants, sizes numbers."""
    if isinstance(x, Value):
        return current().accept(x)
    if isinstance(x, Size):
        made = size_value(x, default_dtype(int))
        mark_weak(made)
        return made
    _, weak = leaf_type(x)
    made = as_array(x)
    value = made if isinstance(made, Value) else current().constant(made)
    if weak:
        mark_weak(value)
    return value


def check_function(by: str, fn: Any) -> None:
    """Raise SignatureError if fn is nothing to call; `by` is the name of what takes it."""
    if not callable(fn):
        raise SignatureError(f"{by}: a function is wanted, got {type(fn).__name__}: {fn!r:.80}")


def function_name(fn: Any) -> str:
    """A name for the graph of fn that the text form can write."""
    name = getattr(fn, "__name__", type(fn).__name__)
    cleaned = "".join(c if c.isalnum() or c in "_." else "_" for c in name).strip("_")
    return cleaned or "graph"


def argument_names(fn: Any, args: Sequence[Any]) -> list[str]:
    """A name for each leaf of the arguments: the parameter's name, with the path inside it."""
    labels = positional_labels(signature_of(fn), len(args))
    return [name for label, a in zip(labels, args) for name in tree.paths(tree.structure(a), label)]


def signature_of(fn: Any) -> inspect.Signature | None:
    """The signature, where Python knows one."""
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None


def positional_labels(signature: inspect.Signature | None, count: int) -> list[str]:
    """Names of the first `count` positional arguments; those that *xs takes are xs[0], xs[1], ..."""
    labels: list[str] = []
    for p in signature.parameters.values() if signature is not None else ():
        if p.kind is p.VAR_POSITIONAL:
            labels += [f"{p.name}[{i}]" for i in range(count - len(labels))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            labels.append(p.name)
    return [*labels, *(f"arg{i}" for i in range(len(labels), count))][:count]


def trace(fn: Callable[..., Any], *args: Any) -> Graph:
    """The graph of fn(*args), args being arrays, pytrees of them, or `ng.spec`s.

        >>> print(ng.trace(lambda x: np.tanh(x) * 2, ng.spec((3,))))
    """
    check_function("trace", fn)
    leaves, structure = tree.flatten(args)
    with user_frames_only():
        graph, captured, _, _ = trace_leaves(
            lambda *xs: fn(*tree.unflatten(structure, xs)), leaves, function_name(fn), argument_names(fn, args), closed=True)
    if captured:
        raise LeakedTracerError("ng.trace inside another trace can't use that trace's values; pass them as arguments")
    return graph


show_user_frames_only()
