"""Kernels that write a result over an operand give the bits that they give beside it, also where several threads compute the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.gpu.emit import emit
from nagraph.backends.gpu.on_cpu.compiler import missing
from nagraph.backends.gpu.on_cpu.kernels import Kernels
from nagraph.backends.gpu.on_cpu.memory import Allocation
from nagraph.backends.gpu.schedule import Spread
from nagraph.backends.gpu.strategy import choose
from nagraph.kernel.sharing import may_share
from tests.backends.gpu.kernels import kernel
from tests.gpu.programs import TARGETS

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def residual(r, x):
    """A sum that is stored and normalised: several teams of a group's threads each compute its mean."""
    s = r + x
    return s, s * (s * s).mean(-1, keepdims=True)


CASES = {
    "groups without a point": (lambda x, y: x * 2 + y.sum(1, keepdims=True), (5, 8), (5, 8)),
    "teams that compute the same sum": (residual, (3, 256), (3, 256)),
    "one element that all threads compute": (lambda x, y: x * y.sum(), (), (300,)),
}


@pytest.mark.parametrize("dialect", ["cuda", "metal"])
def test_results_over_operands(dialect):
    kernels, launched = Kernels(dialect), 0
    made = {name: kernel(f, *shapes) for name, (f, *shapes) in CASES.items()}
    functions = {name: emit(k, *TARGETS[dialect], scheduled(name, k, dialect)) for name, k in made.items()}
    for f in functions.values():
        kernels.add(f)
    for name, (fn, *shapes) in CASES.items():
        k, f, rng = made[name], functions[name], np.random.default_rng(0)
        operands = [rng.normal(size=shape).astype("f4") for shape in shapes]
        expected = [np.asarray(y) for y in ng.tree.leaves(fn(*operands))]
        pairs = [(i, j) for i in range(2) for j in range(k.outputs) if may_share(k, i, j)]
        assert pairs, name
        beside = run(kernels, k, f, operands, expected, None)
        for got, want in zip(beside, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        for pair in pairs:
            for kernels.seed in range(3):
                for got, want in zip(run(kernels, k, f, operands, expected, pair), beside, strict=True):
                    assert got.tobytes() == want.tobytes(), (name, pair)
                launched += 1
    assert launched >= 3 * len(CASES)


def scheduled(name, k, dialect):
    """The strategy's schedule; for teams, one with more threads than a fold has."""
    schedule = choose(k, TARGETS[dialect][0])
    if "teams" not in name:
        return schedule
    assert max(how.lanes for how in schedule.stages if isinstance(how, Spread)) <= 64
    return dataclasses.replace(schedule, threads=256, points=1)


def run(kernels, k, f, operands, results, pair):
    """The results of a launch; of a pair (operand, output), the output is where the operand is."""
    given = [Allocation.of(x) for x in operands]
    made = [given[pair[0]] if pair and pair[1] == j else Allocation(y.nbytes) for j, y in enumerate(results)]
    table = Allocation.of(np.array([a.address for a in (*given, *made)], np.uint64), writable=False)
    ranges = [(a.address, a.nbytes, any(a is m for m in made)) for a in (*given, *made)]
    kernels.launch(f.name, f.grid, f.block, f.shared_nbytes, table.address, range(len(k.operands)), [*ranges, table.range])
    return [a.array(y.dtype, y.shape).copy() for a, y in zip(made, results)]
