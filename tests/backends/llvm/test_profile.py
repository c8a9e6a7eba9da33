"""Profiles: every chunk of a call is recorded, all times add up, work is counted, the machine's bounds are named."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.llvm.measuring import recording
from nagraph.backends.llvm.measuring.machine import last_cache_nbytes, machine
from nagraph.errors import NagraphError
from nagraph.ir.types import DTYPES
from nagraph.measuring.profile import _shares
from nagraph.measuring.roofline import Machine

RNG = np.random.default_rng(4)
PAPER = Machine("a CPU", 2, 200e9, 100e9, 40e9, 160e9, 32 << 20)


def scanned(x):
    return ng.scan(lambda c, w: (np.tanh(c @ w), c.sum()), x, np.ones((5, 32, 32), np.float32))


@pytest.fixture(scope="module")
def x():
    return RNG.normal(size=(32, 32)).astype("f4")


@pytest.fixture(scope="module")
def executable(x):
    return ng.compile(ng.trace(scanned, x), backend="llvm", threads=2)


@pytest.fixture(scope="module")
def found(executable, x):
    return executable.profile(x, repeats=2)


# -- what is recorded -----------------------------------------------------------------------------------


def test_every_unit_of_every_launch_is_recorded_once_a_turn(executable, found) -> None:
    events = found.recording.events
    done = {n: sorted((int(e["start"]), int(e["stop"])) for e in events[events["launch"] == n]) for n in set(events["launch"].tolist())}
    assert set(done) == set(range(len(executable.launches)))
    for n, launch in enumerate(executable.launches):
        units, each = launch.function.emitted.units, launch.function.emitted.chunk
        chunks = [(start, min(start + each, units)) for start in range(0, units, each)]
        turns = len(done[n]) // len(chunks)
        assert done[n] == sorted(chunks * turns) and turns in (1, 5)
    assert any(len(d) >= 5 for d in done.values()), "the loop's body runs five times"


def test_chunks_lie_inside_the_call_and_do_not_overlap_on_a_thread() -> None:
    fn = ng.trace(lambda x: np.exp(np.sort(np.tanh(x))), ng.spec((256, 1024), np.float32))
    r = ng.compile(fn, backend="llvm", threads=2).profile(np.ones((256, 1024), np.float32)).recording
    assert r.begin <= r.events["begin"].min() and r.events["end"].max() <= r.end
    threads = set(r.events["thread"].tolist())
    assert threads <= set(r.threads) and next(iter(r.threads.values())) == "caller"
    for t in threads:
        mine = r.events[r.events["thread"] == t]
        assert (mine["begin"] <= mine["end"]).all() and (mine["end"][:-1] <= mine["begin"][1:]).all()


def test_the_recorded_call_computes_the_same(executable, x) -> None:
    """And the executable itself runs as before: it does not record."""
    program = executable.program
    recorded = recording.Recorded(program.instructions, len(program.table))
    calls, results = executable.calls.running(recorded), []
    assert len(recorded.record(lambda: results.extend(calls.run([x], {}))).events)
    for a, b in zip(results, executable(x), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(recorded.record(lambda: executable(x)).events) == 0


def test_a_log_without_space_grows_and_the_largest_is_an_error(executable, x, monkeypatch) -> None:
    monkeypatch.setattr(recording, "SPACE", 3)
    grown = executable.profile(x, repeats=1)
    assert len(grown.recording.events) > 3
    monkeypatch.setattr(recording, "MOST", 3)
    with pytest.raises(NagraphError, match=r"space for 3 chunks, this call has \d\d"):
        executable.profile(x, repeats=1)


# -- sums -------------------------------------------------------------------------------------------------


def test_all_rows_together_are_the_time_of_the_call(found) -> None:
    parts = sum(r.seconds for r in found) + found.between_seconds + found.outside_seconds
    assert parts == pytest.approx(found.seconds, rel=1e-9) and found.seconds == found.recording.seconds
    assert all(r.seconds > 0 for r in found) and found.between_seconds >= 0 and found.outside_seconds > 0
    assert [r.seconds for r in found] == sorted((r.seconds for r in found), reverse=True)
    busy = (found.recording.events["end"] - found.recording.events["begin"]).sum() / 1e9
    assert sum(r.busy_seconds for r in found) == pytest.approx(busy)
    assert all(1 - 1e-9 <= r.threads <= 2 + 1e-9 for r in found)


def test_a_moment_is_shared_by_the_chunks_that_run_in_it() -> None:
    begins, ends = np.array([0, 10, 50, 90]), np.array([20, 40, 80, 100])
    shares, gap = _shares(begins, ends)
    assert shares.tolist() == [10 + 5, 5 + 20, 30, 10] and gap == pytest.approx(20e-9)
    assert _shares(begins[:0], ends[:0])[1] == 0


def test_operations_calls_and_bytes_are_counted(found) -> None:
    product = next(r for r in found if "dot_general" in r.name)
    assert product.calls == 5
    elementwise = 5 * 32 * 32  # tanh, where it is part of the region
    assert product.flops - 5 * 2 * 32**3 in (0, elementwise)
    assert product.nbytes == 5 * 3 * 32 * 32 * 4, "of each turn the carry, the weights and the result"
    assert any(line.startswith("test_profile.py:") for line in product.lines)


def test_donated_arguments_are_updated_in_copies() -> None:
    given = np.zeros(1000, np.float32)
    step = ng.jit(lambda w: w + 1, backend="llvm", donate_argnames=("w",))
    found = step.lower(given).executable.profile(given, repeats=3)
    assert given.tolist() == [0] * 1000 and len(found) == 1


def test_nothing_to_compute() -> None:
    found = ng.compile(ng.trace(lambda x: (), ng.spec((3,), np.float32)), backend="llvm").profile(np.zeros(3, np.float32))
    assert len(found) == 0 and found.outside_seconds == pytest.approx(found.seconds) and "the call" in str(found)


# -- bounds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flops, nbytes, dtype, bound, seconds", [
    (200e9, 1000, "f32", "compute", 1.0), (200e9, 1000, "f64", "compute", 2.0),
    (1.0, 40e9, "f32", "memory", 1.0), (1.0, 8 << 20, "f32", "cache", (8 << 20) / 160e9),
    (1.0, 16 << 20, "f32", "memory", (16 << 20) / 40e9),
])
def test_the_bound_is_the_slower_of_computing_and_moving(flops, nbytes, dtype, bound, seconds) -> None:
    assert PAPER.bound(flops, nbytes, DTYPES[dtype]) == (bound, pytest.approx(seconds))


def test_the_machine_is_measured_once() -> None:
    m = machine(1)
    assert m is machine(1) and m.threads == 1 and m.cpu
    assert 1e9 < m.float64 < m.float32 < 1e13 and 1e8 < m.memory <= m.cache < 1e13
    assert m.cache_nbytes == last_cache_nbytes() >= 1 << 18
    assert f"{m.float32 / 1e9:.0f} GFLOP/s" in str(m)


# -- the table and the timeline ---------------------------------------------------------------------------


def test_the_table_shows_the_longest_and_sums_up_the_rest(found) -> None:
    head, *rows, machine_line = found.table(1).splitlines()
    assert head.split()[:3] == ["ms", "share", "calls"] and machine_line == str(found.machine)
    assert found.rows[0].name in rows[0] and "test_profile.py" in rows[0]
    assert f"{len(found) - 1} more kernels" in rows[1] and len(rows) == 5
    assert rows[-1].split()[:3] == [f"{found.seconds * 1e3:.3f}", "100.0%", str(sum(r.calls for r in found))]
    assert len(found.table(None).splitlines()) == len(found) + 5 and "more kernels" not in found.table(None)


def check_trace_events(trace) -> None:
    """What the trace event format wants of metadata and complete events, and Perfetto besides (it has no thread 0 of its own)."""
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"} and trace["displayTimeUnit"] in ("ms", "ns")
    tracks, about = {}, {}
    for e in trace["traceEvents"]:
        assert isinstance(e["name"], str) and isinstance(e["args"], dict) and all(type(e[k]) is int and e[k] > 0 for k in ("pid", "tid"))
        if e["ph"] == "M":
            kind = {"process_name": ("name", str), "thread_name": ("name", str), "thread_sort_index": ("sort_index", int)}[e["name"]]
            assert list(e["args"]) == [kind[0]] and isinstance(e["args"][kind[0]], kind[1])
            assert about.setdefault((e["name"], e["pid"], e["tid"]), e["args"][kind[0]]) == e["args"][kind[0]]
        else:
            assert e["ph"] == "X" and isinstance(e["cat"], str)
            assert all(isinstance(e[k], (int, float)) and e[k] >= 0 for k in ("ts", "dur"))
            tracks.setdefault((e["pid"], e["tid"]), []).append((round(e["ts"] * 1e3), round((e["ts"] + e["dur"]) * 1e3)))
    names = [name for (kind, *_), name in about.items() if kind == "thread_name"]
    assert len(set(names)) == len(names) and {key[1:] for key in about if key[0] == "thread_name"} == set(tracks)
    assert {key[1:] for key in about if key[0] == "thread_sort_index"} == set(tracks)
    assert {key[1] for key in about if key[0] == "process_name"} == {pid for pid, _ in tracks}
    for slices in tracks.values():
        around = []
        for begin, end in sorted(slices, key=lambda s: (s[0], -s[1])):
            while around and around[-1] <= begin:
                around.pop()
            assert not around or end <= around[-1], "on one track slices lie inside one another or apart"
            around.append(end)


def of_kind(trace, kind):
    return [e for e in trace["traceEvents"] if e.get("cat") == kind]


def test_the_timeline_is_valid_trace_event_json(found) -> None:
    trace = json.loads(json.dumps(found.timeline("scanned"), allow_nan=False))
    check_trace_events(trace)
    (call,) = of_kind(trace, "call")
    caller = next(e for e in trace["traceEvents"] if e["name"] == "thread_name" and e["args"]["name"] == "caller")
    assert caller["tid"] == caller["pid"] == call["tid"], "viewers know the main thread by that"
    assert (call["name"], call["ts"], call["dur"] / 1e6) == ("scanned", 0, pytest.approx(found.seconds))
    assert call["args"]["launches"] == sum(r.calls for r in found) and call["args"]["machine"] == str(found.machine)
    kernels, chunks = of_kind(trace, "kernel"), of_kind(trace, "chunk")
    assert len(chunks) == len(found.recording.events) and {k["name"] for k in kernels} == {r.name for r in found}
    assert all(c["ts"] + c["dur"] <= call["dur"] for c in kernels + chunks)
    assert sum(c["dur"] for c in chunks) / 1e6 == pytest.approx(sum(r.busy_seconds for r in found))
    for slices in (kernels, chunks):
        assert sum(c["args"]["flops"] for c in slices) == pytest.approx(found.flops)
        assert sum(c["args"]["bytes"] for c in slices) == pytest.approx(sum(r.nbytes for r in found))
    for k in kernels:
        assert k["args"]["GFLOP/s"] == pytest.approx(k["args"]["flops"] / k["dur"] / 1e3, abs=0.01)
    assert any(k["args"]["lines"].startswith("test_profile.py:") for k in kernels)


def test_a_turn_of_a_loop_is_a_slice_of_its_own(found) -> None:
    kernels = of_kind(found.timeline(), "kernel")
    product = next(r for r in found if "dot_general" in r.name)
    assert {k["args"]["iteration"] for k in kernels if k["name"] == product.name} == set(range(product.calls))
    for launch, iteration in {(k["args"]["launch"], k["args"]["iteration"]) for k in kernels}:
        parts = [k["args"]["units"].split(" of ") for k in kernels if (k["args"]["launch"], k["args"]["iteration"]) == (launch, iteration)]
        assert sum(int(done) for done, _ in parts) == int(parts[0][1]) == found.works[launch].units


def test_two_threads_have_two_tracks_and_a_caller_without_chunks_has_the_call() -> None:
    fn = ng.trace(lambda x: np.exp(np.sort(np.tanh(x))), ng.spec((256, 1024), np.float32))
    x = np.ones((256, 1024), np.float32)
    check_trace_events(ng.compile(fn, backend="llvm", threads=2).profile(x).timeline())
    found = ng.compile(fn, backend="llvm", threads=1).profile(x)  # chunks of two threads, which overlap, can't be one thread's
    events = found.recording.events.copy()
    caller, worker = next(iter(found.recording.threads)), 12345
    split = replace(found, recording=found.recording._replace(events=events))
    events["thread"] = worker
    trace = split.timeline()
    check_trace_events(trace)
    named = {e["args"]["name"]: e["tid"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert caller != worker and named == {"caller": 1, "thread 12345": 2}
    assert {e["tid"] for e in of_kind(trace, "call")} == {1} and {e["tid"] for e in of_kind(trace, "chunk")} == {2}
