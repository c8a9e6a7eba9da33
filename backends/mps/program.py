"""Programs: a graph as compiled functions of MLX, and what Python does between them, where a flag decides or a loop is long."""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from nagraph.backends.mps.arrays import KIND, library, mlx_dtype
from nagraph.backends.mps.calls import Constants
from nagraph.backends.mps.rules.control import stacked, stops
from nagraph.backends.mps.translate import Translation
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.identities import DebugPrint
from nagraph.regions.branches import Cond
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop

Array = Any
#: Arrays by the values that they are of.
Known = dict[Value, Array]


class _Compiled(threading.local):
    """What MLX compiled for this thread, by the identity of the function.

    MLX keeps with a thread what it traced there, and lets go of it when the thread of the system ends, for which it takes Python's lock:
    where Python has ended before, that aborts the process. What is compiled and let go of on one thread leaves nothing behind.
    """

    def __init__(self) -> None:
        self.found: dict[int, tuple[weakref.ref[Function], Callable[[list[Array]], list[Array]]]] = {}

    def of(self, function: Function) -> Callable[[list[Array]], list[Array]]:
        """The function as MLX compiles it on this thread."""
        known = self.found.get(id(function))
        if known is not None and known[0]() is function:
            return known[1]
        for gone in [key for key, (held, _) in self.found.items() if held() is None]:
            del self.found[gone]
        held = weakref.ref(function)
        made = library().compile(lambda arguments: held().traced(arguments))  # type: ignore[union-attr]
        self.found[id(function)] = held, made
        return made  # type: ignore[no-any-return]


_COMPILED = _Compiled()


class Step(ABC):
    """A step computes values from others. Labels that it checks give bool[] arrays, which it adds to `verdicts`."""

    inputs: Sequence[Value]
    outputs: Sequence[Value]

    @abstractmethod
    def run(self, arrays: Sequence[Array], verdicts: list[Array]) -> Sequence[Array]:
        """The outputs for these inputs."""


class Function(Step):
    """A function of MLX: nodes without a stop among them. MLX traces it at its first call, fuses, and repeats at others what it traced."""

    def __init__(self, nodes: Sequence[Node], inputs: Sequence[Value], outputs: Sequence[Value]):
        self.nodes, self.inputs, self.outputs = nodes, inputs, outputs
        self._constants = Constants()
        core = library()
        # A first walk, of which nothing is computed, finds the constants, and any op without a rule.
        translation = Translation(self._constants)
        self._checks = len(self._walk(translation, [core.zeros(v.shape, dtype=mlx_dtype(v.dtype)) for v in inputs])) > len(outputs)

    def traced(self, arguments: Sequence[Array]) -> list[Array]:
        """The outputs, and the verdict if labels are checked, for inputs and constants."""
        given = arguments[len(self.inputs):]
        found = self._walk(Translation(self._constants, given), arguments[:len(self.inputs)])
        held = set(map(id, given))
        return [library().array(y) if id(y) in held else y for y in found]

    def _walk(self, translation: Translation, arrays: Sequence[Array]) -> list[Array]:
        """The outputs, and the verdict if labels are checked."""
        known: Known = dict(zip(self.inputs, arrays))
        translation.nodes(self.nodes, known)
        return [*(known[v] for v in self.outputs), *agreed(translation.verdicts)]

    def run(self, arrays: Sequence[Array], verdicts: list[Array]) -> Sequence[Array]:
        found = _COMPILED.of(self)([*arrays, *self._constants.arrays])
        if self._checks:
            verdicts.append(found.pop())
        return found

    def describe(self, listener: Any, arrays: Sequence[Array]) -> list[Array]:
        """Walk once more, for whoever listens to the calls."""
        return self._walk(Translation(self._constants, listener=listener), arrays)


def agreed(verdicts: Sequence[Array]) -> list[Array]:
    """Whether all of them hold, as one array in a list; an empty list if there are none."""
    core = library()
    return [core.all(core.stack(list(verdicts)))] if len(verdicts) > 1 else list(verdicts)


class Program(Step):
    """A program runs the steps of a graph in order, and keeps of the values between them those that are read later."""

    def __init__(self, graph: Graph, programs: dict[int, Program] | None = None):
        self.graph, self.inputs, self.outputs = graph, graph.inputs, graph.outputs
        #: The programs of regions by identity, each made once.
        self._programs = {} if programs is None else programs
        self.steps: list[Step] = []
        pending: list[Node] = []
        for node in graph.nodes:
            if stops(node.op):
                self._flush(pending)
                self.steps.append(_STOPS.get(type(node.op), Opened)(node, self._of))
            else:
                pending.append(node)
        self._flush(pending)
        self._dropped = self._last_uses()

    def _of(self, graph: Graph) -> Program:
        if id(graph) not in self._programs:
            self._programs[id(graph)] = Program(graph, self._programs)
        return self._programs[id(graph)]

    def _flush(self, pending: list[Node]) -> None:
        """Make a function of the nodes so far, which are forgotten."""
        made = {r: None for node in pending for r in node.results}
        inside = set(map(id, pending))
        inputs = dict.fromkeys(v for node in pending for v in node.operands if v not in made)
        outputs = [v for v in made if v in self.graph.output_values or any(id(n) not in inside for n in self.graph.uses[v])]
        checks = any(node.op.may_end_the_call for node in pending)
        if outputs or checks:
            self.steps.append(Function(tuple(pending), tuple(inputs), tuple(outputs)))
        pending.clear()

    def _last_uses(self) -> list[list[Value]]:
        """For each step the values that no later one reads."""
        seen, found = set(self.outputs), []
        for step in reversed(self.steps):
            found.append([v for v in dict.fromkeys((*step.inputs, *step.outputs)) if v not in seen])
            seen.update(step.inputs)
        return found[::-1]

    @property
    def regions(self) -> tuple[Program, ...]:
        """The programs of the regions in which there are stops."""
        return tuple(self._programs.values())

    def prints(self) -> tuple[str, ...]:
        """What Python prints between functions, one sentence each."""
        nodes = dict.fromkeys(step.node for p in (self, *self.regions) for step in p.steps if isinstance(step, Print))
        return tuple(f"{n.operands[0].type} is read and printed ({n.location})" for n in nodes)

    def run(self, arrays: Sequence[Array], verdicts: list[Array]) -> list[Array]:
        known: Known = dict(zip(self.inputs, arrays))
        for step, dropped in zip(self.steps, self._dropped):
            known.update(zip(step.outputs, step.run([known[v] for v in step.inputs], verdicts)))
            for v in dropped:
                del known[v]
        return [known[v] for v in self.outputs]


class Stop(Step):
    """A stop is a node in the middle of which Python acts."""

    def __init__(self, node: Node, program: Callable[[Graph], Program]):
        self.node, self.inputs, self.outputs = node, node.operands, node.results


class Opened(Stop):
    """The call of a body that holds a stop."""

    def __init__(self, node: Node, program: Callable[[Graph], Program]):
        super().__init__(node, program)
        self.body = program(node.op.body)  # type: ignore[attr-defined]

    def run(self, arrays: Sequence[Array], verdicts: list[Array]) -> Sequence[Array]:
        return self.body.run(arrays, verdicts)


class Branch(Stop):
    """A branch: the flag is read, which waits for what it follows from, and one of the two programs runs."""

    def __init__(self, node: Node, program: Callable[[Graph], Program]):
        super().__init__(node, program)
        op: Any = node.op
        self.true, self.false = program(op.true), program(op.false)

    def run(self, arrays: Sequence[Array], verdicts: list[Array]) -> Sequence[Array]:
        return (self.true if arrays[0].item() else self.false).run(arrays[1:], verdicts)


class LongScan(Stop):
    """A scan that is too long to be unrolled: each iteration is handed to the device while the next one is made. Nothing is read."""

    def __init__(self, node: Node, program: Callable[[Graph], Program]):
        super().__init__(node, program)
        self.op: Any = node.op
        self.body = program(self.op.body)

    def run(self, arrays: Sequence[Array], verdicts: list[Array]) -> Sequence[Array]:
        op = self.op
        end = op.consts + op.carries
        fixed, carries, xs = arrays[:op.consts], list(arrays[op.consts:end]), arrays[end:]
        steps: list[list[Array]] = []
        for t in reversed(range(op.length)) if op.reverse else range(op.length):
            found = self.body.run([*fixed, *carries, *(x[t] for x in xs)], verdicts)
            carries = found[:op.carries]
            steps.append(found[op.carries:])
            _hand_over(found, verdicts)
        return [*carries, *stacked(Translation(Constants()), op, steps)]


def _hand_over(found: Sequence[Array], verdicts: list[Array]) -> None:
    """Have an iteration computed, all of it, while Python goes on: what nobody asks for would be kept as what it is to be computed from."""
    verdicts[:] = agreed(verdicts)
    library().async_eval([*found, *verdicts])


class Repetition(Stop):
    """A while loop: before each iteration its flag is read, which waits for the iteration before."""

    def __init__(self, node: Node, program: Callable[[Graph], Program]):
        super().__init__(node, program)
        self.op: Any = node.op
        self.condition, self.body = program(self.op.condition), program(self.op.body)

    def run(self, arrays: Sequence[Array], verdicts: list[Array]) -> Sequence[Array]:
        op, steps = self.op, 0
        fixed, carries = arrays[:op.consts], list(arrays[op.consts:])
        while op.max_steps is None or steps < op.max_steps:
            if not self.condition.run([*fixed, *carries], verdicts)[0].item():
                break
            carries = self.body.run([*fixed, *carries], verdicts)
            _hand_over(carries, verdicts)
            steps += 1
        return carries


class Print(Stop):
    """A print: its value is read, and shown as on every backend."""

    def run(self, arrays: Sequence[Array], verdicts: list[Array]) -> Sequence[Array]:
        self.node.op.evaluate(KIND.to_numpy(arrays[0]))
        return arrays


_STOPS: dict[type, type[Stop]] = {Cond: Branch, Scan: LongScan, WhileLoop: Repetition, DebugPrint: Print}
