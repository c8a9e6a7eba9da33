"""Peaks: what a device can do, measured by code of ours, for rooflines.

Multiply-adds in registers, in float32 and float64; and a sum of two arrays, once so large that it goes through memory, once so small that
it stays in the last cache. Each peak is that of the fastest of some runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph.backends.cuda.driver import Device, Driver, Function
from nagraph.backends.cuda.moves import Helper
from nagraph.measuring.roofline import Machine

#: Threads of a block, and blocks for each multiprocessor.
THREADS, BLOCKS = 256, 16
#: Multiply-adds that depend on one another, in chains of a thread.
STEPS, CHAINS = 4096, 8
#: The most bytes of each array, and runs.
MOST_NBYTES, REPEATS = 256 << 20, 10

_FMA = """
extern "C" __global__ void nagraph_peak_{kind}(void* const* table, int result, int steps) {{
  {kind} x[{chains}];
  for (int c = 0; c < {chains}; ++c) x[c] = ({kind})(threadIdx.x + c) * ({kind})1e-6;
  for (int i = 0; i < steps; ++i)
    for (int c = 0; c < {chains}; ++c) x[c] = ng_fma(x[c], x[c], x[c]);
  {kind} sum = 0;
  for (int c = 0; c < {chains}; ++c) sum += x[c];
  if (sum == ({kind})12345) (({kind}*)table[result])[0] = sum;
}}
"""
_STREAM = """
extern "C" __global__ void nagraph_peak_stream(void* const* table, int from, int to, int count) {
  const float* x = (const float*)table[from];
  float* y = (float*)table[to];
  for (int i = blockIdx.x * 256 + threadIdx.x; i < count; i += gridDim.x * 256) y[i] += x[i];
}
"""


class Peaks(Machine):
    """The peaks of a device; `threads` are its multiprocessors."""

    def __str__(self) -> str:
        return (f"{self.cpu}, {self.threads} multiprocessors, measured: {self.float32 / 1e9:.0f} GFLOP/s in float32, "
                f"{self.float64 / 1e9:.0f} in float64, memory {self.memory / 1e9:.0f} GB/s, "
                f"cache of {self.cache_nbytes / 2**20:.0f} MB {self.cache / 1e9:.0f} GB/s")


_known: dict[str, Peaks] = {}


def peaks(driver: Driver, device: Device) -> Peaks:
    """The peaks of a device, measured once in a process."""
    if device.label not in _known:
        with device.active():
            _known[device.label] = _measured(driver, device)
    return _known[device.label]


def _measured(driver: Driver, device: Device) -> Peaks:
    grid, block = (device.multiprocessors * BLOCKS, 1, 1), (THREADS, 1, 1)
    texts = [Helper(f"nagraph_peak_{kind}", _FMA.format(kind=kind, chains=CHAINS), grid, block) for kind in ("float", "double")]
    texts.append(Helper("nagraph_peak_stream", _STREAM, grid, block))
    single, double, stream = (device.load(Function.of(f, b)) for f, b in zip(texts, driver.build(texts, device.architecture), strict=True))
    large, small = (min(n, MOST_NBYTES) // 256 * 256 for n in (4 * device.cache_nbytes, device.cache_nbytes // 4))
    memory, table = device.memory(2 * large), device.table(2)
    table.write(np.array([memory.address, memory.address + large], np.int64))
    flops = 2.0 * grid[0] * THREADS * STEPS * CHAINS
    rates = [flops / _seconds(device, device.bind(f, table.address, (0, STEPS))) for f in (single, double)]
    speeds = [3.0 * n / _seconds(device, device.bind(stream, table.address, (0, 1, n // 4))) for n in (large, small)]
    device.wait()  # until then the table and the memory are in use
    return Peaks(device.name, device.multiprocessors, *rates, speeds[0], max(speeds), device.cache_nbytes)


def _seconds(device: Device, launch: Callable[[], Any]) -> float:
    """The time of the fastest of some launches, after one to warm up."""
    launch()
    found = []
    for _ in range(REPEATS):
        first = device.mark()
        launch()
        found.append(device.milliseconds(first, device.mark()))
    return max(min(found), 1e-6) / 1e3
