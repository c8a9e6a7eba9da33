"""Machine code in memory: loaded many functions at a time, and given back when nobody holds one of them any more."""

from __future__ import annotations

import weakref

from nagraph.backends.llvm import cache
from nagraph.backends.llvm.code import LEAVE
from nagraph.backends.llvm.gemm import gemm_module
from nagraph.backends.llvm.native import Library, object_code, publish
from nagraph.backends.llvm.runtime.pool import driver
from nagraph.forks import Lock
from nagraph.ir.types import DTYPES, DType

_LOCK = Lock()
#: The matrix products that kernels call, and the libraries of those that are there: other code calls them by name, so they stay.
ROUTINES = {"gemm_f32": DTYPES["f32"], "gemm_f64": DTYPES["f64"]}
_STANDING: dict[str, Library] = {}


class Code:
    """One function's object code; it is loaded when its address is asked for, along with all that waits for that by then.

    Whoever calls the address holds the code: its library goes with the last of those that were loaded together.
    """

    __slots__ = ("symbol", "text", "_content", "_library", "_address", "__weakref__")

    def __init__(self, symbol: str, text: str, content: bytes):
        self.symbol, self.text, self._content = symbol, text, content
        self._library: Library | None = None
        self._address = 0
        with _LOCK:
            _WAITING.append(weakref.ref(self))

    @property
    def address(self) -> int:
        if self._library is None:
            with _LOCK:
                if self._library is None:
                    _load()
        return self._address


_WAITING: list[weakref.ref[Code]] = []


def _load() -> None:
    """Load what waits, all in one library: one library each takes thrice as long, and a process may not have that many."""
    new = [code for one in _WAITING if (code := one()) is not None]
    for code in new:
        if f"@{LEAVE}(" in code.text:
            driver()  # which defines it
        for routine, dtype in ROUTINES.items():
            if routine not in _STANDING and f"@{routine}(" in code.text:
                _load_routine(routine, dtype)
    library = Library({code.symbol: code._content for code in new}.values())
    for code in new:
        code._address, code._content, code._library = library.address(code.symbol), b"", library
    _WAITING.clear()


def _load_routine(name: str, dtype: DType) -> None:
    library = Library([cache.routine(name, lambda: object_code(gemm_module(dtype)))])
    publish(name, library.address(name))
    _STANDING[name] = library
