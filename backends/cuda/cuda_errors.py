"""What is wrong when there is no device to compute on, or when one stops: each in one sentence that says what to install or to change.

CuPy's errors are told by their classes' names and their numbers, so that whoever raises the like is understood as well.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from nagraph.errors import DeviceError, DeviceMemoryError, NagraphError

INSTALL = ("pip install 'nagraph[cuda]' for drivers of CUDA 13, pip install cupy-cuda12x nvidia-cuda-nvrtc-cu12 "
           "nvidia-cuda-runtime-cu12 nvidia-cublas-cu12 for those of CUDA 12")
NO_CUBLAS = ("matrix products want cuBLAS, which is not installed: pip install nvidia-cublas for drivers of CUDA 13, "
             "pip install nvidia-cublas-cu12 for those of CUDA 12")
#: Statuses of CUDA's runtime.
OUT_OF_MEMORY, OLD_DRIVER, NO_DEVICE, BUSY = 2, 35, 100, 46
#: What leaves no library of CUDA usable in this process.
LOST = {"214": "its memory has an uncorrectable error", "220": "a link between devices failed", "700": "a kernel left its memory",
        "702": "a kernel ran for longer than the system lets one", "710": "a kernel stopped itself", "719": "a kernel failed",
        "999": "the driver says no more"}
FORKED = ("this process was forked from one that uses CUDA, which does not live through a fork; start processes with "
          "multiprocessing.get_context('spawn'), or fork before the first use")
#: The process in which CUDA was first used.
_loaded_in: int | None = None


def _is_forked() -> bool:
    return _loaded_in is not None and _loaded_in != os.getpid()


def _is_installed() -> bool:
    return importlib.util.find_spec("cupy") is not None


def _cupy() -> Any:
    import cupy

    return cupy


def installed() -> Any:
    """CuPy, if it is installed and can be imported."""
    try:
        return _cupy() if _is_installed() else None
    except ImportError:
        return None


def missing() -> str:
    """Why there is no CUDA device to be used here, as one sentence; "" if there is one. It loads CuPy if that is installed."""
    global _loaded_in
    if _loaded_in is not None:
        return FORKED if _is_forked() else ""
    if not _is_installed():
        return f"it needs CuPy; {INSTALL}"
    try:
        cupy = _cupy()
        count = cupy.cuda.runtime.getDeviceCount()
    except ImportError as error:
        return f"CuPy can't be imported ({_line(error)}); {INSTALL}"
    except Exception as error:  # noqa: BLE001 - whatever it is, there is no device
        return str(explained(error, "", None) or f"CuPy finds no device ({_line(error)})")
    if not count:
        return "there is no CUDA device here, or CUDA_VISIBLE_DEVICES hides it"
    _loaded_in = os.getpid()
    return ""


def explained(error: BaseException, name: str, device: Any) -> NagraphError | None:
    """What an error of CuPy means for the user of a program; None if it is none.

    name: the program's. device: where it ran, or None.
    """
    if isinstance(error, NagraphError):
        return None
    status = getattr(error, "status", None)
    where, who = (device.label if device is not None else "the device"), f"{name}: " if name else ""
    if isinstance(error, MemoryError) or status == OUT_OF_MEMORY:
        return DeviceMemoryError(f"{who}{where} has no memory left for it{_free(device)}; make the batch smaller, or free arrays: "
                                 "del x, then cupy.get_default_memory_pool().free_all_blocks()")
    if status is None or type(error).__name__ not in ("CUDARuntimeError", "CUDADriverError", "CUBLASError"):
        return None
    if _is_forked():
        return DeviceError(FORKED)
    if status == OLD_DRIVER:
        return DeviceError(_old_driver())
    if status == NO_DEVICE:
        return DeviceError("there is no CUDA device here, or CUDA_VISIBLE_DEVICES hides it")
    if status == BUSY:
        return DeviceError(f"{where} is taken by another process alone; wait for its end, or choose another with CUDA_VISIBLE_DEVICES")
    why = LOST.get(str(status), "")
    return DeviceError(f"{who}{where} can't be used any more in this process ({_line(error)}{f': {why}' if why else ''}); arrays on it are "
                       "lost: start the process anew, from the last checkpoint")


def _old_driver() -> str:
    """For a driver that is older than CuPy wants it, or not there at all."""
    try:
        runtime = _cupy().cuda.runtime
        has, wants = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except Exception:  # noqa: BLE001 - then the driver is not there
        has, wants = 0, 0
    if not has:
        return "there is no NVIDIA driver here, which a CUDA device needs; install it, or take backend 'llvm'"
    return (f"the NVIDIA driver is for CUDA {version(has)}, and CuPy wants {version(wants)}; update the driver, or install the CuPy of "
            f"that version: {INSTALL}")


def version(number: int) -> str:
    """A version of CUDA as people write it."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _free(device: Any) -> str:
    """How much memory there is, as far as it can be told."""
    try:
        free, total = device.device.mem_info
    except Exception:  # noqa: BLE001 - it is said without
        return ""
    return f" ({free / 2**20:,.0f} MB of {total / 2**20:,.0f} MB are free)"


def _line(error: BaseException) -> str:
    return f"{error}".partition("\n")[0].strip()
