"""A plan is steps over slots, slots in buffers, buffers at offsets of one arena."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nagraph.analysis.live_ranges import LiveRange, live_bytes
from nagraph.ir.graph import Graph, Node
from nagraph.ir.types import TensorType

#: Buffers of the arena begin at multiples of this: a cache line, and the width of the widest vectors.
ALIGNMENT = 64


def aligned(nbytes: int) -> int:
    """The next multiple of the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer is bytes that slots live in. `first` and `last` are the steps between which they are taken, both included.

    kind: "arena" (at `offset`), "input" or "output" (array number `index` of the call), "constant".
    """

    kind: str
    nbytes: int
    first: int
    last: int
    offset: int = 0
    index: int = -1

    def __str__(self) -> str:
        if self.kind == "arena":
            return f"@{self.offset}+{self.nbytes}"
        return f"{self.kind}{self.index}" if self.index >= 0 else self.kind


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot is one tensor of a plan: its type, its buffer, and, for a view, the slot that it shows.

    part: of a value that is a part of a larger one (`nagraph.plan.placement`), an array that shows which.
    """

    type: TensorType
    buffer: int
    source: int | None = None
    part: np.ndarray[Any, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class RowLoop:
    """A row loop runs a fused region on `size` of its `rows` rows at a time. `split[i]` tells whether operand i is cut into rows.

    axes: of each operand and then of each result, the axis along which its rows lie once its other axes of rows are of size 1.
    """

    rows: int
    size: int
    split: tuple[bool, ...]
    axes: tuple[int, ...]

    @property
    def rest(self) -> int:
        """Rows of the last, shorter block; 0 if there is none."""
        return self.rows % self.size


@dataclass(frozen=True, slots=True)
class Step:
    """A step is a node with the slots of its operands and results.

    view: the result is a view, nothing is computed. joined: the operands are parts of the result already. in_place: pairs
    (result, operand) of places that share bytes.
    scratch: slots that are taken for the time of the step. nested: plans of the node's regions (for a
    fused region those of a block and of the last, shorter block), whose arena is the first scratch slot; what they change in
    place of their inputs is their donations. changes: the operand of which the step writes only what changes; where it has not
    the bytes of the result, it is copied there first.
    """

    node: Node
    operands: tuple[int, ...]
    results: tuple[int, ...]
    view: bool = False
    in_place: tuple[tuple[int, int], ...] = ()
    nested: tuple[Plan, ...] = ()
    scratch: tuple[int, ...] = ()
    row_loop: RowLoop | None = None
    joined: bool = False
    changes: int | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """A plan is everything that a backend needs to run `graph`.

    results: for each output its slot, and whether it must be copied out (else it is made in the result itself).
    donations: output number -> number of the donated input whose array it takes, if the call's array may be written.
    """

    graph: Graph
    slots: tuple[Slot, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    results: tuple[tuple[int, bool], ...]
    arena_bytes: int
    donations: dict[int, int] = field(default_factory=dict)
    constants: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict)

    @property
    def lower_bound(self) -> int:
        """The largest sum of bytes that live in the arena at one step: no assignment of offsets needs less."""
        ranges = (LiveRange(b.nbytes, b.first, b.last) for b in self.buffers if b.kind == "arena")
        return max(live_bytes(ranges, len(self.steps) + 1))

    def over_donated(self, step: Step) -> bool:
        """Whether a step changes an input in its own array, if that is donated."""
        if step.changes is None:
            return False
        source, target = (self.buffers[self.slots[s].buffer] for s in (step.operands[step.changes], step.results[0]))
        return source.kind == "input" and target.kind == "output" and self.donations.get(target.index) == source.index

    def place(self, slot: int) -> str:
        """A slot and its buffer as the table shows them."""
        s = self.slots[slot]
        shown = f"%{slot}:{s.type}"
        return f"{shown} of %{s.source}" if s.source is not None else f"{shown} {self.buffers[s.buffer]}"

    def __str__(self) -> str:
        ratio = self.arena_bytes / self.lower_bound if self.lower_bound else 1.0
        lines = [
            f"plan {self.graph.name}: {len(self.steps)} steps, {len(self.buffers)} buffers, "
            f"arena {self.arena_bytes} bytes, {ratio:.2f} times the lower bound"
        ]
        for t, step in enumerate(self.steps):
            label = getattr(step.node.op, "label", "")
            name = f"{step.node.op.name} {label}".strip()
            notes = ["view"] if step.view else ["joined"] if step.joined else []
            notes += [f"in place of %{step.operands[o]}" for _, o in step.in_place]
            if step.changes is not None and not step.in_place:
                notes.append(f"changes {'donated' if self.over_donated(step) else 'a copy of'} %{step.operands[step.changes]}")
            notes += [f"scratch {self.buffers[self.slots[s].buffer]}" for s in step.scratch]
            if step.row_loop is not None:
                notes.append(f"{step.row_loop.rows} rows, {step.row_loop.size} at a time")
            operands = " ".join(f"%{o}" for o in step.operands)
            results = ", ".join(map(self.place, step.results))
            lines.append(f"{t:5d}  {name:<18} {operands:<20} -> {results}" + (f"  ({'; '.join(notes)})" if notes else ""))
        for j, (slot, copied) in enumerate(self.results):
            where = "copied from" if copied else f"in input{self.donations[j]}," if j in self.donations else "is"
            lines.append(f"       output {j} {where} %{slot}")
        return "\n".join(lines)


class Planned(Graph):
    """A planned graph carries its plan, as the last pass of a pipeline leaves it."""

    def __init__(self, plan: Plan):
        super().__init__(plan.graph.name, plan.graph.inputs, plan.graph.nodes, plan.graph.outputs)
        self.plan = plan
