"""Versions of ONNX that are read, and names of its own domain."""

from __future__ import annotations

#: The oldest and the newest operator set of ONNX that is read.
OLDEST, NEWEST = 13, 28
#: Names of ONNX's own domain of operators.
ONNX_DOMAINS = frozenset(("", "ai.onnx"))
