"""Modules: the functions of many kernels, compiled together, and their launches on the machine of fibers."""

from __future__ import annotations

import ctypes
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from nagraph.backends.gpu.on_cpu.compiler import library
from nagraph.errors import SanitizerError

Extents = tuple[int, int, int]
#: What stands before kernels of a dialect.
WORDS = {"cuda": '#include "cuda_words.h"\n', "metal": "#define __METAL_VERSION__ 320\n#include <metal_stdlib>\n"}
#: Kernels of one translation unit: what a compiler reads once for all of them is as much as a few of them.
UNIT = 24
#: Characters of a fault's sentence.
_SENTENCE = 500


class Function(Protocol):
    """What a module is told of a kernel: its name, and its text, one `extern "C" __global__` function of that name with its helpers."""

    @property
    def name(self) -> str: ...

    @property
    def text(self) -> str: ...


class Module:
    """A module is compiled kernels. functions: those whose names are equal are one.

    dialect: the words that their text is written in, "cuda" or "metal". header: the name of a header that stands before all of them, in one
    of `folders`. check: what is checked while they run (`compiler.CHECKS`).
    """

    def __init__(self, functions: Iterable[Function], check: str = "", dialect: str = "cuda", header: str = "",
                 folders: Sequence[pathlib.Path] = ()):
        self.texts = {f.name: f.text for f in functions}
        self.check = check
        names = list(self.texts)
        head = WORDS[dialect] + (f'#include "{header}"\n' if header else "")
        units = [head + "".join(map(self._placed, names[i:i + UNIT])) for i in range(0, len(names), UNIT)]
        self._library = library(units, check, folders)
        self._launch = self._library.machine_launch
        self._launch.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p,
                                 ctypes.c_size_t, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]

    def _placed(self, name: str) -> str:
        """A kernel's text in a namespace of its own, whose lines compilers count from 1 as those of a file of its name."""
        return f'namespace of_{name} {{\n#line 1 "{name}"\n{self.texts[name]}\nMACHINE_ENTRY({name})\n}}\n'

    def launch(self, name: str, grid: Extents, block: Extents, shared_nbytes: int, table: int, slots: Sequence[int], *, seed: int = 0,
               ranges: Sequence[tuple[int, int, bool]] = ()) -> None:
        """Run a kernel to its end. SanitizerError with a sentence if it does what a device leaves undefined.

        table: the address of the table of pointers. seed: 0 runs threads and blocks in their order, 1 backwards, others in an order at
        random. ranges: (address, bytes, whether they may be written) of all memory that it may touch, for the check "watch".
        """
        allowed = np.array([[address, nbytes, writable] for address, nbytes, writable in ranges], np.uint64)
        numbers, extents, threads = np.array(slots, np.int32), np.array(grid, np.uint32), np.array(block, np.uint32)
        sentence = ctypes.create_string_buffer(_SENTENCE)
        entry = ctypes.cast(getattr(self._library, f"{name}_entry"), ctypes.c_void_p)
        if self._launch(entry, _address(extents), _address(threads), shared_nbytes, table, _address(numbers), len(numbers), seed,
                        _address(allowed), len(allowed), sentence, _SENTENCE):
            raise SanitizerError(f"kernel {name}: {sentence.value.decode()}")


def _address(array: np.ndarray[Any, Any]) -> int:
    return array.ctypes.data
