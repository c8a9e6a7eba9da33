"""The host: processor, cores and caches, as the system tells them."""

from __future__ import annotations

import functools
import os
import pathlib
import platform
import sys

#: Taken where the system does not tell the sizes of the caches.
USUAL_CACHES = 32 << 10, 1 << 20, 8 << 20


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


@functools.cache
def cache_sizes() -> tuple[int, ...]:
    """The bytes of the first core's data caches, the nearest first: at least two, usual ones where the system does not tell."""
    units, found = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}, {}
    for cache in pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size[-1:] in units and size[:-1].isdigit():
            found[level] = int(size[:-1]) * units[size[-1]]
    return tuple(found[level] for level in sorted(found)) if len(found) > 1 else USUAL_CACHES


def last_cache_nbytes() -> int:
    """The bytes of the first core's largest cache."""
    return max(cache_sizes())
