"""Devices on this CPU that run the CUDA text itself, compiled by the system's C++ compiler, on a machine of fibers."""

from __future__ import annotations

from nagraph.backends.cuda.driver import Built
from nagraph.backends.cuda.functions import function_of
from nagraph.backends.cuda.nvrtc import HEADER, HEADERS
from nagraph.backends.gpu.on_cpu.module import Module
from tests.backends.cuda.lazy_device import LazyDevice, LazyDriver


class OnCpu(LazyDevice):
    def load(self, function):
        return function

    def launch(self, function, table, pointers, numbers):
        module = self.driver.modules[function.name]
        ranges = [(address, nbytes, True) for address, nbytes in self.spans.items()] if module.check else ()
        module.launch(function.name, function.grid, function.block, function.shared_nbytes, table, numbers,
                      seed=self.driver.seed, ranges=ranges)


class OnCpuDriver(LazyDriver):
    """seed: in which order threads and blocks run. check: what the machine watches."""

    device_class = OnCpu

    def __init__(self, name="lazy", seed=0, check=""):
        super().__init__(name)
        self.modules, self.seed, self.check = {}, seed, check

    def function(self, work, target, library=True):
        return function_of(work, target, library and self.library)

    def build(self, functions, architecture):
        new = [f for f in functions if f.name not in self.modules]
        if new:
            module = Module(new, self.check, header=HEADER, folders=[HEADERS])
            self.modules |= {f.name: module for f in new}
        return [Built(b"", 32) for _ in functions]
