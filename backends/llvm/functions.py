"""Compiled functions, shared by all executables: equal kernels are compiled once."""

from __future__ import annotations

import hashlib
import threading

from nagraph.backends.llvm.code import Module
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
    library = Library(object_code(gemm_module(dtype)))
    _LIBRARIES.append(library)
    publish(name, library.address(name))
    _LOADED.add(name)


def compiled(key: str, write: Writer) -> Function:
    """The machine code of what `write` emits, which must follow from the key alone."""
    with _LOCK:
        if key not in _KNOWN:
            name = f"k{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            module = Module()
            emitted = write(module, name)
            text = str(module)
            for routine, dtype in ROUTINES.items():
                if f"@{routine}(" in text and routine not in _LOADED:
                    _load_routine(routine, dtype)
            library = Library(object_code(text))
            _LIBRARIES.append(library)
            _KNOWN[key] = Function(key, library.address(name), emitted, text)
        return _KNOWN[key]
