"""Random programs in every way of running them against plain NumPy, and that the generator, the check and the shrinker do their work.

Thousands more: `nagraph fuzz --programs 3000 --workers 2`.
"""

from __future__ import annotations

import collections
import os
import subprocess
import sys

import numpy as np
import pytest

import nagraph as ng
from nagraph.ir.interpret import interpret
from nagraph.ir.types import DTYPES
from nagraph.pipeline import Pipeline
from nagraph.testing import (
    RULES,
    Input,
    Program,
    Rule,
    Statement,
    Undetermined,
    Way,
    check,
    draw,
    jitted,
    random_program,
    shrink,
    stored,
)
from nagraph.testing.draw import ORDERS
from nagraph.testing.oracle import mismatch, run
from nagraph.testing.workers import check_seeds, smallest
from tests.support import WHOLE

#: Seeds checked here; each test takes a few.
PROGRAMS, AT_ONCE = 300 if WHOLE else 60, 3


@pytest.mark.parametrize("first", range(0, PROGRAMS, AT_ONCE))
def test_programs_in_every_way_as_numpy_computes_them(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        failure = check(random_program(seed))
        if failure:
            pytest.fail(str(smallest(failure)), pytrace=False)


# -- the generator -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def programs() -> list[Program]:
    return [random_program(seed) for seed in range(60)]


def test_a_seed_gives_one_program(programs: list[Program]) -> None:
    assert random_program(3) == programs[3] != programs[4]


def test_every_rule_is_used() -> None:
    used: collections.Counter[str] = collections.Counter()
    rules = [Rule(r.name, lambda c, r=r: (used.update([r.name]), r.propose(c))[1], 1.0) for r in RULES]
    for seed in range(12):
        random_program(seed, 30, 60, rules)
    assert {r.name for r in RULES} == set(used)


@pytest.mark.parametrize("passes", ["licm,prune_regions", "fold_control,prune_regions,licm,prune_regions"])
def test_programs_of_loops_through_the_passes_over_loops(passes: str) -> None:
    """The passes alone, every legal move made, and in the whole pipeline."""
    loops = [r for r in RULES if r.name in ("loop", "loop_with_invariants", "known_branch", "branch", "repetition", "recomputed")]

    def alone(f: object) -> object:
        def call(*xs: np.ndarray) -> object:
            with ng.choices.using("force=licm"):
                graph = Pipeline.parse(passes, verify=True)(ng.trace(f, *xs))
            return interpret(graph, [np.asarray(x) for x in xs])
        return call

    def forced(f: object) -> object:
        with ng.choices.using("force=licm"):
            return ng.jit(f)

    for seed in range(2):
        program = random_program(seed, 3, 6, [*RULES[:20], *(Rule(r.name, r.propose, 20.0) for r in loops)])
        assert any(word in program.body() for word in ("scan(", "cond(", "while_loop("))
        failure = check(program, [Way("alone", alone), Way("in the pipeline", forced)], derivatives=False)
        if failure:
            pytest.fail(str(failure), pytrace=False)


def test_programs_are_of_all_dtypes_orders_and_sizes(programs: list[Program]) -> None:
    values = [x for p in programs for x in run(p).native.values()]
    assert {x.dtype for x in values} == set(DTYPES.values())
    assert {0, 1, 2, 3, 7, 17, 33, 65} <= {n for x in values for n in x.shape}
    assert any(512 <= n for x in values for n in x.shape)
    assert {i.order for p in programs for i in p.inputs} == set(ORDERS)
    assert {len(p.statements) // 10 for p in programs} >= {0, 1, 2, 3}
    text = "".join(p.body() for p in programs)
    for word in ("scan(", "cond(", "while_loop(", "vmap(", "grad(", "einsum(", "conv(", "add_at(", "attention(", "checkpoint("):
        assert word in text


def test_rules_of_ones_own_take_part() -> None:
    mine = Rule("mine", lambda c: ("np.tanh({0}) * 1.5", (c.value(lambda a: a.dtype == np.float32),)), 500.0)
    assert "* 1.5" in random_program(0, rules=[*RULES, mine]).body()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)])
def test_orders_keep_values(order: str, shape: tuple[int, ...]) -> None:
    x = draw(shape, "f32", "C", 5)
    kept = stored(x, order)
    assert kept.shape == x.shape and kept.dtype == x.dtype
    np.testing.assert_array_equal(kept, np.broadcast_to(x[:1], shape) if order == "broadcast" and shape else x)
    if shape == (2, 3):
        assert {"C": kept.flags.c_contiguous, "F": kept.flags.f_contiguous, "reversed": kept.strides[0] < 0,
                "strided": kept.strides[1] == 8, "broadcast": kept.strides[0] == 0, "unaligned": not kept.flags.aligned}[order]


# -- the check --------------------------------------------------------------------------------------------------------


def small() -> Program:
    steps = (Input("x", "(A, 3)", "f32", "F", 1), Statement("t0", "np.tanh({0})", ("x",)), Statement("t1", "{0} + {1}", ("t0", "x")),
             Statement("t2", "{0}.sum(0)", ("t1",)))
    return Program({"A": 17}, steps, ("t2", "t0"))


def test_a_right_program_passes() -> None:
    assert check(small()) is None


@pytest.mark.parametrize("kind, spoil", [
    ("result", lambda ys: [y * np.float32(1.0001) for y in ys]),
    ("result", lambda ys: [y.astype("f8") for y in ys]),
    ("result", lambda ys: [y[None] for y in ys]),
    ("result", lambda ys: [np.where(y == y.max(), np.float32(np.nan), y) for y in ys]),
    ("bits", lambda ys, calls=iter((0.0, 1e-7)): [ys[0] + np.float32(next(calls)), *ys[1:]]),
    ("ZeroDivisionError", lambda ys: 1 / 0),
])
def test_wrong_ways_are_told(kind: str, spoil: object) -> None:
    wrong = Way("wrong", lambda f: lambda *xs: spoil([np.asarray(y) for y in f(*xs)]))
    failure = check(small(), [wrong], derivatives=False)
    assert failure is not None and failure.way == "wrong" and failure.kind == kind


def test_an_argument_that_is_written_to_is_told() -> None:
    def prepare(f: object) -> object:
        def call(x: np.ndarray) -> object:
            ys = f(x)
            x[0, 0] += 1
            return ys
        return call

    failure = check(small(), [Way("writes", prepare)], derivatives=False)
    assert failure is not None and ("written" in failure.message or failure.kind == "bits")


def test_a_wrong_derivative_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from nagraph.ops.special import Tanh

    monkeypatch.setattr(Tanh, "partials", lambda self, y, x: (1 - y,))
    failure = check(small(), [], derivatives=True)
    assert failure is not None and failure.kind == "derivative"


def test_rounding_is_no_fault() -> None:
    """A sum in another order is right; one that is off by more than rounding explains is not."""
    program = Program({"A": 5000}, (Input("x", "(A,)", "f32", seed=2), Statement("t0", "{0}.sum()", ("x",))), ("t0",))
    oracle = run(program)
    one_by_one = np.cumsum(oracle.native["x"], dtype=np.float32)[-1]
    assert not mismatch(oracle, "t0", one_by_one)
    assert mismatch(oracle, "t0", one_by_one + np.float32(0.01))


def test_what_rounding_decides_is_undetermined() -> None:
    program = Program({}, (Input("x", "(3,)", "f32", plain=True), Statement("t0", "np.floor({0} * 3 / 3)", ("x",))), ("t0",))
    with pytest.raises(Undetermined):
        run(program)


# -- shrinking, and reports ----------------------------------------------------------------------------------------------


def test_shrinking_finds_the_line() -> None:
    """A pass of a user's own that takes tanh for the identity: what is left is a line with a tanh in it."""


    way = Way("careless", lambda f: lambda *xs: ng.compile(_without_tanh(ng.trace(f, *xs)), passes="")(*xs))
    for seed in range(40):
        program = random_program(seed)
        failure = check(program, [way], derivatives=False) if "np.tanh(" in program.body() else None
        if failure is not None and failure.kind == "result":
            break
    found = smallest(failure, [way])
    assert len(found.program.statements) <= 3 and "tanh" in found.program.body()
    assert all(n <= 3 for x in run(found.program).native.values() for n in x.shape)


def _without_tanh(graph: ng.Graph) -> ng.Graph:
    found, values = [], {}
    for node in graph.nodes:
        operands = tuple(values.get(v, v) for v in node.operands)
        if node.op.name == "tanh":
            values[node.result] = operands[0]
        else:
            found.append(ng.Node(node.op, operands, node.results, node.location))
    return ng.Graph(graph.name, graph.inputs, found, [values.get(v, v) for v in graph.outputs])


def test_shrinking_stops_after_so_many_trials() -> None:
    tried: list[Program] = []
    program = random_program(5)
    assert shrink(program, lambda p: bool(tried.append(p)), 7) == program and len(tried) == 7


def test_the_report_is_a_script_that_runs() -> None:
    failure = check(small(), [Way("wrong", lambda f: lambda *xs: [y * 2 for y in f(*xs)])])
    assert failure is not None
    text = str(failure)
    done = subprocess.run([sys.executable, "-c", text[text.index("import"):]], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) >= 4


def test_a_process_that_dies_is_a_finding() -> None:
    found = list(check_seeds([3], 1, os._exit))
    assert [f.seed for f in found] == [3] and "exit code 3" in found[0].text


def test_workers_check_each_seed_once() -> None:
    found = {f.seed: f.text for f in check_seeds(range(5), 2, str)}
    assert found == {n: str(n) for n in range(5)}


def test_ways_that_compile() -> None:
    assert check(small(), [jitted("one thread", threads=1), jitted("few passes", passes="simplify,cse,dce")]) is None
