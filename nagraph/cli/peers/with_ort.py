"""ONNX models in ONNX Runtime, on the arrays that nagraph gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nagraph.cli.targets import onnx_path, resolve


class Adapter:
    """An adapter gives the benchmarks: calls(name) is a function that does one call of it, None where it is no ONNX model."""

    def __init__(self, threads: int):
        import onnxruntime

        self.version: str = onnxruntime.__version__
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads

    def calls(self, name: str) -> Callable[[], Any] | None:
        import onnxruntime

        path = onnx_path(name)
        if path is None:
            return None
        work = resolve(name).work
        arrays = dict(zip(work.graph().input_names, work.arrays()))
        session = onnxruntime.InferenceSession(path, self._options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, arrays)
