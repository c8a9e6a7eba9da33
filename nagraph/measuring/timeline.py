"""Timelines: a recorded call as Chrome trace events, which Perfetto (https://ui.perfetto.dev) and chrome://tracing show.

One track a thread. On the caller's the whole call is a slice, with what the table says of it. In it and on the workers' tracks
a slice is what the thread did of one launch of a kernel, with source lines, operations, bytes and rates, and in that one is a
slice for each chunk. Threads count from one, and the caller has the number of the process, which makes it the main thread:
Perfetto 52 takes a thread 0 for that one and shows both on one track.
Source: Trace Event Format, Google, 2016.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from nagraph.measuring.recording import Recording
from nagraph.measuring.work import Work

PROCESS = 1


def trace_events(name: str, recording: Recording, works: Sequence[Work], call: dict[str, Any]) -> dict[str, Any]:
    """A recording as an object to be written as JSON. `call`: what is said of the whole call, "machine" among it."""
    zero = recording.begin
    caller, threads = next(iter(recording.threads)), recording.events["thread"].tolist()
    used = {caller, *threads}
    ordered = [i for i in dict.fromkeys([*recording.threads, *sorted(used)]) if i in used]
    events = [_about("process_name", PROCESS, name=f"nagraph: {name}")]
    for track, ident in enumerate(ordered, PROCESS):
        events.append(_about("thread_name", track, name=recording.threads.get(ident, f"thread {ident}")))
        events.append(_about("thread_sort_index", track, sort_index=track))
    events.append(_slice(name, "call", PROCESS, zero, recording.end, zero, call))
    chunks = recording.events[["begin", "end", "start", "stop"]].tolist()
    keys = list(zip(threads, recording.events["launch"].tolist(), _turns(recording, works)))
    for track, ident in enumerate(ordered, PROCESS):
        mine = (n for n, (thread, *_) in enumerate(keys) if thread == ident)
        for (_, launch, iteration), group in itertools.groupby(mine, key=keys.__getitem__):
            work, parts = works[launch], [chunks[n] for n in group]
            about = {"lines": ", ".join(work.lines), "launch": launch, "iteration": iteration}
            for kind, some in [("kernel", parts), *(("chunk", [part]) for part in parts)]:
                (begin, _, first, _), (_, end, _, stop) = some[0], some[-1]
                units = sum(b - a for _, _, a, b in some)
                label = work.name if kind == "kernel" else f"units {first}-{stop - 1}" if units > 1 else f"unit {first}"
                found = {**about, "units": f"{units} of {work.units}",
                         **amounts(work.flops * units / work.units, work.nbytes * units / work.units, end - begin)}
                events.append(_slice(label, kind, track, begin, end, zero, found))
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"machine": call["machine"]}}


def _turns(recording: Recording, works: Sequence[Work]) -> list[int]:
    """For each chunk how often its launch was done before. A loop's iteration ends with all units, before the next one begins."""
    done = [0] * len(works)
    found = []
    for launch, start, stop in recording.events[["launch", "start", "stop"]].tolist():
        found.append(done[launch] // works[launch].units)
        done[launch] += stop - start
    return found


def _about(what: str, track: int, **args: Any) -> dict[str, Any]:
    """A metadata event."""
    return {"ph": "M", "name": what, "pid": PROCESS, "tid": track, "args": args}


def amounts(flops: float, nbytes: float, nanoseconds: int) -> dict[str, float]:
    """Operations and bytes, and how many of them in a second, in 1e9."""
    rates = {"GFLOP/s": flops / nanoseconds, "GB/s": nbytes / nanoseconds} if nanoseconds else {}
    return {"flops": flops, "bytes": nbytes, **{unit: round(rate, 2) for unit, rate in rates.items()}}


def _slice(name: str, kind: str, track: int, begin: int, end: int, zero: int, args: dict[str, Any]) -> dict[str, Any]:
    """A complete event; times in microseconds after `zero`."""
    return {"ph": "X", "name": name, "cat": kind, "pid": PROCESS, "tid": track,
            "ts": (begin - zero) / 1e3, "dur": (end - begin) / 1e3, "args": args}
