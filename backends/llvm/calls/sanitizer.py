"""The sanitizer: calls that run in guarded memory, full of a pattern, and look afterwards what was done to it."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nagraph.analysis.origin import label_of
from nagraph.backends.arguments import label
from nagraph.backends.llvm.calls.arena import Arena, ArenaSource
from nagraph.backends.llvm.calls.native_calls import NativeCalls, Runnable
from nagraph.backends.llvm.program.images import Image
from nagraph.backends.llvm.runtime.pool import aligned_bytes
from nagraph.errors import SanitizerError
from nagraph.ir.graph import Graph
from nagraph.ir.printer import value_names
from nagraph.plan.plan import Plan, aligned
from nagraph.program.explanation import Explanation
from nagraph.sanitizing import NAN, RED_NBYTES, pattern, unwritten

Array = np.ndarray[Any, Any]


class Guarded:
    """Memory like an array's between red zones. `array` is in it; `fresh`: with the pattern in place of the array's elements."""

    def __init__(self, like: Array, fresh: bool = False):
        nbytes = like.nbytes
        self._raw, address = aligned_bytes(nbytes + 2 * RED_NBYTES)
        start = address - self._raw.ctypes.data
        whole = self._raw[start:start + nbytes + 2 * RED_NBYTES]
        whole[:] = NAN
        inside = whole[RED_NBYTES:RED_NBYTES + nbytes]
        inside[:] = pattern(like.dtype)
        self.array: Array = inside.view(like.dtype).reshape(like.shape)
        if not fresh:
            self.array[...] = like
        self._zones = whole[:RED_NBYTES], whole[RED_NBYTES + nbytes:]

    def check(self, what: str) -> None:
        """Raise SanitizerError if a red zone was written; `what` names the memory."""
        for zone, where in zip(self._zones, ("before", "behind")):
            if (zone != NAN).any():
                raise SanitizerError(f"memory {where} {what} was written")


class Watched(NamedTuple):
    """A buffer of the arena: bytes [start, stop), up to `end` its red zone; what it holds, and which kernels write it."""

    start: int
    stop: int
    dtype: np.dtype[Any]
    what: str

    @property
    def end(self) -> int:
        return aligned(self.stop) + RED_NBYTES


def watched(plan: Plan, base: int = 0) -> Iterator[Watched]:
    """The buffers of a plan whose arena begins at `base`, and of the one plan inside a step, behind the step's own."""
    names = value_names(plan.graph)
    held: dict[int, list[str]] = {}
    dtypes: dict[int, np.dtype[Any]] = {}
    for step in plan.steps:
        values = [] if step.view else [(s, f"%{names[v]}") for v, s in zip(step.node.results, step.results)]
        for slot, name in (*values, *((s, "scratch") for s in step.scratch)):
            buffer = plan.slots[slot].buffer
            held.setdefault(buffer, []).append(f"{name}: {plan.slots[slot].type}, written by {label_of(step.node)}")
            dtypes.setdefault(buffer, plan.slots[slot].type.dtype)
    for i, lines in held.items():
        b = plan.buffers[i]
        if b.kind == "arena":
            yield Watched(base + b.offset, base + b.offset + b.nbytes, dtypes[i], "; then ".join(lines))
    for step in plan.steps:
        if len(step.nested) == 1:  # the plans of several regions have the same bytes
            yield from watched(step.nested[0], base + plan.buffers[plan.slots[step.scratch[0]].buffer].offset)


class GuardedArenas:
    """A program's arenas, filled with the pattern before each call and looked at after it."""

    def __init__(self, arenas: ArenaSource, name: str, nbytes: int, buffers: tuple[Watched, ...], constants: list[Guarded]):
        self._arenas, self._name, self._nbytes = arenas, name, nbytes
        self._buffers, self._constants = buffers, constants

    def take(self) -> Arena:
        arena = self._arenas.take()
        memory = self._memory(arena)
        memory[:] = NAN
        for w in self._buffers:
            memory[w.start - RED_NBYTES:w.end] = NAN
            memory[w.start:w.stop] = pattern(w.dtype)
        return arena

    def leave(self, arena: Arena) -> bool:
        failed = self._arenas.leave(arena)
        memory = self._memory(arena)
        for g in self._constants:
            g.check(f"a constant of {self._name}")
        for w in self._buffers:
            if (memory[w.stop:w.end] != NAN).any() or (memory[w.start - RED_NBYTES:w.start] != NAN).any():
                where = "behind" if (memory[w.stop:w.end] != NAN).any() else "before"
                raise SanitizerError(f"memory {where} a buffer of {self._name} was written: {w.what}")
        return failed

    def _memory(self, arena: Arena) -> Array:
        nbytes = self._nbytes
        return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(arena.base), np.uint8) if nbytes else np.empty(0, np.uint8)


class GuardedCalls:
    """Calls of a program that computes in guarded copies of its arguments and results. Otherwise like `NativeCalls`."""

    def __init__(self, signature: Graph, made: Explanation, donations: Mapping[int, int], threads: int | None = None):
        image = Image.of(made.program, made.plan.arena_bytes)
        constants = [Guarded(a) for a in image.constants]
        self.signature, self._plan = signature, made.plan
        self.image = image._replace(constants=tuple(g.array for g in constants))
        buffers = tuple(watched(made.plan))
        self._calls = NativeCalls(signature, self.image, donations, threads, guard=lambda arenas: GuardedArenas(
            arenas, signature.name, image.arena_nbytes, buffers, constants))

    @property
    def threads(self) -> int | None:
        """As many as a call may use; None for as many as there are cores."""
        return self._calls.threads

    def running(self, program: Runnable) -> GuardedCalls:
        """The same calls of another program on the same table."""
        twin = copy.copy(self)
        twin._calls = self._calls.running(program)
        return twin

    def plain(self, arrays: list[Any]) -> None:
        """None: there is no fast path."""

    def run(self, arrays: list[Array], donated: Mapping[int, Array]) -> tuple[Array, ...]:
        """The outputs, as of `NativeCalls.run`. Raises SanitizerError."""
        name = self.signature.name
        inputs = [Guarded(a) for a in arrays]
        places = {id(a): g for a, g in zip(arrays, inputs)}
        fresh = (np.empty(v.shape, v.dtype) for v in self.signature.outputs)
        outputs = {j: (places.get(id(donated[j])) if j in donated else None) or Guarded(a, fresh=True) for j, a in enumerate(fresh)}
        self._calls.run([g.array for g in inputs], {j: g.array for j, g in outputs.items()})
        written = {id(g) for g in outputs.values()}
        for i, (a, g, v) in enumerate(zip(arrays, inputs, self.signature.inputs)):
            g.check(f"{label(i, v)} of {name}, {v.type}")
            if id(g) not in written and a.tobytes() != g.array.tobytes():
                raise SanitizerError(f"{name} has written into its {label(i, v)}, {v.type}, which is not donated")
        known = any(unwritten(a).any() for a in (*arrays, *self.image.constants))
        results = []
        for j, g in outputs.items():
            what = f"output {j} of {name}, {g.array.dtype}{list(g.array.shape)}, {self._writers(j)}"
            g.check(what)
            if not known and (gap := unwritten(g.array)).any():
                at = tuple(map(int, np.unravel_index(int(np.argmax(gap)), gap.shape)))
                raise SanitizerError(f"{what}: its element {at} was never written, or follows from memory that was never written")
            results.append(donated[j] if j in donated else np.empty_like(g.array))
            results[-1][...] = g.array
        return tuple(results)

    def _writers(self, output: int) -> str:
        """Which kernels write an output."""
        plan = self._plan
        found = [label_of(step.node) for step in plan.steps for slot in step.results
                 if (b := plan.buffers[plan.slots[slot].buffer]).kind == "output" and b.index == output]
        return f"written by {', '.join(found) or 'a copy'}"
