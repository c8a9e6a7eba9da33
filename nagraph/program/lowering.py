"""Lowering: a plan becomes a program, with kernels in phases, loops and branches as instructions, pointers as numbers in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from nagraph.errors import MissingRuleError
from nagraph.ir.builder import Builder
from nagraph.ir.graph import Node, Value
from nagraph.ir.types import BOOL, TensorType
from nagraph.kernel.form import Kernel
from nagraph.kernel.layout import StridedLayout, row_major
from nagraph.kernel.lower import lower as lower_kernel
from nagraph.ops.labels import CheckLabels
from nagraph.ops.reduction import all as all_of
from nagraph.ops.sorting import Argsort, Sort
from nagraph.plan.kernel_planner import KernelPlanner, inner_key
from nagraph.plan.plan import Plan, Step
from nagraph.plan.planner import alternating
from nagraph.program.instructions import Decide, End, HostStep, Jump, Launch, Loop, SetPointer, SortTask, Swap
from nagraph.program.lowered import LoweredProgram, TableEntry
from nagraph.regions.branches import Cond
from nagraph.regions.calls import Call
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop

#: Makes of a kernel or a sort what launches call.
Make = Callable[[Kernel | SortTask], Any]


def lower(planner: KernelPlanner, plan: Plan, make: Make, host: bool = True) -> LoweredProgram:
    """The program of a plan. `make`: the backend's; it is asked once for each distinct kernel, and makes the `function` of launches.

    host: whether the backend can call Python from within a program (`HostStep`). MissingRuleError for ops that want it if it can't.
    """
    program = LoweredProgram(plan.donations)
    inputs = [program.pointer(TableEntry("input", i, v.type.nbytes)) for i, v in enumerate(plan.graph.inputs)]
    outputs = [program.pointer(TableEntry("output", j, v.type.nbytes)) for j, v in enumerate(plan.graph.outputs)]
    top = _PlanLowering(program, _Kernels(make, host), planner, plan, 0, inputs, outputs, commits=True)
    top.lower()
    top.donate([j for j, i in plan.donations.items() if plan.results[j][1] and plan.results[j][0] != plan.inputs[i]])
    return program


class _Kernels:
    """What the backend made of the kernels of a program, each distinct one once."""

    def __init__(self, make: Make, host: bool) -> None:
        self.make, self.host = make, host
        self._equal: dict[Kernel, Any] = {}
        self._known: dict[int, tuple[Kernel, Any]] = {}

    def made(self, kernel: Kernel) -> Any:
        """What the backend made of a kernel. Most launches have an object that was met before, which need not be compared."""
        if id(kernel) not in self._known:
            if kernel not in self._equal:
                self._equal[kernel] = self.make(kernel)
            self._known[id(kernel)] = kernel, self._equal[kernel]
        return self._known[id(kernel)][1]


class _PlanLowering:
    """The lowering of one plan, of the graph or of a region: `base` is where its arena begins, `inputs` and `outputs` are its pointers.

    commits: whether it writes donated arrays of the call, from some step on; what a region changes in place is of no concern to others.
    """

    def __init__(self, program: LoweredProgram, kernels: _Kernels, planner: KernelPlanner, plan: Plan, base: int,
                 inputs: Sequence[int], outputs: Sequence[int], commits: bool = False):
        self.program, self.kernels, self.planner, self.plan, self.base = program, kernels, planner, plan, base
        self.commits = commits
        self.inputs, self.outputs = inputs, outputs
        self._constants: dict[int, int] = {}

    def lower(self) -> None:
        """Add the instructions of all steps, then copy what outputs have elsewhere."""
        donated = set(self.plan.donations) if self.commits else set()
        committed = not donated
        for step in self.plan.steps:
            if step.view:
                if isinstance(step.node.op, CheckLabels):
                    self._check(step, step.node.op)
                continue
            if not committed and any(self._kind(s) == "output" and self._buffer(s).index in donated for s in step.results):
                committed = True
                self.program.commit()
            self._step(step)
        for j, (slot, copied) in enumerate(self.plan.results):
            if copied:
                self._copy_out(j, slot)

    def donate(self, late: Sequence[int]) -> None:
        """Copy these outputs into the donated arrays, now that all is read: the program does it, since nothing can interrupt that."""
        program = self.program
        if late:
            program.commit()
        program.flush()
        for j in late:
            v = self.plan.graph.outputs[j]
            self.copy(v, self.outputs[j], row_major(v.shape), program.pointer(TableEntry("donated", j, v.type.nbytes)))
        if program.rejected is not None:
            program.patch(program.rejected, program.here())
        program.flush()

    def _buffer(self, slot: int) -> Any:
        return self.plan.buffers[self.plan.slots[slot].buffer]

    def _kind(self, slot: int) -> str:
        kind: str = self._buffer(slot).kind
        return kind

    def pointer(self, slot: int) -> int:
        """The pointer of a whole value's slot."""
        b = self._buffer(slot)
        if b.kind == "input":
            return self.inputs[b.index]
        if b.kind == "output":
            return self.outputs[b.index]
        if b.kind == "arena":
            return self.program.arena(self.base + b.offset, b.nbytes)
        if slot not in self._constants:
            self._constants[slot] = self.program.constant(self.plan.constants[slot])
        return self._constants[slot]

    def whole(self, v: Value) -> int:
        """The pointer of the value that v is, or shows."""
        return self.pointer(self.planner.slot_of[self.planner.roots[v] if v not in self.planner.constants else v])

    # -- steps ----------------------------------------------------------------------------------------------------

    def _step(self, step: Step) -> None:
        try:
            self._lower_step(step)
        except Exception as error:
            if not hasattr(error, "node"):  # so that whoever catches it knows what to take apart
                error.node = step.node  # type: ignore[attr-defined]
            raise

    def _lower_step(self, step: Step) -> None:
        op = step.node.op
        if step.nested:
            self._region(step)
        elif isinstance(op, (Sort, Argsort)):
            self._sort(step, op)
        elif op.on_host:
            self._host(step)
        else:
            found = self.planner.step_of(step.node)
            if found is None and step.joined:
                return
            if found is None:
                raise MissingRuleError(f"op {op.name} has no kernel")
            if step.changes is not None:
                x, update = step.node.operands[step.changes], self.planner.update_of(step.node)
                assert update is not None
                self.copy(x, self.whole(x), self._layout(x), self.pointer(step.results[0]), self._layout(step.node.result))
                found = update
            slots = [self.whole(v) for v in found.reads]
            slots += [self.program.constant(c) for c in found.constants]
            slots += [self.pointer(s) for s in step.results]
            self._launch(found.kernel, slots, step.node)

    def _launch(self, kernel: Kernel, slots: Sequence[int], node: Node | None) -> None:
        if 0 not in kernel.axes[:kernel.grid]:
            self.program.launch(Launch(self.kernels.made(kernel), tuple(slots), kernel.outputs, kernel, node))

    def _sort(self, step: Step, op: Sort | Argsort) -> None:
        (x,) = step.node.operands
        if not x.type.size:
            return
        function = self.kernels.make(SortTask(op, x.type, self._layout(x)))
        self.program.launch(Launch(function, (self.whole(x), self.pointer(step.results[0])), 1, None, step.node))

    def _host(self, step: Step) -> None:
        """The op's reference, called from the program. MissingRuleError where the backend has no host to call."""
        if not self.kernels.host:
            raise MissingRuleError(f"op {step.node.op.name} has no rule for kernels, and this backend computes nothing in Python; "
                                   "write its element, or take a backend of the CPU")
        operands = self._row_major_operands(step, list(step.scratch))
        self.program.add(HostStep((*operands, *(self.pointer(s) for s in step.results)), step.node))

    def _check(self, step: Step, op: CheckLabels) -> None:
        """verdict = verdict and all labels are fine."""
        (x,) = step.node.operands
        if not x.type.size:
            return
        with Builder() as builder:
            labels, verdict = builder.input(x.type), builder.input(TensorType(BOOL, ()))
            graph = builder.graph("check", [verdict & all_of(op.fine(labels))])
        kernel = lower_kernel(graph, [self._layout(x), row_major(())])
        self._launch(kernel, (self.whole(x), self.program.verdict(), self.program.verdict()), step.node)

    def _layout(self, v: Value) -> StridedLayout:
        return self.planner.layouts.get(v, row_major(v.shape)) if v not in self.planner.constants else row_major(v.shape)

    def copy(self, v: Value, source: int, layout: StridedLayout, target: int, written: StridedLayout | None = None) -> None:
        """A value, as it stands at a pointer, to another, row-major there, or as `written`; nothing where it stands there already.

        That is known here, or of the array of a donated argument at the call.
        """
        written = row_major(v.shape) if written is None else written
        if layout == written and source == target:  # two parts of one joined value have one pointer as well
            return
        with Builder() as builder:
            graph = builder.graph("copy", [builder.input(v.type)])
        kernel = lower_kernel(graph, [layout], [written])
        with self.program.unless_same(source, target) if layout == written else nullcontext():
            self._launch(kernel, (source, target), None)

    def _copy_out(self, output: int, slot: int) -> None:
        v = self.plan.graph.outputs[output]
        self.copy(v, self.whole(v), self._layout(v), self.outputs[output])

    # -- regions ----------------------------------------------------------------------------------------------------

    def _region(self, step: Step) -> None:
        op = step.node.op
        arena, *scratch = step.scratch
        base = self.base + self._buffer(arena).offset
        moving = alternating(op, step.nested)
        spare, (flag, extra) = dict(zip(moving, map(self.pointer, scratch))), (None, scratch[len(moving):])
        if isinstance(op, WhileLoop):
            flag, *extra = extra
        operands = self._row_major_operands(step, list(extra))
        results = [self.pointer(s) for s in step.results]
        bodies = [_Body(self, base, plan, graph) for plan, graph in zip(step.nested, op.regions.values())]
        if isinstance(op, Scan):
            self._scan(op, bodies[0], step.node, operands, results, spare)
        elif isinstance(op, WhileLoop):
            assert flag is not None
            self._while(op, bodies, step.node, operands, results, spare, self.pointer(flag))
        elif isinstance(op, Cond):
            self._cond(bodies, operands, results)
        elif isinstance(op, Call):
            bodies[0].lower(operands, results)
        else:
            raise MissingRuleError(f"op {op.name} has no kernel")

    def _row_major_operands(self, step: Step, extra: list[int]) -> list[int]:
        """Pointers to the operands as regions take them: views that are not row-major are copied."""
        found = []
        for v in step.node.operands:
            source, layout = self.whole(v), self._layout(v)
            if layout == row_major(v.shape):
                found.append(source)
            elif layout.strides == row_major(v.shape).strides:
                found.append(self.program.moving())
                self.program.add(SetPointer(found[-1], source, layout.offset * v.dtype.itemsize))
            else:
                found.append(self.pointer(extra.pop(0)))
                self.copy(v, source, layout, found[-1])
        return found

    def _scan(self, op: Scan, body: _Body, node: Node, operands: list[int], results: list[int], spare: Mapping[int, int]) -> None:
        """Carries go back and forth between the results' memory and what is spare, and end in the results'; or they stay there."""
        program = self.program
        consts, start, xs = op._split(operands)
        final, ys = results[:op.carries], results[op.carries:]
        even = op.length % 2 == 0
        moves: list[_Move] = []
        for r, (v, a, b) in enumerate(zip(node.operands[op.consts:], start, final)):
            if not op.length or r not in spare:
                self.copy(v, a, row_major(v.shape), b)
            moves.append(self._alternation(a, spare[r] if even else b, b if even else spare[r]) if r in spare else _Move(b, b))
        if not op.length:
            return
        loop = program.loop()
        x_at, y_at = ([program.moving() for _ in pointers] for pointers in (xs, ys))
        program.add(Loop(loop, op.length))
        for at, pointer, v in zip((*x_at, *y_at), (*xs, *ys), (*node.operands[len(operands) - len(xs):], *node.results[op.carries:])):
            nbytes = v.type.nbytes // op.length
            program.add(SetPointer(at, pointer, 0, nbytes, loop, op.length, op.reverse))
        body.lower([*consts, *(m.read for m in moves), *x_at], [*(m.written for m in moves), *y_at])
        self._alternate(moves)
        program.add(End(loop))

    def _while(self, op: WhileLoop, bodies: list[_Body], node: Node, operands: list[int], results: list[int],
               spare: Mapping[int, int], flag: int) -> None:
        program = self.program
        consts, start = operands[:op.consts], operands[op.consts:]
        moves: list[_Move] = []
        for r, (v, a, b) in enumerate(zip(node.results, start, results)):
            if r not in spare:
                self.copy(v, a, row_major(v.shape), b)
            moves.append(self._alternation(a, b, spare[r]) if r in spare else _Move(b, b))
        loop = program.loop()
        limit = op.max_steps if op.max_steps is not None else 1 << 62
        program.add(Loop(loop, limit))
        sources = [m.read for m in moves]
        bodies[0].lower([*consts, *sources], [flag])
        leave = program.add(Decide(flag, -1))
        bodies[1].lower([*consts, *sources], [m.written for m in moves])
        self._alternate(moves)
        program.add(End(loop))
        program.patch(leave, program.here())
        moved = [(v, m.read, b) for v, m, b in zip(node.results, moves, results) if m.third is not None]
        if moved:  # after an odd number of steps all of them are there
            with program.unless_same(moved[0][1], moved[0][2], known=True):
                for v, source, result in moved:
                    self.copy(v, source, row_major(v.shape), result)

    def _alternation(self, start: int, first: int, second: int) -> _Move:
        """Pointers of a carry that is read at `start`, then written to two places in alternation."""
        read, written, third = (self.program.moving() for _ in range(3))
        for target, source in ((read, start), (written, first), (third, second)):
            self.program.add(SetPointer(target, source))
        return _Move(read, written, third)

    def _alternate(self, moves: Sequence[_Move]) -> None:
        for m in moves:
            if m.third is not None:
                self.program.add(SetPointer(m.read, m.written))
                self.program.add(Swap(m.written, m.third))

    def _cond(self, bodies: list[_Body], operands: list[int], results: list[int]) -> None:
        program = self.program
        predicate, *rest = operands
        otherwise = program.add(Decide(predicate, -1))
        bodies[0].lower(rest, results)
        done = program.add(Jump(-1))
        program.patch(otherwise, program.here())
        bodies[1].lower(rest, results)
        program.patch(done, program.here())


class _Move(NamedTuple):
    """Pointers of a carry: where a step reads it, where it writes it, and, if these alternate, the place that is written next."""

    read: int
    written: int
    third: int | None = None


class _Body(NamedTuple):
    """A region's plan, to be written once its pointers are known."""

    outer: _PlanLowering
    base: int
    plan: Plan
    graph: Any

    def lower(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Add its instructions, reading and writing at these pointers."""
        inner, _ = self.outer.planner.inner[inner_key(self.graph, self.plan.donations)]
        _PlanLowering(self.outer.program, self.outer.kernels, inner, self.plan, self.base, inputs, outputs).lower()
