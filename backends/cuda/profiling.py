"""Profiling: calls whose launches are queued one by one between marks, of which one becomes a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nagraph.backends.cuda.calls import Calls
from nagraph.backends.cuda.peaks import peaks
from nagraph.measuring.profile import Profile, summary
from nagraph.measuring.recording import EVENT, Recording
from nagraph.program.explanation import Explanation


def profile(made: Explanation, calls: Calls, given: Sequence[Any], repeats: int) -> Profile:
    """A recorded call of a program on arrays of its device: of `repeats` ones, after one to warm up, the median by time.

    Donated arguments are copied once and then updated from call to call, as a training loop does; the given arrays stay. Launches are
    queued one by one, where a call has them in one graph: the time between them is longer here.
    """
    kind = calls.driver.kind
    arrays, donated = list(given), {}
    for j, i in calls.donations.items():
        donated[j] = arrays[i] = kind.copy(arrays[i])
    recordings = [_recording(calls, arrays, donated) for _ in range(repeats + 1)][1:]
    chosen = sorted(recordings, key=lambda r: r.seconds)[(len(recordings) - 1) // 2]
    launches = made.program.launches
    names = [getattr(x.function, "name", str(x.function)) for x in launches]
    device = calls.driver.device(calls.driver.number(arrays[0]) if arrays else None)
    sizes = [e.nbytes or None for e in made.program.table]
    return summary(chosen, launches, names, [1] * len(launches), sizes, peaks(calls.driver, device))


def _recording(calls: Calls, arrays: list[Any], donated: Mapping[int, Any]) -> Recording:
    """One call, in nanoseconds from its beginning."""
    marks: list[tuple[int, Any, Any]] = []
    device = calls.driver.device(calls.driver.number(arrays[0]) if arrays else None)
    with device.active():
        begin = device.mark()
        calls.run(arrays, donated, marks)
        end = device.mark()
        times = [(number, device.milliseconds(begin, first), device.milliseconds(begin, last)) for number, first, last in marks]
        total = device.milliseconds(begin, end)
    events = np.zeros(len(times), EVENT)
    for event, (number, first, last) in zip(events, times, strict=True):
        event["launch"], event["begin"], event["end"], event["stop"] = number, round(first * 1e6), round(last * 1e6), 1
    return Recording(0, round(total * 1e6), events, {0: device.label})
