"""The ONNX project's own test cases of nodes, by operator: models with inputs and the outputs to expect."""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

CORE = (Path(__file__).parent / "core_operators.txt").read_text().split()


@functools.cache
def cases() -> dict[str, dict[str, Any]]:
    """The cases by name of each operator; those of operators written out in others (`_expanded`) are among those of the operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what NumPy says of the overflows that the cases are about
        from onnx.backend.test.loader import load_model_tests

        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for case in load_model_tests(kind="node"):
            found[_operator(case)][case.name] = case
    return dict(sorted(found.items()))


def _operator(case: Any) -> str:
    """The operator that a case is about."""
    from onnx.backend.test.case.node import _existing_names

    plain = case.name.partition("_expanded")[0]
    return str(_existing_names[plain].op_type)
