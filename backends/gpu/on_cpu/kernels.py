"""Kernels that are compiled when one of them is first launched: all that are known by then together."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from nagraph.backends.gpu.on_cpu.module import Extents, Function, Module

#: The header that the text of kernels is written with.
HEADERS, HEADER = pathlib.Path(__file__).parents[1] / "headers", "nagraph_gpu.h"


class Kernels:
    """Kernels of one dialect, by their names. check, seed: as of modules and their launches."""

    def __init__(self, dialect: str = "cuda", check: str = "watch", seed: int = 0):
        self.dialect, self.check, self.seed = dialect, check, seed
        self._new: dict[str, Function] = {}
        self._modules: dict[str, Module] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._modules)

    def add(self, function: Function) -> None:
        """Know a kernel from now on."""
        if function.name not in self._modules:
            self._new.setdefault(function.name, function)

    def compile(self) -> None:
        """Compile what is known and not compiled yet."""
        if self._new:
            made = Module(self._new.values(), self.check, self.dialect, HEADER, [HEADERS])
            self._modules |= dict.fromkeys(self._new, made)
            self._new = {}

    def launch(self, name: str, grid: Extents, block: Extents, shared_nbytes: int, table: int, slots: Sequence[int],
               ranges: Sequence[tuple[int, int, bool]]) -> None:
        """Run a kernel to its end, as `Module.launch`."""
        if name not in self._modules:
            self.compile()
        self._modules[name].launch(name, grid, block, shared_nbytes, table, slots, seed=self.seed, ranges=ranges)
