"""Interrupted calls: donated arrays are as before the call or as after it, never in between."""

import random
import signal
import statistics
import timeit

import numpy as np
import pytest

import nagraph as ng
from nagraph.program.instructions import Commit, Phase
from tests.backends.llvm.test_runtime_process import Interruption, handler, interrupt

SIZE = 1 << 16


def step(state):
    """Takes a while; then a and b change places, for which one of them must be kept, and a count is written at once."""
    waste = ng.scan(lambda c, _: (np.tanh(c), None), state["a"], None, length=8)[0]
    zero = (waste * 0).sum()
    return {"a": state["b"] + 1 + zero, "b": state["a"] + 1 + zero, "count": state["count"] + 1 + zero}


def fresh():
    return {"a": np.zeros(SIZE), "b": np.full(SIZE, 1000.0), "count": np.zeros(SIZE)}


def steps_done(state):
    """The number of whole steps that the arrays show. AssertionError if they show anything else."""
    numbers = {name: set(np.unique(array).tolist()) for name, array in state.items()}
    count = min(numbers["count"])
    swapped = [{count}, {1000 + count}][::-1 if count % 2 else 1]
    assert [numbers["a"], numbers["b"], numbers["count"]] == [*swapped, {count}]
    return int(count)


def test_late_writes_are_part_of_the_program():
    exe = ng.jit(step, donate_argnames="state").lower(fresh()).executable
    kinds = [type(i) for i in exe.program.instructions]
    assert kinds.count(Commit) == 1 and set(kinds[kinds.index(Commit):]) == {Commit, Phase}
    assert any(place.kind == "donated" for place in exe.program.table)


@pytest.mark.parametrize("threads", [1, 2])
def test_donated_arrays_are_never_half_written(threads):
    """Signals at any time of the call, and soon after it."""
    jitted = ng.jit(step, donate_argnames="state", threads=threads)
    state = fresh()
    arrays = dict(state)
    jitted(state)
    seconds = statistics.median(timeit.repeat(lambda: jitted(state), number=1, repeat=6))
    rng, interrupted, done = random.Random(0), 0, 7
    with handler(interrupt):
        for _ in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.01, 3) * seconds)
                state = jitted(state)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interruption:
                interrupted += 1
            assert all(state[k] is arrays[k] for k in arrays)
            now = steps_done(state)
            assert now in (done, done + 1)
            done = now
    assert interrupted > 10 and done > 10
