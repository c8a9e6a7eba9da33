"""`exe.memory`: what lives in the arena, where and when; one class for all backends."""

from __future__ import annotations

import numpy as np
import pytest

import nagraph as ng
from nagraph.plan.arena_report import ArenaReport, size
from tests.support import CPU_BACKENDS


def chain(x):
    a = np.sort(np.exp(x))
    b = np.sort(a + x)
    return (np.sort(b + a) * x).sum()


@pytest.fixture(scope="module")
def graph():
    return ng.trace(chain, ng.spec((64, 128), np.float32))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_both_backends_tell_the_same_things(graph, backend) -> None:
    executable = ng.compile(graph, backend=backend)
    memory = executable.memory
    assert isinstance(memory, ArenaReport)
    assert memory.arena_bytes == executable.plan.arena_bytes and memory.lower_bound == executable.plan.lower_bound
    arena = [b for b in executable.plan.buffers if b.kind == "arena"]
    assert [(b.offset, b.nbytes, b.first, b.last) for b in memory.buffers] == [(b.offset, b.nbytes, b.first, b.last) for b in arena]
    assert len(memory.buffers) > 1 and len(memory.steps) == len(executable.plan.steps)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_no_two_buffers_share_bytes_while_both_live(graph, backend) -> None:
    memory = ng.compile(graph, backend=backend).memory
    met = 0
    for i, a in enumerate(memory.buffers):
        assert a.first <= a.last and a.end <= memory.arena_bytes
        for b in memory.buffers[:i]:
            if a.first <= b.last and b.first <= a.last:
                met += 1
                assert a.end <= b.offset or b.end <= a.offset, (a, b)
    assert met


def test_live_bytes_have_the_lower_bound_as_their_peak(graph) -> None:
    memory = ng.compile(graph, backend="numpy").memory
    live = memory.live_bytes()
    assert max(live) == live[memory.peak] == memory.lower_bound
    assert live[0] == sum(b.nbytes for b in memory.buffers if b.first == 0)


def test_buffers_name_values_types_ops_and_lines(graph) -> None:
    executable = ng.compile(graph, backend="numpy", passes="dce")
    rows = {b.op: b for b in executable.memory.buffers}
    text = str(executable.graph)
    sort = rows["sort"]
    assert f"{sort.value}: f32[64,128] = sort" in text and sort.type == "f32[64,128]"
    assert sort.nbytes == 64 * 128 * 4
    assert all(line.startswith("test_arena_report.py:") for b in executable.memory.buffers for line in b.lines) and sort.lines


def test_values_that_follow_in_place_are_counted() -> None:
    graph = ng.trace(lambda x: np.sort(np.exp(np.tanh(np.sort(x)))), ng.spec((64,), np.float32))
    rows = ng.compile(graph, backend="numpy", passes="dce").memory.buffers
    assert [b.reused for b in rows if b.op == "sort"] == [2], "tanh and exp are written over what was sorted"


def test_memory_that_a_step_wants_for_itself_is_scratch() -> None:
    def double(x):
        return ng.scan(lambda c, _: (np.sort(np.tanh(c)), None), x, None, length=3)[0] * 2

    memory = ng.compile(ng.trace(double, ng.spec((8, 8), np.float32)), backend="llvm").memory
    assert {b.op for b in memory.buffers if b.value == "scratch"} == {"scan"}
    assert all(b.first == b.last for b in memory.buffers if b.value == "scratch")


def test_the_table_shows_the_largest_and_sums_up_the_rest(graph) -> None:
    memory = ng.compile(graph, backend="numpy", passes="dce").memory
    full, short = memory.table(None), memory.table(1)
    assert full.count("\n") == 2 + len(memory.buffers) and "more of" not in full
    assert len(short.splitlines()) == 5 and short.splitlines()[-1].startswith(f"  and {len(memory.buffers) - 1} more of ")
    largest = max(b.nbytes for b in memory.buffers)
    assert f"{largest:,}" in short.splitlines()[3]
    marked = [line for line in full.splitlines()[3:] if line.startswith("*")]
    assert len(marked) == sum(b.first <= memory.peak <= b.last for b in memory.buffers) > 0


def test_a_plan_without_an_arena() -> None:
    memory = ng.compile(ng.trace(lambda x: x.T, ng.spec((2, 3), np.float32)), backend="numpy").memory
    assert memory.buffers == () and memory.peak == 0 and memory.lower_bound == 0
    assert str(memory) == ("beside the arena: arguments 24 bytes, results 24 bytes, constants 0 bytes\n"
                           "arena 0 bytes, 1.00 times the lower bound of 0 bytes")


def test_what_a_call_has_beside_the_arena() -> None:
    table = np.arange(100, dtype=np.float32)
    step = ng.jit(lambda w, x: (w + x * table, x.sum()), donate_argnames=("w",), backend="llvm")
    memory = step.lower(np.ones(100, np.float32), np.ones(100, np.float32)).executable.memory
    assert (memory.argument_bytes, memory.result_bytes) == (800, 4), "the first result is written into w"
    assert memory.constant_bytes == 400


@pytest.mark.parametrize("nbytes, shown", [(0, "0 bytes"), (1024, "1.0 KB"), (3 << 19, "1.5 MB"), (5 << 30, "5.0 GB")])
def test_sizes_for_people(nbytes, shown) -> None:
    assert size(nbytes) == shown
