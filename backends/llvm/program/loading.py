"""Machine code in memory: loaded many functions at a time, and given back when nobody holds one of them any more."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator
from typing import NamedTuple

from nagraph.backends.llvm.gemm import gemm_module
from nagraph.backends.llvm.native import files
from nagraph.backends.llvm.native.machine_code import Library, object_code, publish
from nagraph.backends.llvm.runtime.pool import driver
from nagraph.backends.llvm.text.builder import LEAVE
from nagraph.backends.llvm.text.target import host
from nagraph.forks import Lock
from nagraph.ir.types import DTYPES, DType
from nagraph.schedule.form import Product

_LOCK = Lock()
#: What the text of kernels calls the matrix products (`gemm.tile`), and the libraries of those that are there: they stay, called by name.
ROUTINE = re.compile(r"@(gemm_(f32|f64)(?:_([0-9]+)x([0-9]+)x([0-9]+)(_unpacked)?)?)\(")
_STANDING: dict[str, Library] = {}


class MachineCode:
    """One function's object code; it is loaded when its address is asked for, along with all that waits for that by then.

    Whoever calls the address holds the code: its library goes with the last of those that were loaded together.
    """

    __slots__ = ("symbol", "text", "_at", "__weakref__")

    def __init__(self, symbol: str, text: str, content: bytes):
        self.symbol, self.text = symbol, text
        # One attribute, so that it is either waiting or loaded: a fork or Ctrl-C may come between any two steps.
        self._at: bytes | _Loaded = content
        with _LOCK:
            _WAITING.append(weakref.ref(self))

    @property
    def address(self) -> int:
        if isinstance(self._at, bytes):
            with _LOCK:
                _load()
        assert isinstance(self._at, _Loaded)
        return self._at.address


class _Loaded(NamedTuple):
    """The library that holds a function, and the function's address in it."""

    library: Library
    address: int


_WAITING: list[weakref.ref[MachineCode]] = []


def _load() -> None:
    """Load what waits, all in one library: one library each takes thrice as long, and a process may not have that many."""
    new = {code: code._at for one in _WAITING if (code := one()) is not None and isinstance(code._at, bytes)}
    for code in new:
        if f"@{LEAVE}(" in code.text:
            driver()  # which defines it
        for name, dtype, sizes in routines_of(code.text):
            if name not in _STANDING:
                _load_routine(name, dtype, sizes)
    if new:
        library = Library({code.symbol: content for code, content in new.items()}.values())
        for code in new:
            code._at = _Loaded(library, library.address(code.symbol))
    _WAITING.clear()


def routines_of(text: str) -> Iterator[tuple[str, DType, Product | None]]:
    """The matrix products that a kernel's text calls: name, dtype, and their sizes if these are not the usual ones."""
    for found in ROUTINE.finditer(text):
        *sizes, unpacked = found.groups()[2:]
        yield found[1], DTYPES[found[2]], Product(*map(int, sizes), not unpacked) if found[3] else None


def _load_routine(name: str, dtype: DType, sizes: Product | None) -> None:
    library = Library([files.routine(name, lambda: object_code(gemm_module(dtype, host(), sizes)))])
    publish(name, library.address(name))
    _STANDING[name] = library
