"""Refusals: what a form has no translation for, collected over a whole graph and told at once."""

from __future__ import annotations

from nagraph.errors import ExportError
from nagraph.ir.graph import Node

#: Lines of code that one reason names.
_LINES = 4


class Refusals:
    """Refusals are the ops of a graph that a form can't express, with the user's lines.

    A writer goes over the whole graph, adds what it can't translate, and calls `check` before it writes anything.
    """

    def __init__(self, form: str, name: str):
        """form: what it would have become, for the message; name: that of the graph."""
        self.form, self.name = form, name
        #: The places of each op and reason, in the order in which they were met.
        self.found: dict[tuple[str, str], list[str]] = {}

    def add(self, node: Node, why: str = "it has no translation") -> None:
        """Note a node. why: what is missing, and what to write instead if there is something; a clause without a full stop."""
        label = getattr(node.op, "label", "")
        places = self.found.setdefault((f"{node.op.name} {label}".rstrip(), why), [])
        if node.location and str(node.location) not in places:
            places.append(str(node.location))

    def check(self) -> None:
        """ExportError that lists all that was noted; nothing if there is none."""
        if not self.found:
            return
        rows = [f"{op}: {why}{_shown(places)}" for (op, why), places in self.found.items()]
        start = f"{self.name} can't be exported to {self.form}"
        raise ExportError(f"{start}: {rows[0]}" if len(rows) == 1 else f"{start} for {len(rows)} reasons:\n  " + "\n  ".join(rows))


def _shown(places: list[str]) -> str:
    more = f" and {len(places) - _LINES} more" if len(places) > _LINES else ""
    return f" ({', '.join(places[:_LINES])}{more})" if places else ""
