"""The lines of user code behind a kernel's text. The text itself has none, so that equal kernels stay one wherever they come from."""

from __future__ import annotations

from collections.abc import Iterable

from nagraph.analysis.origin import lines_of
from nagraph.backends.gpu.emit import DeviceFunction
from nagraph.ir.graph import Node

#: As many lines as a comment names.
MOST = 12


def with_lines(function: DeviceFunction, nodes: Iterable[Node | None]) -> str:
    """The text of a function, behind a comment that says which lines of user code it computes. nodes: those that it is launched for."""
    lines = list(dict.fromkeys(line for node in nodes if node is not None for line in lines_of(node)))
    if not lines:
        return function.text
    more = f" and {len(lines) - MOST} more" if len(lines) > MOST else ""
    return f"// {function.name} computes {', '.join(lines[:MOST])}{more}\n{function.text}"
