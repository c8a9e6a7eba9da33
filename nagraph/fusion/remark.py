"""Remarks of the optimiser: which nodes became one region, which did not, and why, told to whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nagraph.ir.graph import Node


class Remark(NamedTuple):
    """A remark says of nodes that they became one region, or that they did not, and why.

    saved: bytes that no longer go to memory and back, since they are read where they are computed.
    """

    nodes: tuple[Node, ...]
    formed: bool
    reason: str
    saved: int = 0


#: Hears remarks.
Listener = Callable[[Remark], None]


def region_label(nodes: tuple[Node, ...] | list[Node]) -> str:
    """The name of a region: its first ops, without movement that costs nothing."""
    names = list(dict.fromkeys(n.op.name for n in nodes if not n.op.view))
    return "_".join(names[:4]) + ("_etc" if len(names) > 4 else "")
