"""Backends: each makes an executable of an optimised graph, and answers the interface in `nagraph.backends.interface`."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from nagraph import arrays
from nagraph.errors import DeviceError, SignatureError
from nagraph.suggestions import suggestion

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from nagraph.backends.interface import Backend

#: The backend that compiles where none is named.
DEFAULT = "llvm"
#: Entry points of this group are backends that other packages bring: an object of a subclass of `Backend`.
GROUP = "nagraph.backends"
#: The backends of this package, the default one first.
BACKENDS = tuple(sorted((m.name for m in pkgutil.iter_modules(__path__) if m.ispkg), key=lambda name: (name != DEFAULT, name)))


def names() -> tuple[str, ...]:
    """The names of all backends: those of this package, then those that other packages bring."""
    return (*BACKENDS, *sorted(_outside().keys() - set(BACKENDS)))


def find(name: str | None = None) -> Backend:
    """The backend of this name, usable or not; None is the default one. SignatureError if there is none, or if it is broken."""
    if name is not None and not isinstance(name, str):
        raise SignatureError(f"a backend is named by a string, got {name!r:.80}; there is {', '.join(names())}")
    return _found(DEFAULT if name is None else name)


@functools.cache
def _found(name: str) -> Backend:
    if name in BACKENDS:
        found: Backend = importlib.import_module(f"nagraph.backends.{name}").BACKEND
    elif (entry := _outside().get(name)) is not None:
        found = _loaded(name, entry)
    else:
        raise SignatureError(f"unknown backend {name!r}{suggestion(name, names())}; there is {', '.join(names())}")
    arrays.register(found.array_kind)
    return found


def usable(name: str | None = None) -> Backend:
    """The backend of this name. SignatureError if there is none, or if it can't be used here."""
    backend = find(name)
    missing = backend.missing()
    if missing:
        raise SignatureError(f"backend {backend.name!r} can't be used here: {missing}")
    return backend


@functools.cache
def owner(cls: type[Any]) -> Backend | None:
    """The first backend that computes on arrays of this class and can be used here; None if none does."""
    for name in names():
        try:
            backend = find(name)
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
    if head not in names():
        known = (arrays.CPU, *names())
        hint = suggestion(where, known) if isinstance(where, str) else ""
        raise DeviceError(f"there is no device {where!r:.80}{hint}; there is {', '.join(known)}, or one of theirs by number: name:1")
    backend = usable(head)
    devices = backend.array_kind.devices()
    if where != head and where not in devices:
        raise DeviceError(f"there is no device {where!r}; backend {head!r} has {', '.join(devices)}")
    return backend, "" if where == head else where


def _outside() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # which reads about all that is installed: only where a name is none of ours

    return {e.name: e for e in entry_points(group=GROUP)}


def _loaded(name: str, entry: EntryPoint) -> Backend:
    from nagraph.backends.interface import Backend

    try:
        found = entry.load()
    except Exception as error:
        raise SignatureError(f"backend {name!r} ({entry.value}) can't be imported: {type(error).__name__}: {error}") from error
    if not isinstance(found, Backend):
        raise SignatureError(f"backend {name!r} is the entry point {entry.value}, which is no Backend: {found!r:.80}")
    if found.name != name:
        raise SignatureError(f"backend {name!r} is the entry point {entry.value}, which calls itself {found.name!r}; give both one name")
    return found
