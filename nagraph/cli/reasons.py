"""Reasons: why regions were formed, refused or taken apart, as tables of what the passes and the plan decided."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from rich.table import Table

from nagraph.analysis.origin import label_of, lines_of
from nagraph.fusion.remark import region_label
from nagraph.pipeline import Observation, Pipeline, apply
from nagraph.plan.arena_report import size
from nagraph.plan.kernel_planner import kernel_plan


def remarks(graph: Any, pipeline: str) -> list[Any]:
    """What every fusion of the pipeline decides, on the graph and its regions, and then the plan by kernels."""
    found: list[Any] = []
    kernels = False

    def listen(seen: Observation) -> None:
        nonlocal kernels
        if seen.step.partition("{")[0] == "fuse":
            (fuse,) = Pipeline.parse(seen.step).passes
            kernels = fuse.kernels  # type: ignore[attr-defined]
            apply(partial(fuse, why=found.append), seen.before)  # type: ignore[call-arg]

    after = Pipeline.parse(pipeline).with_observers(listen)(graph)
    if kernels:
        kernel_plan(after, {}, found.append)
    return found


def formed_table(found: list[Any]) -> Table:
    """The regions that were formed, equal ones together, by the bytes that they save."""
    same = Counter((d.saved, len(d.nodes), region_label(d.nodes), _lines(d.nodes)) for d in found if d.formed)
    table = _table("formed", ("times", True), ("nodes", True), ("each saves", True), ("region", False), ("lines", False))
    for (saved, nodes, label, lines), times in sorted(same.items(), key=lambda item: -item[0][0] * item[1]):
        table.add_row(f"{times}", f"{nodes}", size(saved), label, lines)
    return table


def refused_table(found: list[Any], rows: int) -> Table:
    """What was refused, equal cases together, by the bytes that go through memory for it; `rows` of them."""
    cases: dict[tuple[str, str], list[Any]] = {}
    for d in found:
        if not d.formed:
            cases.setdefault((_subject(d), d.reason), []).append(d)
    ordered = sorted(cases.items(), key=lambda c: -sum(map(_travel, c[1])))
    table = _table("refused", ("times", True), ("bytes between", True), ("nodes", False), ("reason", False), ("lines", False))
    for (subject, reason), same in ordered[:rows]:
        table.add_row(f"{len(same)}", size(sum(map(_travel, same))), subject, reason, _lines([n for d in same for n in d.nodes]))
    rest = [d for _, same in ordered[rows:] for d in same]
    if rest:
        table.add_row(f"{len(rest)}", size(sum(map(_travel, rest))), f"{len(ordered) - rows} other cases", "", "")
    return table


def _table(title: str, *columns: tuple[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    return table


def _subject(remark: Any) -> str:
    """A pair of nodes, a region that was taken apart, or one that does not pay."""
    nodes = remark.nodes
    if len(nodes) == 1:
        return f"{label_of(nodes[0])}, taken apart"
    pair = len(nodes) == 2 and not remark.saved
    return f"{label_of(nodes[0])} -> {label_of(nodes[1])}" if pair else f"{region_label(nodes)} ({len(nodes)} nodes)"


def _travel(remark: Any) -> int:
    """Bytes that the second node of a pair reads of the first one; of a region what it would have saved."""
    if remark.saved or len(remark.nodes) != 2:
        return int(remark.saved)
    producer, reader = remark.nodes
    return sum(r.type.nbytes for r in producer.results if r in reader.operands)


def _lines(nodes: Any) -> str:
    found = list(dict.fromkeys(line for n in nodes for line in lines_of(n)))
    return ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
