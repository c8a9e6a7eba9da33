"""Arena reports say what lives in the arena of a plan, at which offset, and from which step to which."""

from __future__ import annotations

from dataclasses import dataclass

from nagraph.analysis.live_ranges import LiveRange, live_bytes
from nagraph.analysis.origin import label_of, lines_of
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph
from nagraph.ir.printer import value_names
from nagraph.plan.plan import Plan

#: Buffers that the table shows; the rest is one line.
SHOWN = 20


@dataclass(frozen=True)
class Allocation:
    """An allocation is one buffer of the arena: bytes [offset, offset + nbytes), taken from step `first` to step `last`, both included.

    value: the value that is put there first, as the graph's text names it; `reused`: how many others follow in its place.
    For memory that a step wants beside its results, `value` is "scratch".
    """

    offset: int
    nbytes: int
    first: int
    last: int
    value: str
    type: str
    op: str
    lines: tuple[str, ...]
    reused: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


@dataclass(frozen=True)
class ArenaReport:
    """An arena report lists the arena's buffers, its bytes, and the least that any assignment of offsets needs: the largest sum of live
    bytes.

    steps: the name of each step of the plan. Beside the arena a call has its arguments, its results (those that are not
    written into donated arguments) and constants.
    """

    arena_bytes: int
    lower_bound: int
    steps: tuple[str, ...]
    buffers: tuple[Allocation, ...]
    argument_bytes: int
    result_bytes: int
    constant_bytes: int

    @classmethod
    def of(cls, plan: Plan) -> ArenaReport:
        """The report on a plan."""
        names = value_names(plan.graph)
        taken: dict[int, list[tuple[str, str, int]]] = {}
        for t, step in enumerate(plan.steps):
            found = [(f"%{names[v]}", s) for v, s in zip(step.node.results, step.results)] if not step.view else []
            for name, slot in [*found, *(("scratch", s) for s in step.scratch)]:
                taken.setdefault(plan.slots[slot].buffer, []).append((name, str(plan.slots[slot].type), t))
        buffers = []
        for i, b in enumerate(plan.buffers):
            if b.kind == "arena":
                (name, type, t), *others = taken[i]
                node = plan.steps[t].node
                buffers.append(Allocation(b.offset, b.nbytes, b.first, b.last, name, type, label_of(node), lines_of(node),
                                          len(others)))
        steps = tuple(label_of(s.node) for s in plan.steps)
        arguments = sum(v.type.nbytes for v in plan.graph.inputs)
        results = sum(v.type.nbytes for j, v in enumerate(plan.graph.outputs) if j not in plan.donations)
        constants = sum(a.nbytes for a in plan.constants.values()) + sum(op.array.nbytes for op in _inner_constants(plan.graph))
        return cls(plan.arena_bytes, plan.lower_bound, steps, tuple(buffers), arguments, results, constants)

    def live_bytes(self) -> list[int]:
        """The bytes that are taken at each step."""
        return live_bytes((LiveRange(b.nbytes, b.first, b.last) for b in self.buffers), len(self.steps))

    @property
    def peak(self) -> int:
        """The first step at which most bytes are taken; 0 where there are no steps."""
        live = self.live_bytes()
        return live.index(max(live)) if live else 0

    def table(self, most: int | None = SHOWN) -> str:
        """The largest buffers, `most` of them (None: all), as a table; those that live at the peak are marked."""
        at = self.peak
        ratio = self.arena_bytes / self.lower_bound if self.lower_bound else 1.0
        beside = zip(("arguments", "results", "constants"), (self.argument_bytes, self.result_bytes, self.constant_bytes))
        head = (f"beside the arena: {', '.join(f'{what} {size(nbytes)}' for what, nbytes in beside)}\n"
                f"arena {size(self.arena_bytes)}, {ratio:.2f} times the lower bound of {size(self.lower_bound)}")
        if not self.buffers:
            return head
        lines = [f"{head}; most is taken at step {at} of {len(self.steps)} ({self.steps[at]}), marked *",
                 f"  {'offset':>11} {'bytes':>11} {'steps':>11}  value"]
        ordered = sorted(self.buffers, key=lambda b: (-b.nbytes, b.first, b.offset))
        for b in ordered[:most]:
            mark = "*" if b.first <= at <= b.last else " "
            then = f", then {b.reused} more in its place" if b.reused else ""
            where = f"   {', '.join(b.lines[:3])}" if b.lines else ""
            what = f"{b.value}: {b.type} {b.op}{then}{where}"
            lines.append(f"{mark} {b.offset:11,} {b.nbytes:11,} {f'{b.first}-{b.last}':>11}  {what}")
        rest = ordered[len(ordered[:most]):]
        if rest:
            together = size(sum(b.nbytes for b in rest))
            lines.append(f"  and {len(rest)} more of {size(rest[0].nbytes)} or less, {together} together")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def _inner_constants(graph: Graph) -> set[Constant]:
    """The constants in the graph's regions, equal ones once."""
    found: set[Constant] = set()
    stack, seen = [r for n in graph.nodes for r in n.op.regions.values()], set[int]()
    while stack:
        region = stack.pop()
        if id(region) in seen:
            continue
        seen.add(id(region))
        for node in region.nodes:
            if isinstance(node.op, Constant):
                found.add(node.op)
        stack += [r for n in region.nodes for r in n.op.regions.values()]
    return found


def size(nbytes: float) -> str:
    """Bytes as people read them: 31.4 MB (MB = 2**20 bytes)."""
    for unit, factor in (("GB", 2**30), ("MB", 2**20), ("KB", 2**10)):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f} {unit}"
    return f"{nbytes:.0f} bytes"
