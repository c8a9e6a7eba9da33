"""Looking into running graphs."""

from __future__ import annotations

from typing import Any

from nagraph.ir.builder import active, current
from nagraph.ir.graph import Value
from nagraph.ops.region import DebugPrint


def print(text: str, x: Any) -> Any:  # noqa: A001 - the contract's name
    """Print x, in place of {} in the text, each time the graph runs; returns x.

    The node is kept and keeps its order, whether or not the result is used.
    """
    if active() is None or not isinstance(x, Value):
        return DebugPrint(text).reference(x)
    return current().emit(DebugPrint(text), (x,))[0]
