"""Profiling: calls of a native program are recorded, and one of them becomes a profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.backends.llvm.calls.native_calls import NativeCalls
from nagraph.backends.llvm.calls.sanitizer import GuardedCalls
from nagraph.backends.llvm.measuring.machine import machine
from nagraph.backends.llvm.measuring.recording import Recorded
from nagraph.measuring.profile import Profile, summary
from nagraph.program.explanation import Explanation
from nagraph.program.instructions import HostStep

Array = np.ndarray[Any, Any]


def profile(made: Explanation, calls: NativeCalls | GuardedCalls, given: Sequence[Array], repeats: int) -> Profile:
    """A recorded call of a program on row-major arrays: of `repeats` ones, after one to warm up, the median by time.

    Donated arguments are copied once and then updated from call to call, as a training loop does; the given arrays stay.
    """
    program = made.program
    recorded = Recorded(program.instructions, len(program.table))
    run, arrays = calls.running(recorded).run, list(given)
    donated: dict[int, Array] = {}
    for j, i in made.plan.donations.items():
        donated[j] = arrays[i] = arrays[i].copy()
    recordings = [recorded.record(lambda: run(arrays, donated)) for _ in range(repeats + 1)][1:]
    chosen = sorted(recordings, key=lambda r: r.seconds)[(len(recordings) - 1) // 2]
    functions = [x.function for x in program.launches]
    return summary(chosen, program.launches, [f.key for f in functions], [f.emitted.units for f in functions],
                   [p.nbytes or None for p in program.table], machine(calls.threads),
                   list(dict.fromkeys(i.node.op.name for i in program.instructions if isinstance(i, HostStep))))
