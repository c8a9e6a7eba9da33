"""Timelines: a recorded call as Chrome trace events, which Perfetto (https://ui.perfetto.dev) and chrome://tracing show.

One track a thread; a slice is a chunk of a kernel, with its source lines, operations and bytes. On the caller's track the
whole call is a slice around its chunks.
Source: Trace Event Format, Google, 2016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nagraph.backends.llvm.profile import Profile

PROCESS = 1


def trace_events(profile: Profile, name: str) -> dict[str, Any]:
    """The profile's recording as an object to be written as JSON."""
    recording = profile.recording
    caller = next(iter(recording.threads))
    used = {caller, *recording.events["thread"].tolist()}
    tracks = {ident: n for n, ident in enumerate(i for i in dict.fromkeys([*recording.threads, *sorted(used)]) if i in used)}
    events: list[dict[str, Any]] = [_about("process_name", 0, name=f"nagraph: {name}")]
    for ident, track in tracks.items():
        events.append(_about("thread_name", track, name=recording.threads.get(ident, f"thread {ident}")))
        events.append(_about("thread_sort_index", track, sort_index=track))
    events.append(_slice(name, "call", tracks[caller], recording.begin, recording.end, recording.begin, {}))
    for e in recording.events:
        launch, start, stop = int(e["launch"]), int(e["start"]), int(e["stop"])
        work = profile.works[launch]
        share = (stop - start) / work.units
        about = {"lines": ", ".join(work.lines), "flops": work.flops * share, "bytes": work.nbytes * share, "launch": launch,
                 "units": f"{start}-{stop - 1} of {work.units}"}
        track, begin, end = tracks[int(e["thread"])], int(e["begin"]), int(e["end"])
        events.append(_slice(work.name, "kernel", track, begin, end, recording.begin, about))
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"machine": str(profile.machine)}}


def _about(what: str, track: int, **args: Any) -> dict[str, Any]:
    """A metadata event."""
    return {"ph": "M", "name": what, "pid": PROCESS, "tid": track, "ts": 0, "args": args}


def _slice(name: str, kind: str, track: int, begin: int, end: int, zero: int, args: dict[str, Any]) -> dict[str, Any]:
    """A complete event; times in microseconds after `zero`."""
    return {"ph": "X", "name": name, "cat": kind, "pid": PROCESS, "tid": track,
            "ts": (begin - zero) / 1e3, "dur": (end - begin) / 1e3, "args": args}
