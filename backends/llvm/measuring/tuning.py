"""The bench for tuners: a native program that is run with other schedules for its kernels, and recorded."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nagraph.backends.llvm.calls.native_calls import NativeCalls
from nagraph.backends.llvm.calls.sanitizer import GuardedCalls
from nagraph.backends.llvm.measuring.recording import Recorded
from nagraph.backends.llvm.native.winners import keep
from nagraph.backends.llvm.program.functions import CompiledKernel, scheduled
from nagraph.backends.llvm.runtime.pool import default_threads
from nagraph.kernel.form import Kernel
from nagraph.program.explanation import Explanation
from nagraph.program.instructions import Instruction, Launch, Phase
from nagraph.schedule.form import Schedule
from nagraph.schedule.names import name_of
from nagraph.schedule.tuning import Run

Array = np.ndarray[Any, Any]


class ProgramBench:
    """A program on row-major arrays, which stay as they are: donated ones are copied for each run.

    A kernel's time in a run is what its chunks took of the processor, on average, times those that a thread has to do one after another.
    So neither other processes change it, nor which thread happened to do more.
    """

    def __init__(self, made: Explanation, calls: NativeCalls | GuardedCalls, arrays: Sequence[Array]):
        self.made, self.calls, self.arrays = made, calls, list(arrays)
        self._files: dict[str, str] = {}
        self.kernels: dict[str, Kernel] = {}
        self.schedules: dict[str, Schedule] = {}
        #: The names of the launches' kernels, in their order; "" for sorts, and for kernels of which nothing is kept: whose schedules were
        #: given, or that were compiled by unusual choices.
        self._names: list[str] = []
        self._functions = [x.function for x in made.program.launches]
        for launch in made.program.launches:
            file = launch.function.winner[0]
            name = name_of(launch.kernel) if file and launch.kernel is not None else ""
            self._names.append(name)
            if name:
                self.kernels[name], self.schedules[name], self._files[name] = launch.kernel, launch.function.schedule, file
        self._compiled: dict[tuple[str, Schedule], CompiledKernel] = {}
        self.threads = calls.threads or default_threads()
        self._usual = self._recorded(made.program.instructions)

    def run(self, schedules: Mapping[str, Schedule]) -> Run:
        """Run the program with these schedules in place of what its kernels have."""
        recorded = self._usual if not schedules else self._recorded(self._replaced(schedules))
        results: list[tuple[Array, ...]] = []
        recording = recorded.record(lambda: results.append(self._results(recorded)))
        launches, events = recording.events["launch"], recording.events
        chunks = np.bincount(launches, minlength=len(self._names))
        busy = np.bincount(launches, (events["end"] - events["begin"]).astype(float), minlength=len(self._names))
        found = dict.fromkeys(self.kernels, 0.0)
        for n, name in enumerate(self._names):
            if name and chunks[n]:
                function = self._function(n, schedules)
                each = -(-function.emitted.units // function.emitted.chunk)  # of one turn
                found[name] += busy[n] / each * -(-each // self.threads)
        digest = hashlib.sha256()
        for array in results[-1]:
            digest.update(np.ascontiguousarray(array).tobytes())
        return Run(found, digest.hexdigest())

    def _results(self, recorded: Recorded) -> tuple[Array, ...]:
        arrays, donated = list(self.arrays), dict[int, Array]()
        for j, i in self.made.plan.donations.items():
            donated[j] = arrays[i] = arrays[i].copy()
        return self.calls.running(recorded).run(arrays, donated)

    def keep(self, name: str, schedule: Schedule) -> None:
        """Let a kernel have a schedule from now on, in all that is compiled."""
        keep(self._files[name], str(schedule))

    def _replaced(self, schedules: Mapping[str, Schedule]) -> list[Instruction]:
        """The program with other code for these kernels."""
        numbers = itertools.count()

        def launched(launch: Launch) -> Launch:
            return launch._replace(function=self._function(next(numbers), schedules))

        return [Phase(tuple(map(launched, i.launches))) if isinstance(i, Phase) else i for i in self.made.program.instructions]

    def _function(self, number: int, schedules: Mapping[str, Schedule]) -> CompiledKernel:
        """What a launch calls: its kernel with the schedule that it is given, if it is."""
        name = self._names[number]
        if name not in schedules:
            usual: CompiledKernel = self._functions[number]
            return usual
        key = name, schedules[name]
        if key not in self._compiled:
            self._compiled[key] = scheduled(self.kernels[name], str(self.kernels[name]), schedules[name], keep=False)
        return self._compiled[key]

    def _recorded(self, instructions: Sequence[Instruction]) -> Recorded:
        return Recorded(instructions, len(self.made.program.table), time.CLOCK_THREAD_CPUTIME_ID)
