"""Backends: each makes an executable of an optimised graph, and answers the interface in `nagraph.backends.interface`."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING

from nagraph.errors import SignatureError
from nagraph.suggestions import suggestion

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from nagraph.backends.interface import Backend

#: The backend that compiles where none is named.
DEFAULT = "llvm"
#: Entry points of this group are backends that other packages bring: an object of a subclass of `Backend`.
GROUP = "nagraph.backends"
#: Packages here that are no backends: what several of them share.
SHARED = frozenset(("gpu",))
#: The backends of this package, the default one first.
BACKENDS = tuple(sorted((m.name for m in pkgutil.iter_modules(__path__) if m.ispkg and m.name not in SHARED),
                        key=lambda name: (name != DEFAULT, name)))


def names() -> tuple[str, ...]:
    """The names of all backends: those of this package, then those that other packages bring."""
    return (*BACKENDS, *sorted(_outside().keys() - set(BACKENDS)))


def find(name: str | None = None) -> Backend:
    """The backend of this name, usable or not; None is the default one. SignatureError if there is none, or if it is broken."""
    check_name(name)
    return _found(DEFAULT if name is None else name)


def check_name(name: object) -> None:
    """Refuse what can't name a backend: SignatureError unless it is a string, or None, which is the default one."""
    if name is not None and not isinstance(name, str):
        raise SignatureError(f"a backend is named by a string, got {name!r:.80}; there is {', '.join(names())}")


@functools.cache
def _found(name: str) -> Backend:
    entry = None if name in BACKENDS else _outside().get(name)
    if name not in BACKENDS and entry is None:
        raise SignatureError(f"unknown backend {name!r}{suggestion(name, names())}; there is {', '.join(names())}")
    from nagraph.backends.interface import introduced  # with which NumPy loads

    if entry is None:
        return introduced(importlib.import_module(f"nagraph.backends.{name}").BACKEND, name, f"nagraph.backends.{name}:BACKEND")
    try:
        found = entry.load()
    except Exception as error:
        raise SignatureError(f"backend {name!r} ({entry.value}) can't be imported: {type(error).__name__}: {error}") from error
    return introduced(found, name, f"the entry point {entry.value}")


def usable(name: str | None = None, target: str | None = None) -> Backend:
    """The backend of this name. SignatureError if there is none, or if it can't be used here.

    target: the machine that it is to compile for, in place of this one.
    """
    backend = find(name)
    if target is not None:
        backend = backend.aimed_at(target)
    missing = backend.missing()
    if missing:
        raise SignatureError(f"backend {backend.name!r} can't be used here: {missing}")
    return backend


def _outside() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # which reads about all that is installed: only where a name is none of ours

    return {e.name: e for e in entry_points(group=GROUP)}
