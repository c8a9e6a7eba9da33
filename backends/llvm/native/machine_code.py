"""Machine code: LLVM text is compiled for this CPU, object code is loaded, functions have addresses."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager

import llvmlite.binding as llvm

from nagraph.backends.llvm.text.target import code_generator, cpu
from nagraph.forks import hold

#: Whoever has it is the only one in LLVM; llvmlite has one of its own, for what the garbage collector frees.
_LOCK = threading.RLock()
hold(_LOCK)
hold(llvm.ffi.lib._lock)


def only_one() -> AbstractContextManager[bool]:
    """While it is entered nobody else is in LLVM."""
    return _LOCK


def _machine() -> llvm.TargetMachine:
    """A target machine; engines may not share one."""
    name, features = cpu()
    return code_generator().create_target_machine(cpu=name, features=features, opt=2, jit=True)


@functools.cache
def _generator() -> llvm.TargetMachine:
    """The machine that generates all code: what it works out of the CPU's features takes longer than a small kernel."""
    return _machine()


def object_code(text: str) -> bytes:
    """LLVM text as object code for this CPU, by code generation alone."""
    with _LOCK:
        module = llvm.parse_assembly(text)
        module.verify()
        made: bytes = _generator().emit_object(module)
        return made


def assembly(text: str) -> str:
    """LLVM text as assembly for this CPU."""
    with _LOCK:
        module = llvm.parse_assembly(text)
        shown: str = _generator().emit_assembly(module)
        return shown


class Library:
    """Loaded object code; it must live as long as anyone calls its functions."""

    def __init__(self, codes: Iterable[bytes]):
        with _LOCK:
            self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
            for code in codes:
                self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            self._engine.finalize_object()

    def address(self, name: str) -> int:
        with _LOCK:
            found: int = self._engine.get_function_address(name)
        if not found:
            raise KeyError(name)
        return found


def publish(name: str, address: int) -> None:
    """Let code that is loaded from now on call a function by its name."""
    llvm.add_symbol(name, address)
