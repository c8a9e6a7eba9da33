"""Residents: a program on one device, with its arena, its table of pointers, and its launches, captured when they come again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nagraph.backends.cuda.driver import Device, Words
from nagraph.backends.cuda.image import Image, is_product
from nagraph.backends.cuda.moves import WIDTH, Row
from nagraph.backends.cuda.script import Action, Ask, Await, Begin, Choose, Commit, Moves, Operation, Repeat, Segment, Skip, script
from nagraph.backends.cuda.signals import uninterrupted
from nagraph.forks import Lock
from nagraph.program.instructions import Phase

#: What parts of a device's memory are aligned to.
ALIGNMENT = 256
#: Variants of a program that are kept, and of each the graphs for several addresses that a library was given.
MOST_VARIANTS, MOST_GRAPHS = 4, 4
#: Addresses of calls that are remembered, so that a graph is made for those that come again.
MOST_SEEN = 64

#: Pointers of the table beside a program's: to scratch memory, counters, the bool that is fetched, the rows of moves.
MORE = 4

Launcher = Callable[[], None]
#: Of launches, each with its number in the program, the marks before and behind them.
Marks = list[tuple[int, Any, Any]]


class Variant:
    """A variant is the calls of a program in which the same outputs take the arrays of inputs.

    operations: what the host does. rows: the memory of its moves. launches: those of each operation that is a segment.
    seen, graphs: by the addresses that a library was given in a call, () where there is no library: those that were seen, the last one
    last; and the graph of each segment.
    """

    def __init__(self, operations: tuple[Operation, ...], rows: Any):
        self.operations, self.rows = operations, rows
        self.launches: list[list[Launcher] | None] = []
        self.seen: dict[tuple[int, ...], None] = {}
        self.graphs: dict[tuple[int, ...], list[Launcher | None]] = {}


class Resident:
    """A program on one device. Calls are queued one after another, from whatever thread and on whatever stream: they share the arena."""

    def __init__(self, image: Image, device: Device):
        self.image, self.device, self.lock = image, device, Lock()
        #: The numbers in the table of the pointers that calls bring: those of the rows of moves, inputs, outputs, late donated arrays.
        self.inputs, self.outputs, self.late = (
            [(at, e.number) for at, e in enumerate(image.table) if e.kind == kind] for kind in ("input", "output", "donated"))
        count = len(image.table)
        self._scratch, self._counters, self._flag, self._rows = range(count, count + MORE)
        self._brought = np.array([self._rows, *(at for at, _ in (*self.inputs, *self.outputs, *self.late))])
        self._variants: dict[frozenset[tuple[int, int]], Variant] = {}
        self._written: list[int] | None = None
        self._flags: dict[int, Launcher] = {}
        launches = [x for i in image.instructions if isinstance(i, Phase) for x in i.launches]
        #: What calls bring and a library is given by its address: a graph holds for these addresses alone.
        self._given = np.array(sorted({s for x in launches if is_product(image.functions[x.function]) for s in x.slots
                                       if image.table[s].kind in ("input", "output", "donated")}), np.int64)
        self._numbers = {id(x): n for n, x in enumerate(launches)}
        #: The stream that was used last.
        self._stream = device.stream()
        self._load()

    def _load(self) -> None:
        """Put on the device what does not change from call to call."""
        image, device = self.image, self.device
        sizes = [image.arena_nbytes, image.scratch_nbytes, 8 * max(image.loops, 1), 1, 1, *(a.nbytes for a in image.constants)]
        begins = np.cumsum([0, *(-(-n // ALIGNMENT) * ALIGNMENT for n in sizes)]).tolist()
        self._memory = device.memory(begins[-1])
        arena, scratch, counters, self._flag_address, verdict, *constants = [self._memory.address + n for n in begins[:-1]]
        for address, array in zip(constants, image.constants, strict=True):
            if array.nbytes:
                device.put(address, array)
        self._table = device.table(len(image.table) + MORE)
        self._words: Words = np.zeros(len(image.table) + MORE, np.int64)
        for at, e in enumerate(image.table):
            match e.kind:
                case "arena":
                    self._words[at] = arena + e.number
                case "constant":
                    self._words[at] = constants[e.number]
                case "verdict":
                    self._words[at] = verdict
        self._words[[self._scratch, self._counters, self._flag]] = scratch, counters, self._flag_address
        self._verdict = verdict
        self._functions = [device.product(f) if is_product(f) else device.load(f) for f in image.functions]
        self._move, self._copy = map(device.load, image.helpers)

    # -- calls ----------------------------------------------------------------------------------------------------

    def run(self, variant: Variant, addresses: list[int], marks: Marks | None = None) -> bool:
        """Queue a call; whether no label was refused.

        addresses: of the inputs, outputs and late arrays, in their orders here. marks: is to get those of all launches.
        """
        with self.lock:
            self._order()
            self._write([variant.rows.address, *addresses])
            if marks is not None:
                return self._go(variant.operations, self._marked(variant, marks))
            key = self._fixed()
            graphs = variant.graphs.get(key)
            if graphs is None and not _is_known(key, variant.seen):
                fine = self._go(variant.operations, [run and _all_of(run) for run in variant.launches])
                if fine:
                    _remember(key, variant.seen)
                return fine
            if graphs is None:
                graphs = self._captured(variant, key)
            if len(graphs) == 1:
                graphs[0]()  # type: ignore[misc]
                return True
            return self._go(variant.operations, graphs)

    def _marked(self, variant: Variant, marks: Marks) -> list[Launcher | None]:
        """The segments of a variant, with marks around each launch of a kernel."""
        def between(action: Action, launch: Launcher) -> Launcher:
            if isinstance(action, Moves):
                return launch

            def run() -> None:
                first = self.device.mark()
                launch()
                marks.append((self._numbers[id(action)], first, self.device.mark()))

            return run

        return [_all_of([between(a, launch) for a, launch in zip(x.actions, run)]) if isinstance(x, Segment) and run is not None else None
                for x, run in zip(variant.operations, variant.launches, strict=True)]

    def _order(self) -> None:
        """Let what is queued from now on follow on the calls before, which may be on another stream."""
        stream = self.device.stream()
        if stream is not self._stream and stream != self._stream:
            self.device.follow(self._stream)
            self._stream = stream

    def _write(self, brought: list[int]) -> None:
        """Have these pointers in the table."""
        if brought != self._written:
            self._written = None
            self._words[self._brought] = brought
            self._table.write(self._words)
            self._written = brought

    def _go(self, operations: tuple[Operation, ...], runs: list[Launcher | None]) -> bool:
        """Queue segment after segment, and decide between them."""
        at, counters = 0, {}
        answer: Callable[[], bool] = bool
        with uninterrupted() as interruptions:
            while at < len(operations):
                operation, run = operations[at], runs[at]
                at += 1
                interruptions.listen()
                if run is not None:
                    run()
                    continue
                match operation:
                    case Begin(loop):
                        counters[loop] = 0
                    case Repeat(loop, iterations, start):
                        counters[loop] += 1
                        at = start if counters[loop] < iterations else at
                    case Skip(target):
                        at = target
                    case Choose(slot, otherwise):
                        at = at if self._bool(slot) else otherwise
                    case Ask():
                        answer = self.device.fetch(self._verdict)
                    case Await():
                        if not answer():
                            return False
                    case Commit():
                        interruptions.hold()
        return True
    def _bool(self, slot: int) -> bool:
        """The bool behind a pointer of the table, which is waited for."""
        launch = self._flags.get(slot)
        if launch is None:
            launch = self._flags[slot] = self.device.bind(self._copy, self._table.address, (slot, self._flag))
        launch()
        return self.device.fetch(self._flag_address)()

    # -- variants -------------------------------------------------------------------------------------------------

    def variant(self, taken: Mapping[int, int]) -> Variant:
        """The calls in which output j takes the array of input taken[j]."""
        key = frozenset(taken.items())
        with self.lock:
            found = self._variants.pop(key, None)
            if found is None:
                found = self._made(script(self.image.instructions, self.image.table, taken))
            self._variants[key] = found  # the last used one is the last
            if len(self._variants) > MOST_VARIANTS:
                self._variants.pop(next(iter(self._variants)))
            return found

    def _made(self, operations: tuple[Operation, ...]) -> Variant:
        """A variant with its moves on the device, and its launches ready."""
        self._order()
        first: dict[Moves, int] = {}
        rows: list[Row] = []
        for segment in operations:
            for action in segment.actions if isinstance(segment, Segment) else ():
                if isinstance(action, Moves) and action not in first:
                    first[action] = len(rows)
                    rows += action.rows
        memory = self.device.memory(8 * WIDTH * max(len(rows), 1))
        if rows:
            self.device.put(memory.address, np.array(rows, np.int64))
        made = Variant(operations, memory)
        known: dict[Action, Launcher] = {}  # iterations of a scan are the same launches
        made.launches = [None if not isinstance(x, Segment) else [self._launcher(a, first, known) for a in x.actions] for x in operations]
        return made

    def _launcher(self, action: Action, first: Mapping[Moves, int], known: dict[Action, Launcher]) -> Launcher:
        if action not in known:
            if isinstance(action, Moves):
                numbers = self._rows, self._counters, first[action], len(action.rows)
                known[action] = self.device.bind(self._move, self._table.address, numbers)
            else:
                known[action] = self._launch(action.function, action.slots)
        return known[action]

    def _launch(self, number: int, slots: tuple[int, ...]) -> Launcher:
        function, words, about = self._functions[number], self._words, self.image.functions[number]
        if is_product(about):
            return lambda: function([int(words[s]) for s in slots])
        return self.device.bind(function, self._table.address, (*slots, self._scratch) if about.scratch_nbytes else slots)

    def _fixed(self) -> tuple[int, ...]:
        """The addresses that a library is given in these calls."""
        return tuple(self._words[self._given].tolist()) if len(self._given) else ()

    def _captured(self, variant: Variant, key: tuple[int, ...]) -> list[Launcher | None]:
        """The segments of a variant as graphs."""
        graphs = [run and self.device.capture(run) for run in variant.launches]
        if len(variant.graphs) >= MOST_GRAPHS:
            variant.graphs.pop(next(iter(variant.graphs)))
        variant.graphs[key] = graphs
        return graphs


def _is_known(key: tuple[int, ...], seen: dict[tuple[int, ...], None]) -> bool:
    """Whether a call like this came to its end before."""
    return key in seen


def _remember(key: tuple[int, ...], seen: dict[tuple[int, ...], None]) -> None:
    """Know from now on that a call like this came to its end."""
    seen[key] = None
    if len(seen) > MOST_SEEN:
        seen.pop(next(iter(seen)))


def _all_of(launches: list[Launcher]) -> Launcher:
    def run() -> None:
        for launch in launches:
            launch()

    return run
