"""The check of a plan is an independent proof that nothing is read before it is written or after its bytes were overwritten.

It shares no analysis with the code that makes plans: it walks the steps and keeps track of whose
contents the bytes of each buffer hold.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

import numpy as np

from nagraph.errors import VerifyError
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Value
from nagraph.plan.plan import ALIGNMENT, Plan, Step
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop


def check(plan: Plan) -> None:
    """Raises VerifyError naming the step and the slots if `plan` would not compute its graph. O(steps × log slots), nearly."""
    _Walk(plan).run()


class _Walk:
    def __init__(self, plan: Plan):
        self.plan = plan
        #: The slots whose contents are whole, by buffer; and the arena's buffers that hold some, which never overlap, by offset.
        self.valid: dict[int, set[int]] = {}
        self.spans: list[tuple[int, int, int]] = []
        for slot in (*plan.inputs, *plan.constants):
            self._make_valid(slot)
        self.slot_of: dict[Value, int] = dict(zip(plan.graph.inputs, plan.inputs, strict=True))
        self.writer: dict[int, int] = {}

    def run(self) -> None:
        plan = self.plan
        for i, b in enumerate(plan.buffers):
            if b.kind == "arena" and (b.offset < 0 or b.offset % ALIGNMENT or b.offset + b.nbytes > plan.arena_bytes):
                raise VerifyError(f"buffer {i} at {b.offset}+{b.nbytes} does not lie, aligned, in an arena of {plan.arena_bytes} bytes")
        for t, step in enumerate(plan.steps):
            self._step(t, step)
        self._check_nodes()
        for j, (slot, copied) in enumerate(plan.results):
            self._readable(slot, len(plan.steps), f"output {j}")
            buffer = plan.buffers[plan.slots[slot].buffer]
            if not copied and (buffer.kind, buffer.index) != ("output", j):
                raise VerifyError(f"output {j} is said to be made in place, but slot %{slot} lies in {buffer}")
            if plan.slots[slot].type != plan.graph.outputs[j].type:
                raise VerifyError(f"output {j} is {plan.graph.outputs[j].type}, its slot %{slot} {plan.slots[slot].type}")

    def _step(self, t: int, step: Step) -> None:
        for k, (slot, value) in enumerate(zip(step.operands, step.node.operands, strict=True)):
            self._readable(slot, t, f"step {t} ({step.node.op.name}), operand {k}")
            if self.slot_of.get(value, slot if self._is_constant(value, slot) else None) != slot:
                raise VerifyError(f"step {t} ({step.node.op.name}): operand {k} reads slot %{slot}, which holds another value")
        if step.view:
            (source,), (result,) = step.operands, step.results
            if self.plan.slots[result].source != source or self.plan.slots[result].buffer != self.plan.slots[source].buffer:
                raise VerifyError(f"step {t}: slot %{result} is no view of %{source}")
            self._make_valid(result)
        elif step.joined:
            self._join(t, step)
        else:
            self._write(t, step)
        for slot, value in zip(step.results, step.node.results, strict=True):
            if self.plan.slots[slot].type != value.type:
                raise VerifyError(f"step {t} ({step.node.op.name}): slot %{slot} is {self.plan.slots[slot].type}, the result {value.type}")
            self.slot_of[value] = slot
        if step.nested and step.row_loop is None:
            self._regions(t, step)
        for nested in step.nested:
            check(nested)
            if nested.arena_bytes > self.plan.buffers[self.plan.slots[step.scratch[0]].buffer].nbytes:
                raise VerifyError(f"step {t}: a nested arena of {nested.arena_bytes} bytes does not fit its scratch buffer")

    def _regions(self, t: int, step: Step) -> None:
        """Checks that results share bytes with operands only where every region that makes them changes these in place."""
        op = step.node.op
        making = step.nested[-1:] if isinstance(op, WhileLoop) else step.nested
        shift = len(step.operands) - len(making[0].inputs)
        for p in making:
            for j, i in p.donations.items():
                slot, copied = p.results[j]
                if copied and slot != p.inputs[i]:
                    raise VerifyError(f"step {t} ({op.name}): output {j} of {p.graph.name} is not made in the bytes of its input {i}")
                if isinstance(op, (Scan, WhileLoop)) and i != op.consts + j:
                    raise VerifyError(f"step {t} ({op.name}): carry {j} of {p.graph.name} is made in the bytes of another, input {i}")
            for j, k in step.in_place:
                if p.donations.get(j) != k - shift:
                    raise VerifyError(f"step {t} ({op.name}): result {j} has the bytes of operand {k}, which {p.graph.name} "
                                      "does not change")

    def _join(self, t: int, step: Step) -> None:
        """Checks that the operands, or what they are views of, are different parts of the result, which is whole now."""
        (result,) = step.results
        sources = [self._source(s) for s in step.operands]
        for a in sources:
            if self.plan.slots[a].part is None or self.plan.slots[a].buffer != self.plan.slots[result].buffer:
                raise VerifyError(f"step {t} ({step.node.op.name}): slot %{a} is no part of slot %{result}")
        if any(self._overlap(a, b) for i, a in enumerate(sources) for b in sources[:i]):
            raise VerifyError(f"step {t} ({step.node.op.name}): parts of slot %{result} overlap")
        self._make_valid(result)

    def _source(self, slot: int) -> int:
        """The slot that a view is one of."""
        while (source := self.plan.slots[slot].source) is not None:
            slot = source
        return slot

    def _write(self, t: int, step: Step) -> None:
        """Overwrites the bytes of the results and the scratch slots; only declared operands may share them."""
        written = [*step.results, *step.scratch]
        for i, a in enumerate(written):
            for b in written[:i]:
                if self._overlap(a, b):
                    raise VerifyError(f"step {t} ({step.node.op.name}): slots %{b} and %{a} are written at once and overlap")
        shared = {(step.results[r], step.operands[k]) for r, k in step.in_place}
        for a in written:
            for k, b in enumerate(step.operands):
                if self._overlap(a, b) and (a, b) not in shared:
                    raise VerifyError(f"step {t} ({step.node.op.name}): slot %{a} overlaps operand {k}, %{b}, which is still read")
            self._overwrite(self._met(a), t)
        for j, i in self.plan.donations.items():  # a donated input's array may be the output's own
            if any(self.plan.buffers[self.plan.slots[s].buffer].kind == "output"
                   and self.plan.buffers[self.plan.slots[s].buffer].index == j for s in step.results):
                given = self.plan.slots[self.plan.inputs[i]].buffer
                self._overwrite(list(self.valid.get(given, ())), t)
        for slot in step.results:
            self._make_valid(slot)

    def _make_valid(self, slot: int) -> None:
        number = self.plan.slots[slot].buffer
        held = self.valid.setdefault(number, set())
        if not held and self.plan.buffers[number].kind == "arena":
            bisect.insort(self.spans, self._span(number))
        held.add(slot)

    def _overwrite(self, slots: list[int], t: int) -> None:
        """Notes that step t writes over these slots."""
        for slot in slots:
            number = self.plan.slots[slot].buffer
            self.valid[number].discard(slot)
            self.writer[slot] = t
            if not self.valid[number] and self.plan.buffers[number].kind == "arena":
                del self.spans[bisect.bisect_left(self.spans, self._span(number))]

    def _span(self, number: int) -> tuple[int, int, int]:
        b = self.plan.buffers[number]
        return b.offset, b.offset + b.nbytes, number

    def _met(self, slot: int) -> list[int]:
        """The valid slots that overlap this one. Spans do not overlap, so their ends rise with their offsets."""
        mine = self.plan.slots[slot].buffer
        numbers = [mine]
        if self.plan.buffers[mine].kind == "arena":
            start, stop, _ = self._span(mine)
            i = bisect.bisect_left(self.spans, (stop,)) - 1
            while i >= 0 and self.spans[i][1] > start:
                numbers.append(self.spans[i][2])
                i -= 1
        return [s for number in dict.fromkeys(numbers) for s in self.valid.get(number, ()) if self._overlap(slot, s)]

    def _overlap(self, a: int, b: int) -> bool:
        x, y = (self.plan.slots[s].buffer for s in (a, b))
        if x == y:
            part, other = self.plan.slots[a].part, self.plan.slots[b].part
            return a != b and (part is None or other is None or bool(np.shares_memory(part, other)))
        p, q = self.plan.buffers[x], self.plan.buffers[y]
        return p.kind == q.kind == "arena" and p.offset < q.offset + q.nbytes and q.offset < p.offset + p.nbytes

    def _readable(self, slot: int, t: int, what: str) -> None:
        if slot in self.valid.get(self.plan.slots[slot].buffer, ()):
            return
        if slot in self.writer:
            raise VerifyError(f"{what} reads slot %{slot}, whose bytes step {self.writer[slot]} overwrote")
        raise VerifyError(f"{what} reads slot %{slot} before it is written")

    def _is_constant(self, value: Value, slot: int) -> bool:
        """Whether `value` was computed with the plan, and this slot holds it."""
        return slot in self.plan.constants and self.plan.slots[slot].type == value.type

    def _check_nodes(self) -> None:
        """Checks that every node is a step, once, or was computed with the plan."""
        made = [step.node for step in self.plan.steps]
        if len(set(made)) != len(made):
            raise VerifyError("a node is run by two steps")
        missing = set(self.plan.graph.nodes) - set(made)
        hoisted = _constant_nodes(self.plan.graph.nodes)
        for node in missing - hoisted:
            raise VerifyError(f"node {node.op.name} of {self.plan.graph.name} is run by no step")


def _constant_nodes(nodes: Iterable[object]) -> set[object]:
    """Nodes whose values follow from constants alone."""
    known: set[Value] = set()
    found: set[object] = set()
    for node in nodes:
        op, operands, results = node.op, node.operands, node.results  # type: ignore[attr-defined]
        if isinstance(op, Constant) or all(v in known for v in operands):
            known.update(results)
            found.add(node)
    return found
