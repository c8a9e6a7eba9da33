"""Compiled functions, shared by all executables: equal kernels are compiled once, and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nagraph import choices, sanitizing
from nagraph.backends.llvm import cache
from nagraph.backends.llvm.code import LEAVE, Module
from nagraph.backends.llvm.emit import Emitted
from nagraph.backends.llvm.gemm import gemm_module
from nagraph.backends.llvm.native import Library, object_code, publish
from nagraph.backends.llvm.runtime.pool import driver
from nagraph.forks import Lock
from nagraph.ir.types import DTYPES, DType
from nagraph.thresholds import changed


class Entry(NamedTuple):
    """What is kept of a kernel."""

    emitted: Emitted
    text: str
    code: bytes


#: Writes a function of the given name into a module.
Writer = Callable[[Module, str], Emitted]


class Function(NamedTuple):
    """A kernel's machine code: its key, the name of its file in the cache, how to launch it, its LLVM text."""

    key: str
    digest: str
    emitted: Emitted
    text: str

    @property
    def address(self) -> int:
        """Where the code stands. Whoever asks first loads all that has been compiled up to then."""
        with _LOCK:
            if self.digest not in _ADDRESSES:
                _load()
            return _ADDRESSES[self.digest]


#: Functions by their key, addresses of loaded kernels by their digest, and those that wait to be loaded.
_KNOWN: dict[str, Function] = {}
_ADDRESSES: dict[str, int] = {}
_WAITING: dict[str, Entry] = {}
#: Code stays where it is up to the end of the process: programs hold its addresses.
_LIBRARIES: list[Library] = []
_LOCK = Lock()
#: The matrix products that kernels call, and whether they are there.
ROUTINES = {"gemm_f32": DTYPES["f32"], "gemm_f64": DTYPES["f64"]}
_LOADED: set[str] = set()


def compiled(key: str, write: Writer, keep: bool = True) -> Function:
    """The machine code of what `write` emits, which must follow from the key and the choices alone; it is kept on disk if `keep`."""
    chosen = f"{choices.current()} {changed()} {'sanitized' if sanitizing.is_on() else ''}".strip()
    key = f"{key}\n{chosen}" if chosen else key
    with _LOCK:
        if key not in _KNOWN:
            digest = cache.digest("kernel", key)
            entry = (_kept(digest) if keep else None) or _compile(digest, write, keep)
            _WAITING[digest] = entry
            _KNOWN[key] = Function(key, digest, entry.emitted, entry.text)
        return _KNOWN[key]


def addresses(digests: Sequence[str]) -> list[int] | None:
    """Where the kernels of these digests stand, loaded from the cache where need be; None if one is not there."""
    with _LOCK:
        for digest in digests:
            if digest not in _ADDRESSES and digest not in _WAITING:
                entry = _kept(digest)
                if entry is None:
                    return None
                _WAITING[digest] = entry
        _load()
        return [_ADDRESSES[d] for d in digests]


def _compile(digest: str, write: Writer, keep: bool) -> Entry:
    module = Module()
    emitted = write(module, _symbol(digest))
    text = str(module)
    entry = Entry(emitted, text, object_code(text))
    if keep:
        cache.store("kernel", digest, {"emitted": emitted, "text": text}, [entry.code])
    return entry


def _kept(digest: str) -> Entry | None:
    """The kernel as it is on disk."""
    found = cache.load("kernel", digest)
    return found and Entry(Emitted(*found[0]["emitted"]), found[0]["text"], found[1])


def _symbol(digest: str) -> str:
    """The name of a kernel's function."""
    return f"k{digest[:16]}"


def _load() -> None:
    """Load what waits, all in one library: one library each takes thrice as long."""
    new = {digest: entry for digest, entry in _WAITING.items() if digest not in _ADDRESSES}
    if not new:
        return
    for entry in new.values():
        if f"@{LEAVE}(" in entry.text:
            driver()  # which defines it
        for routine, dtype in ROUTINES.items():
            if routine not in _LOADED and f"@{routine}(" in entry.text:
                _load_routine(routine, dtype)
    library = Library(entry.code for entry in new.values())
    _LIBRARIES.append(library)
    _ADDRESSES.update(zip(new, library.addresses(map(_symbol, new))))
    _WAITING.clear()


def _load_routine(name: str, dtype: DType) -> None:
    library = Library([cache.routine(name, lambda: object_code(gemm_module(dtype)))])
    _LIBRARIES.append(library)
    publish(name, library.address(name))
    _LOADED.add(name)
