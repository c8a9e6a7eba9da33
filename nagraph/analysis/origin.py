"""Origins are the name of what a node computes, and the lines of the user's code that it came from."""

from __future__ import annotations

from nagraph.ir.constant import Constant
from nagraph.ir.graph import Node
from nagraph.ir.location import Location


def label_of(node: Node) -> str:
    """A region's label, else the op's name."""
    return getattr(node.op, "label", "") or node.op.name


def lines_of(node: Node) -> tuple[str, ...]:
    """The lines behind a node, such as `file.py:12`; of a region those of its nodes, in their order."""
    return tuple(dict.fromkeys(map(str, places_of(node))))


def places_of(node: Node) -> tuple[Location, ...]:
    """The places in code behind a node; of a region those of its nodes, in their order.

    Constants have no say: equal ones are one, which has the line of the first.
    """
    body = getattr(node.op, "body", None)
    nodes = body.nodes if body is not None else (node,)
    return tuple(dict.fromkeys(n.location for n in nodes if n.location and not isinstance(n.op, Constant)))
