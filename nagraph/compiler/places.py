"""Places: which backend computes a call, how arrays get there, what crosses silently, and the two functions that say it openly."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nagraph import arrays, backends, tree
from nagraph.arrays import HOST, ArrayKind
from nagraph.compiler.signature import F64, Call
from nagraph.errors import DeviceError, SignatureError
from nagraph.ir.graph import Value
from nagraph.ir.location import caller_location
from nagraph.ir.promotion import WEAK
from nagraph.ir.types import DTYPES, DType, TensorType
from nagraph.suggestions import suggestion

if TYPE_CHECKING:
    from nagraph.backends.interface import Backend

#: An argument that crosses silently is reported if it is larger than this, when it crosses for so many calls.
LARGE_TRANSFER_NBYTES, MANY_TRANSFERS = 1 << 20, 3


def computing(named: str | None, given: Iterable[Any]) -> str | None:
    """The name of the backend that computes on these arrays: the one that is named, else the one whose arrays are among them.

    None is the default one. DeviceError where arrays of two backends meet.
    """
    if named is not None:
        return named
    found: dict[str, Any] = {}
    for x in given:
        backend = owner(type(x)) if arrays.is_elsewhere(x) else None
        if backend is not None:
            found.setdefault(backend.name, x)
    if len(found) > 1:
        shown = " and ".join(f"{arrays.type_of_array(x)} of backend {name!r}" for name, x in found.items())
        raise DeviceError(f"arrays of several backends meet: {shown}; name the one that computes, ng.jit(f, backend=...), "
                          "or move the arrays of the others: ng.device_put(x, ...)")
    return next(iter(found), None)


def python_floats(backend: str | None) -> DType:
    """The dtype of arguments that are Python floats: float64, or float32 for a backend that has no float64."""
    return F64 if F64 in backends.find(backend).dtypes else DTYPES["f32"]


@functools.cache
def owner(cls: type[Any]) -> Backend | None:
    """The first backend that computes on arrays of this class and can be used here; None if none does."""
    for name in backends.names():
        try:
            backend = backends.find(name)
        except SignatureError:  # a broken one of another package says so where it is named
            continue
        if issubclass(cls, backend.array_kind.classes()) and not backend.missing():
            return backend
    return None


def place(where: str) -> tuple[Backend | None, str]:
    """The backend and the device that a name means: "cpu" (no backend), a backend's, or that of one of its devices.

    The device is "" where none is named. DeviceError if there is none of this name.
    """
    if where == arrays.CPU:
        return None, arrays.CPU
    head = where.partition(":")[0] if isinstance(where, str) else ""
    try:
        backend = backends.usable(head)
    except SignatureError:
        if head in backends.names():  # it can't be used here
            raise
        known = (arrays.CPU, *backends.names())
        hint = suggestion(where, known) if isinstance(where, str) else ""
        raise DeviceError(f"there is no device {where!r:.80}{hint}; there is {', '.join(known)}, or one of theirs by number: name:1"
                          ) from None
    devices = backend.array_kind.devices()
    if where != head and where not in devices:
        raise DeviceError(f"there is no device {where!r}; backend {head!r} has {', '.join(devices)}")
    return backend, "" if where == head else where


# -- said openly ---------------------------------------------------------------------------------------------


def device_put(values: Any, where: str) -> Any:
    """The tree with its arrays on a device: itself where they are there already, else copies.

    where: a backend's name ("llvm", "cuda"), for the first of its devices; one of its devices ("cuda:1"); or "cpu", for NumPy arrays.
    Traced values, types, numbers and None stay as they are. DeviceError for a device that there is not, an array that can't be read,
    or a dtype that the backend has not.
    """
    return _placed(values, where, "device_put")


def to_numpy(values: Any) -> Any:
    """The tree with its arrays as NumPy arrays, read when they are computed; those that are NumPy's already as they are.

    Traced values, types, numbers and None stay as they are. DeviceError for an array that can't be read.
    """
    return _placed(values, arrays.CPU, "to_numpy")


def _placed(values: Any, where: str, by: str) -> Any:
    """The tree with its arrays where a function, which errors name, is to put them."""
    backend, device = place(where)
    kind = HOST if backend is None else backend.array_kind

    def moved(path: str, x: Any) -> Any:
        if x is None or isinstance(x, (Value, TensorType)) or type(x) in WEAK:
            return x
        named = f"{by}: {path or 'the array'}"
        try:
            if arrays.kind_of(x) is None:
                raise TypeError(f"{type(x).__name__} is no array: {x!r:.80}")
            if backend is not None and (found := arrays.type_of_array(x)).dtype not in backend.dtypes:
                raise DeviceError(f"{named} is {found}, and backend {backend.name!r} has no {found.dtype}; convert it first")
            return arrays.put(x, kind, device)
        except DeviceError:
            raise
        except TypeError as error:
            raise DeviceError(f"{named}: {error}") from None

    leaves, structure = tree.flatten(values)
    return tree.unflatten(structure, [moved(path, x) for path, x in zip(tree.paths(structure), leaves, strict=True)])


# -- a call's arguments --------------------------------------------------------------------------------------


class Crossing(NamedTuple):
    """An argument that crosses silently at each call: its label, its bytes, its largest array, and where it comes from."""

    label: str
    nbytes: int
    type: TensorType
    source: str


class Transfers:
    """The transfers of a function are what its calls have carried to the backend that computes them, without being told to."""

    def __init__(self, name: str):
        self.name = name
        self._calls: dict[str, int] = {}

    def gathered(self, call: Call, given: Sequence[Any], kind: ArrayKind, captured: Sequence[Any] = ()) -> list[Any]:
        """A call's arrays and numbers, and arrays that its function captured, as an executable on this kind takes them.

        Reports the arguments that cross again and again.
        """
        types = [getattr(t, "type", t) for t in call.types if t is not None]
        names = [f"argument {name}" for name in call.input_names] + ["a captured array"] * len(captured)
        found = arrays.gathered(kind, [*given, *captured], [*types, *map(arrays.type_of_array, captured)],
                                lambda i: f"{self.name}: {names[i]}")
        if found:
            self.note(crossings(call, given, types, kind), kind.device(found[0]), kind)
        return found

    def note(self, crossed: Sequence[Crossing], device: str, kind: ArrayKind) -> None:
        """Count a call in which these arguments crossed, and report those whose count is full."""
        for c in crossed:
            count = self._calls[c.label] = self._calls.get(c.label, 0) + 1
            if count == MANY_TRANSFERS:
                cure = ("read it once, before the loop: x = ng.to_numpy(x)" if kind is HOST else
                        f"put it there once, before the loop: x = ng.device_put(x, {device!r})")
                warnings.warn(
                    f"{self.name}: argument {c.label} ({c.nbytes / 2**20:.1f} MB, of which {c.type}) was copied from {c.source} to "
                    f"{device} at each of {count} calls ({caller_location()}); {cure}; said inside of the loop it means that this is meant",
                    stacklevel=2)


def crossings(call: Call, given: Sequence[Any], types: Sequence[TensorType], kind: ArrayKind) -> list[Crossing]:
    """The arguments of which more than LARGE_TRANSFER_NBYTES is not where arrays of this kind are."""
    found: dict[str, list[tuple[TensorType, str]]] = {}
    for label, x, type in zip(call.input_roots, given, types, strict=True):
        source = arrays.kind_of(x)
        if source is None or source is kind or isinstance(x, np.generic):
            continue
        origin = source.device(x)
        if kind is HOST and origin == arrays.CPU and source is arrays.FOREIGN:  # its memory is shown, not copied
            continue
        found.setdefault(label, []).append((type, origin))
    return [Crossing(label, total, *max(of, key=lambda x: x[0].nbytes)) for label, of in found.items()
            if (total := sum(t.nbytes for t, _ in of)) > LARGE_TRANSFER_NBYTES]
