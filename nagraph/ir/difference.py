"""What a pass changed, to be read: two graphs in the text form, under names that they share."""

from __future__ import annotations

import difflib
import itertools

from nagraph.ir.graph import Graph, Value
from nagraph.ir.printer import Printer, value_names


def difference(before: Graph, after: Graph, title: str = "after", context: int = 1) -> str:
    """A unified diff. Nodes of equal op, type and source line that stand in the same order keep one name,
    so that a node taken away does not rename all those that follow; new nodes have numbers of their own.

    Regions are compared as they print. Empty if nothing changed. O(nodes), where few nodes are alike.
    """
    names = value_names(before)
    renamed = dict(zip(after.inputs, (names[v] for v in before.inputs)))
    old, new = ([(str(n.op), tuple(r.type for r in n.results), n.location) for n in g.nodes] for g in (before, after))
    for i, j, size in difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        for a, b in zip(before.nodes[i:i + size], after.nodes[j:j + size]):
            renamed.update((v, names[u]) for u, v in zip(a.results, b.results))
    taken = frozenset(names.values())
    numbers = (str(i) for i in itertools.count() if str(i) not in taken)
    renamed.update((v, next(numbers)) for n in after.nodes for v in n.results if v not in renamed)
    left, right = (_lines(g, n) for g, n in ((before, names), (after, renamed)))
    return "\n".join(difflib.unified_diff(left, right, "before", title, lineterm="", n=context))


def _lines(graph: Graph, names: dict[Value, str]) -> list[str]:
    printer = Printer()
    printer.label(graph)
    lines: list[str] = []
    for g in printer.order:
        lines += printer.graph(g, locations=False, names=names if g is graph else None)
    return lines
