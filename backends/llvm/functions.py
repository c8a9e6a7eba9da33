"""Compiled functions, shared by all executables: equal kernels are compiled once."""

from __future__ import annotations

import hashlib
import threading

from nagraph.backends.llvm.code import Module
from nagraph.backends.llvm.native import Library, object_code
from nagraph.backends.llvm.program import Function, Writer

_KNOWN: dict[str, Function] = {}
_LIBRARIES: list[Library] = []
_LOCK = threading.Lock()


def compiled(key: str, write: Writer) -> Function:
    """The machine code of what `write` emits, which must follow from the key alone."""
    with _LOCK:
        if key not in _KNOWN:
            name = f"k{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            module = Module()
            emitted = write(module, name)
            text = str(module)
            library = Library(object_code(text))
            _LIBRARIES.append(library)
            _KNOWN[key] = Function(key, library.address(name), emitted, text)
        return _KNOWN[key]
