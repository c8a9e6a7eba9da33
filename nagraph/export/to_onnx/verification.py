"""Verification: what was written is checked by ONNX's own checker, and run in ONNX Runtime, if that is there, beside our references."""

from __future__ import annotations

import pathlib

from nagraph.errors import ExportError
from nagraph.export.agreement import ANYWAY, agree
from nagraph.export.subject import Subject
from nagraph.export.to_onnx import runtime


def verify(path: pathlib.Path, subject: Subject) -> str:
    """Check a model that was written of a subject; what was done, and the largest error, in words. ExportError if it is not right."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        raise ExportError(f"{subject.name}: the model that was made is not valid, which is a fault of nagraph's: {problem}") from None
    if not runtime.installed():
        return "checked by onnx.checker; ONNX Runtime is not installed, so it was not run: pip install onnxruntime"
    try:
        session = runtime.Session(path)
    except Exception as problem:  # noqa: BLE001 - it raises what it likes
        raise ExportError(f"{subject.name}: ONNX Runtime {runtime.version()} does not take the model: {problem}; "
                          f"{_without_optimisations(path)}{ANYWAY}") from None
    return agree(subject, f"ONNX Runtime {runtime.version()}", lambda sizes, arrays: session(arrays))


def _without_optimisations(path: pathlib.Path) -> str:
    """What is to be said if ONNX Runtime takes the model as it is, and fails when it optimises it."""
    try:
        runtime.Session(path, optimised=False)
    except Exception:  # noqa: BLE001 - it raises what it likes
        return ""
    return "it does with its optimisations off (SessionOptions.graph_optimization_level), so that these are at fault; "
