"""A plan bound to an arena: a list of NumPy calls on arrays that exist already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from nagraph.plan.plan import ALIGNMENT, Plan, Step
from nagraph.program.instructions import HostStep
from nagraph.regions.branches import Cond
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop

Array = np.ndarray[Any, Any]
Fn = Callable[..., Any]


def new_arena(nbytes: int) -> Array:
    """Uninitialised bytes that begin at a multiple of the alignment."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start:start + nbytes]


class Program:
    """A plan's NumPy calls: run(inputs, outputs) computes its graph into the arrays `outputs`. One call at a time: it owns its arena."""

    def __init__(self, plan: Plan, arena: Array, known: dict[tuple[int, int], Program] | None = None):
        self.plan = plan
        #: The programs of regions, by plan and place in memory: they run one after another.
        self._known = {} if known is None else known
        self.env: list[Any] = [None] * len(plan.slots)
        for i, array in plan.constants.items():
            self.env[i] = array
        places: dict[Any, Array] = {}  # slots of one place and type are one array, so that a function sees what is in place
        for i, slot in enumerate(plan.slots):
            b = plan.buffers[slot.buffer]
            if b.kind == "arena" and slot.source is None:
                raw = arena[b.offset:b.offset + slot.type.nbytes]
                self.env[i] = places.setdefault((b.offset, slot.type), raw.view(slot.type.dtype).reshape(slot.type.shape))
        self._result_slots = [(i, s) for s, slot in enumerate(plan.slots) if slot.source is None
                              and (b := plan.buffers[slot.buffer]).kind == "output" for i in (b.index,)]
        #: What is copied at the end: an output, its slot, and whether the array of another output may be the one that this slot shows.
        self._copies = [(j, slot, bool(plan.donations) and self._shows(slot) in plan.inputs)
                        for j, (slot, copied) in enumerate(plan.results) if copied]
        #: Views of inputs and outputs, made anew in each call: slot, function, slot that it shows.
        self._views: list[tuple[int, Fn, int]] = []
        #: A call: function, its arrays if they are known, else what picks them from the slots.
        self._calls: list[tuple[Fn, tuple[Any, ...] | None, Any]] = []
        for step in plan.steps:
            if step.view:
                (source,), (result,) = step.operands, step.results
                view = step.node.op.shown
                if self.env[source] is None:
                    self._views.append((result, view, source))
                else:
                    self.env[result] = view(self.env[source])
        for step in plan.steps:
            if not step.view or step.node.op.can_fail:
                self._calls.append(self._bind(step))

    def _bind(self, step: Step) -> tuple[Fn, tuple[Any, ...] | None, Any]:
        slots = (*step.operands, *step.results, *(step.scratch if not step.nested else ()))
        function = self._function(step)
        known = tuple(self.env[s] for s in slots)
        if all(a is not None for a in known):
            return function, known, None
        return function, None, _picker(slots)

    def _function(self, step: Step) -> Fn:
        """f(*operands, *results) for the step."""
        if step.view:  # it shows its operand, and is run for the error that it can raise
            reference = step.node.op.reference
            return lambda x, y: reference(x)
        if step.node.op.on_host:
            return _host(step)
        if not step.nested:
            fn: Fn = step.node.op.into([v.type for v in step.node.operands], [v.type for v in step.node.results])
            return fn
        arena, *rest = (self.env[s] for s in step.scratch)
        programs = [self._inner(p, arena) for p in step.nested]
        op, count = step.node.op, len(step.operands)
        if step.row_loop is not None:
            return _by_rows(step, programs)
        if isinstance(op, Scan):
            return _scan(op, programs[0], rest)
        if isinstance(op, WhileLoop):
            return _while(op, *programs, rest)
        if isinstance(op, Cond):
            def cond(*arrays: Array) -> None:
                programs[0 if arrays[0] else 1].run(arrays[1:count], arrays[count:])

            return cond
        return lambda *arrays: programs[0].run(arrays[:count], arrays[count:])

    def _inner(self, plan: Plan, arena: Array) -> Program:
        key = id(plan), arena.ctypes.data
        if key not in self._known:
            self._known[key] = Program(plan, arena, self._known)
        return self._known[key]

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Compute the graph on `inputs` into `outputs`."""
        env = self.env.copy()
        for slot, array in zip(self.plan.inputs, inputs):
            env[slot] = array
        for j, slot in self._result_slots:
            env[slot] = outputs[j]
        for slot, view, source in self._views:
            env[slot] = view(env[source])
        for function, arrays, pick in self._calls:
            function(*(pick(env) if arrays is None else arrays))
        copies = [(outputs[j], env[slot], shared) for j, slot, shared in self._copies if env[slot] is not outputs[j]]
        for output, array in [(o, a.copy() if shared else a) for o, a, shared in copies]:  # all are safe before one is written
            np.copyto(output, array)

    def _shows(self, slot: int) -> int:
        """The slot whose bytes a slot shows."""
        while (source := self.plan.slots[slot].source) is not None:
            slot = source
        return slot


def _picker(slots: tuple[int, ...]) -> Any:
    """A function that takes these slots from a list, as a tuple."""
    if len(slots) > 1:
        return itemgetter(*slots)
    (only,) = slots
    return lambda env: (env[only],)


def _host(step: Step) -> Fn:
    """A function that calls the op's reference as programs do that call Python: with copies, which it may keep, its results checked."""
    host, count = HostStep((), step.node), len(step.operands)

    def run(*arrays: Array) -> None:
        for result, y in zip(arrays[count:], host.compute([a.copy() for a in arrays[:count]])):
            np.copyto(result, y)

    return run


def _by_rows(step: Step, programs: list[Program]) -> Fn:
    """A function that runs a fused region, block of rows after block of rows."""
    blocks = step.row_loop
    assert blocks is not None
    count, rows, size = len(step.operands), blocks.rows, blocks.size
    whole, rest = programs[0], programs[-1]

    values = (*whole.plan.graph.inputs, *whole.plan.graph.outputs)
    split = (*blocks.split, *(True for _ in whole.plan.graph.outputs))
    shapes = [(*v.type.shape[:a], rows, *v.type.shape[a + 1:]) for v, a in zip(values, blocks.axes)]
    lead = [(slice(None),) * a for a in blocks.axes]

    def cut(arrays: Sequence[Array]) -> Iterator[tuple[list[Array], list[Array]]]:
        given = [a.reshape(shape) if s else a for a, shape, s in zip(arrays, shapes, split)]
        for start in range(0, rows, size):
            part = slice(start, start + size)
            found = [a[(*before, part)] if s else a for a, before, s in zip(given, lead, split)]
            yield found[:count], found[count:]

    def run(*arrays: Array) -> None:
        done = 0
        for operands, results in cut(arrays):
            (whole if done + size <= rows else rest).run(operands, results)
            done += size

    return run


def _scan(op: Scan, body: Program, spare: Sequence[Array]) -> Fn:
    """A function that runs the loop: carries go back and forth between the results' arrays and spare ones, and end in the results';
    or they are changed in these.
    """
    consts, carries, length = op.consts, op.carries, op.length

    def run(*arrays: Array) -> None:
        count = len(body.plan.inputs)
        fixed, start, xs = arrays[:consts], arrays[consts:consts + carries], arrays[consts + carries:count]
        final, ys = arrays[count:count + carries], arrays[count + carries:]
        source, others = _begin(body.plan, start, final, spare, everything=not length)
        for s in range(length):
            t = length - 1 - s if op.reverse else s
            target = final if (length - 1 - s) % 2 == 0 else others
            body.run([*fixed, *source, *(x[t, ...] for x in xs)], [*target, *(y[t, ...] for y in ys)])
            source = target

    return run


def _while(op: WhileLoop, condition: Program, body: Program, spare: Sequence[Array]) -> Fn:
    """A function that runs the loop while its condition holds."""
    *others, flag = spare

    def run(*arrays: Array) -> None:
        count = len(body.plan.inputs)
        fixed, start, final = arrays[:op.consts], arrays[op.consts:count], arrays[count:]
        source, second = _begin(body.plan, start, final, others)
        steps = 0
        while op.max_steps is None or steps < op.max_steps:
            condition.run([*fixed, *source], [flag])
            if not flag:
                break
            target = final if source is not final else second
            body.run([*fixed, *source], target)
            source, steps = target, steps + 1
        for a, b in zip(final, source):
            if a is not b:
                np.copyto(a, b)

    return run


def _begin(body: Plan, start: Sequence[Array], final: Sequence[Array], spare: Sequence[Array],
           everything: bool = False) -> tuple[Sequence[Array], Sequence[Array]]:
    """Where the carries of a loop begin, and their second arrays. Those that the body changes in place begin, and stay, in the results'."""
    found, left = [], iter(spare)
    for r, (a, b) in enumerate(zip(start, final)):
        stays = r in body.donations
        if (stays or everything) and a is not b:
            np.copyto(b, a)
        found.append((b, b) if stays else (a, next(left)))
    return tuple(zip(*found)) or ((), ())  # type: ignore[return-value]
