"""ONNX Runtime, where it is installed: a model run on arrays of ours, on the CPU."""

from __future__ import annotations

import ctypes
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from nagraph.ir.types import bfloat16
from nagraph.onnx.dtypes import NUMBER_OF

Array = np.ndarray[Any, Any]


def installed() -> bool:
    """Whether there is ONNX Runtime. It is not loaded to find out."""
    return importlib.util.find_spec("onnxruntime") is not None


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


class Session:
    """A session holds a model that is read and made ready. threads: 0 lets ONNX Runtime choose. optimised: whether it rewrites it."""

    def __init__(self, path: pathlib.Path, threads: int = 0, optimised: bool = True):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, threads
        if not optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(i.name for i in self._session.get_inputs())

    def __call__(self, arrays: Mapping[str, Array]) -> list[Array]:
        """The outputs for the inputs of these names. What ONNX Runtime raises, it raises."""
        names = [o.name for o in self._session.get_outputs()]
        given = {name: _given(x) for name, x in arrays.items()}
        return [_taken(x) for x in self._session.run_with_ort_values(names, given)] if names else []


def _given(x: Array) -> Any:
    from onnxruntime import OrtValue

    x = np.asarray(x, order="C")
    if x.dtype == bfloat16:  # which NumPy does not know, so that neither does OrtValue
        return OrtValue.ortvalue_from_numpy_with_onnx_type(x.view(np.uint16), NUMBER_OF[bfloat16])
    return OrtValue.ortvalue_from_numpy(x)


def _taken(x: Any) -> Array:
    if x.element_type() != NUMBER_OF[bfloat16]:
        return np.asarray(x.numpy())
    count = int(np.prod(x.shape()))
    words = (ctypes.c_uint16 * count).from_address(x.data_ptr()) if count else ()
    return np.array(words, np.uint16).view(bfloat16).reshape(x.shape())
