"""MLX's arrays: their kind, and how MLX is loaded. Asking whether something is one of them loads nothing.

MLX's arrays never change: writing to one gives its Python object other contents. Memory is freed, or taken for a result, when
nobody holds it. What is computed may be pending; only reading waits.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from nagraph.arrays import ArrayKind
from nagraph.errors import DeviceError, NagraphError
from nagraph.ir.types import SHORT_NAMES, DType, TensorType, as_dtype, bfloat16

Array = Any
DEVICE = "mps"
FORKED = ("this process was forked from one that had loaded MLX, whose threads a fork leaves behind, so that MLX would wait for ever; "
          "start processes by multiprocessing.get_context('spawn'), or compute here with another backend")
#: MLX's names of dtypes that are not NumPy's.
_NAMES = {"bool": "bool_"}


class _Fork:
    """Whether this process was forked from one that had loaded MLX."""

    happened = False

    def note(self) -> None:
        self.happened = "mlx.core" in sys.modules


FORK = _Fork()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FORK.note)


def library() -> Any:
    """The module mlx.core, loaded if it was not. DeviceError where it can't be used."""
    if FORK.happened:
        raise DeviceError(f"backend 'mps': {FORKED}")
    return _loaded()


@functools.cache
def _loaded() -> Any:
    os.environ.setdefault("MLX_ENABLE_TF32", "0")  # products of float32 are float32; who has said otherwise has it so
    try:
        import mlx.core as core
    except ImportError as error:
        raise DeviceError(f"backend 'mps': MLX can't be loaded ({_first_line(error)}); pip install 'nagraph[mps]'") from None
    if sys.platform == "darwin" and not core.metal.is_available():
        raise DeviceError("backend 'mps': MLX finds no GPU on this Mac; compute with another backend")
    return core


def computes_on() -> str:
    """What MLX computes on here, or why it does not."""
    try:
        core = library()
    except DeviceError as error:
        return f"nothing: {error}"
    return str(core.device_info()["device_name"]) if core.default_device() == core.Device(core.gpu) else "the CPU, which is for tests"


def mlx_dtype(dtype: DType) -> Any:
    """MLX's dtype of the same name."""
    return _to_mlx()[dtype]


def numpy_dtype(dtype: Any) -> DType:
    """The dtype of the graph that an MLX dtype is; TypeError for complex ones."""
    return _from_mlx().get(dtype) or as_dtype(str(dtype).rpartition(".")[2])


@functools.cache
def _to_mlx() -> dict[DType, Any]:
    core = library()
    return {d: getattr(core, _NAMES.get(d.name, d.name)) for d in SHORT_NAMES}


@functools.cache
def _from_mlx() -> dict[Any, DType]:
    return {v: k for k, v in _to_mlx().items()}


@contextlib.contextmanager
def failures(what: str) -> Iterator[None]:
    """What MLX raises while it computes, as a DeviceError; what it computed with stays as it was."""
    try:
        yield
    except NagraphError:
        raise
    except RuntimeError as error:
        cure = "; use a smaller batch, or free arrays" if "alloc" in str(error).lower() else ""
        raise DeviceError(f"{what}: MLX failed: {_first_line(error)}{cure}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


class MlxArrays(ArrayKind):
    """MLX's arrays, in the memory that CPU and GPU share."""

    name = "MLX"

    def classes(self) -> tuple[type, ...]:
        core = sys.modules.get("mlx.core")
        return (core.array,) if hasattr(core, "array") else ()

    def devices(self) -> tuple[str, ...]:
        return (DEVICE,)

    def type(self, array: Array) -> TensorType:
        return TensorType(numpy_dtype(array.dtype), tuple(array.shape))

    def device(self, array: Array) -> str:
        return DEVICE

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        core = library()
        with failures("reading an array"):
            if array.dtype == core.bfloat16:  # which buffers of Python do not know
                return np.array(core.view(array, core.uint16)).view(bfloat16)
            return np.array(array)

    def from_numpy(self, array: np.ndarray[Any, Any], device: str = "") -> Array:
        core = library()
        with failures("copying an array"):
            if array.dtype == bfloat16:
                made = core.view(core.array(array.view(np.uint16)), core.bfloat16)
                core.eval(made)  # what is pending belongs to this thread's stream
                return made
            return core.array(array)

    def move(self, array: Array, device: str) -> Array:
        return array

    def copy(self, array: Array) -> Array:
        """Another object, so that writing to either leaves the other as it is; they share memory that nobody writes."""
        return library().array(array)

    def not_donatable(self, array: Array) -> str:
        return "is MLX's, which takes its memory again when nobody holds it"

    def wait(self, array: Array) -> None:
        with failures("computing an array"):
            library().eval(array)


KIND = MlxArrays()
