"""nagraph: a graph compiler for neural networks.

    import nagraph as ng

A function written in NumPy style is traced into a static, typed graph; derivatives, passes and
backends are transforms of that graph. Names load when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from nagraph import forks as forks  # before the first thread of ours, and before the first import of the rest

__version__ = "0.1.0"

#: Each public name and the module that defines it.
_NAMES = {
    "jit": "compiler.jitted",
    "compile": "compiler.compilation",
    **dict.fromkeys(("device_put", "to_numpy"), "compiler.places"),
    "tune": "compiler.tuning",
    "Executable": "backends.interface",
    **dict.fromkeys(("trace", "Tracer"), "tracing.tracer"),
    **dict.fromkeys(("grad", "value_and_grad", "vjp", "jvp", "hvp", "jacobian", "hessian", "vmap", "stop_gradient",
                     "custom_vjp", "checkpoint", "composite", "eval_shape"), "transforms.api"),
    **dict.fromkeys(("cond", "scan", "while_loop"), "transforms.flow"),
    **dict.fromkeys(("Graph", "Node", "Value"), "ir.graph"),
    **dict.fromkeys(("spec", "TensorType", "bfloat16"), "ir.types"),
    "Dim": "ir.sizes",
    "Array": "ir.op",
    "parse": "ir.parser",
    "verify": "ir.verify",
    **dict.fromkeys(("save", "load"), "storage"),
    "from_onnx": "onnx.reading",
    "load_program": "export.program_file",
    "where": "ops.elementwise",
    "Pipeline": "pipeline",
}
_MODULES = ("numpy", "tree", "errors", "choices", "random", "nn", "optim", "models", "debug", "passes", "backends", "export")

__all__ = [*_NAMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        if name == "parse":
            importlib.import_module("nagraph.regions")  # and the ops
        if name == "Dim":
            importlib.import_module("nagraph.tracing.tracer")  # what sizes are computed with
        found = getattr(importlib.import_module(f"nagraph.{_NAMES[name]}"), name)
    elif name in _MODULES:
        found = importlib.import_module(f"nagraph.{name}")
    else:
        raise AttributeError(f"module 'nagraph' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
