"""The host: processor, cores and caches, as the system tells them."""

from __future__ import annotations

import os
import pathlib
import platform
import sys

#: Taken where the system does not tell the size of the last cache.
USUAL_CACHE = 8 << 20


def cpu_name() -> str:
    """The processor's name; where the system does not tell it, as on arm64, what LLVM calls it: neoverse-n1, apple-m1."""
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="utf-8") as file:
                for line in file:
                    if line.startswith("model name"):
                        return line.partition(":")[2].strip()
        except OSError:
            pass
    import llvmlite.binding  # late: elsewhere the name is known without it

    name: str = llvmlite.binding.get_host_cpu_name()
    return name if name != "generic" else platform.processor() or platform.machine()


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_seconds() -> float | None:
    """Seconds of processor time that all processes together have used since the system began; None where it does not tell."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _idle, _waiting, *rest = map(int, file.readline().split()[1:9])
    except OSError:
        return None
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def last_cache_nbytes() -> int:
    """The size of the largest cache of the first core."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    texts = [f.read_text().strip() for f in pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(t[:-1]) * units[t[-1]] for t in texts if t[-1:] in units), default=USUAL_CACHE)
