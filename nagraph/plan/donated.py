"""Donated arguments, in words: what becomes of their arrays, and why not only the rows that change are written."""

from __future__ import annotations

from collections.abc import Iterator

from nagraph.analysis.origin import label_of
from nagraph.ir.graph import Node
from nagraph.plan.plan import Plan
from nagraph.plan.writes import precedes_writes


def fates(plan: Plan) -> dict[int, str]:
    """For each output that may take a donated array, by its number, what becomes of the array: the end of a sentence about the argument."""
    return {j: _fate(plan, j, i) for j, i in plan.donations.items()}


def _fate(plan: Plan, output: int, given: int) -> str:
    slot, copied = plan.results[output]
    if slot == plan.inputs[given]:
        return "is returned as it is"
    made = _root(plan, slot) if copied else next(s for s in _made(plan) if _is_output(plan, s, output))
    t = next((t for t, step in enumerate(plan.steps) if made in step.results), -1)
    changed = _changed(plan, t, made)
    if not copied and changed == plan.inputs[given]:
        return "has only what changes written, in place"
    why = next(_reasons(plan, plan.inputs[given], t), "") or (next(_reasons(plan, changed, t), "") if changed is not None else "")
    if not copied:
        return "is overwritten by the result" + (f", all of it: {why}" if why and changed is not None else "")
    why = why or _late(plan, t) or "what computes the result reads it elsewhere than it would write"
    return f"has the result copied into it at the end: {why}"


def _made(plan: Plan) -> Iterator[int]:
    """The slots that steps compute, in order."""
    return (s for step in plan.steps if not step.view for s in step.results)


def _is_output(plan: Plan, slot: int, output: int) -> bool:
    b = plan.buffers[plan.slots[slot].buffer]
    return b.kind == "output" and b.index == output


def _root(plan: Plan, slot: int) -> int:
    """The slot whose bytes a slot shows."""
    while (source := plan.slots[slot].source) is not None:
        slot = source
    return slot


def _changed(plan: Plan, t: int, made: int) -> int | None:
    """The slot that step t changes into the one that it makes; None if it does no such thing."""
    if t < 0:
        return None
    step = plan.steps[t]
    k = step.node.op.updates(step.results.index(made))
    return None if k is None else _root(plan, step.operands[k])


def _reasons(plan: Plan, slot: int, t: int) -> Iterator[str]:
    """Why the bytes of a slot can't be overwritten by step t."""
    for step in plan.steps[t + 1:]:
        if not step.view and any(_root(plan, s) == slot for s in step.operands):
            yield f"{_named(step.node)} reads it afterwards"
    if any(_root(plan, s) == slot for s, _ in plan.results):
        yield "it, or a part of it, is returned as well"


def _late(plan: Plan, t: int) -> str:
    """What is done at step t or later, though nothing donated is written before it; "" if there is nothing."""
    return next((f"{_named(step.node)} may end the call, or take long, and so comes first" for step in plan.steps[max(t, 0):]
                 if precedes_writes(step.node)), "")


def _named(node: Node) -> str:
    return f"{label_of(node)} ({node.location})" if node.location else label_of(node)
