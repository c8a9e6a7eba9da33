"""Compiled functions, shared by all executables: equal kernels are compiled once, and kept on disk."""

from __future__ import annotations

import hashlib
import threading

from nagraph.backends.llvm import cache
from nagraph.backends.llvm.code import Module
from nagraph.backends.llvm.emit import Emitted
from nagraph.backends.llvm.gemm import gemm_module
from nagraph.backends.llvm.native import Library, object_code, publish
from nagraph.backends.llvm.program import Function, Writer
from nagraph.ir.types import DTYPES, DType

_KNOWN: dict[str, Function] = {}
_LIBRARIES: list[Library] = []
_LOCK = threading.Lock()
#: The matrix products that kernels call, and whether they are there.
ROUTINES = {"gemm_f32": DTYPES["f32"], "gemm_f64": DTYPES["f64"]}
_LOADED: set[str] = set()


def _load_routine(name: str, dtype: DType) -> None:
    entry = cache.load(name)
    if entry is None:
        entry = cache.Entry(Emitted(0, 0), "", object_code(gemm_module(dtype)))
        cache.store(name, entry)
    library = Library(entry.code)
    _LIBRARIES.append(library)
    publish(name, library.address(name))
    _LOADED.add(name)


def compiled(key: str, write: Writer) -> Function:
    """The machine code of what `write` emits, which must follow from the key alone."""
    with _LOCK:
        if key not in _KNOWN:
            name = f"k{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            entry = cache.load(key) or _compile(key, name, write)
            text = entry.text
            for routine, dtype in ROUTINES.items():
                if f"@{routine}(" in text and routine not in _LOADED:
                    _load_routine(routine, dtype)
            library = Library(entry.code)
            _LIBRARIES.append(library)
            _KNOWN[key] = Function(key, library.address(name), entry.emitted, text)
        return _KNOWN[key]


def _compile(key: str, name: str, write: Writer) -> cache.Entry:
    module = Module()
    emitted = write(module, name)
    text = str(module)
    entry = cache.Entry(emitted, text, object_code(text))
    cache.store(key, entry)
    return entry
