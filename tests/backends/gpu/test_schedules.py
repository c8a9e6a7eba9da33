"""Schedules of kernels on GPUs: their text reads back, what is illegal is refused by the rule that it breaks, rows go where they belong."""

from dataclasses import replace

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.gpu.dialect import CUDA
from nagraph.backends.gpu.emit import emit
from nagraph.backends.gpu.schedule import REGISTERS, SCRATCH, SHARED, GpuSchedule, InOrder, Owned, Spread
from nagraph.backends.gpu.schedule_text import parse
from nagraph.backends.gpu.strategy import choose
from nagraph.backends.gpu.target import TARGETS, gpu_target
from nagraph.backends.gpu.verify import RULES, problem_of
from nagraph.errors import ParseError, ScheduleError, SignatureError
from nagraph.kernel.context import NotRowLocal
from nagraph.kernel.lower import lower
from nagraph.ops.indexing import Scatter
from tests.backends.gpu.kernels import SOFTMAX, graph, kernel
from tests.support import graph_of

H100 = gpu_target("sm_90")


def scatter():
    rng = np.random.default_rng(0)
    return lower(graph_of(Scatter((0,), "add"), [rng.normal(size=(9, 4)), rng.normal(size=(6, 4)), rng.integers(0, 9, size=6)]))


def test_texts_read_back():
    for schedule in (
        GpuSchedule(1, 256), GpuSchedule(1, 64, 4, (REGISTERS,), (Spread(),)),
        GpuSchedule(512, 1, 1, (SHARED, SCRATCH), (Spread(512), InOrder())), GpuSchedule(32, 16, stages=(Owned(),), apart=True),
        GpuSchedule(1, 256, 4, (), (Spread(),), transposed=2),
        *(choose(SOFTMAX((8, n)), t) for n in (5, 48, 700, 60_000) for t in TARGETS.values()), choose(scatter(), H100),
    ):
        assert parse(str(schedule)) == schedule
    assert parse("schedule { // a comment\n\n block: 8 points, 32 threads each\n}") == GpuSchedule(32, 8)


@pytest.mark.parametrize("text, message", [
    ("", "a GPU schedule is wanted"), ("schedule {\n}", "a GPU schedule is wanted"), ("schedule {\n  t0: shared\n}", "says its block"),
    ("schedule {\n  block: large\n}", "block reads like"),
    ("schedule {\n  block: 8 points, a thread each\n  t0: nowhere\n}", "t0 reads like"),
    ("schedule {\n  block: 8 points, a thread each\n  stage 1: spread\n}", "without a gap"),
    ("schedule {\n  block: 8 points, a thread each\n  block: 8 points, a thread each\n}", "said twice"),
    ("schedule {\n  lanes: 8\n}", "expected block, a tile or a stage"),
])
def test_what_is_no_schedule_is_refused(text, message):
    with pytest.raises(ParseError, match=message):
        parse(text)


def test_every_rule_refuses_what_it_is_for():
    rows = SOFTMAX((8, 48))
    good = choose(rows, H100)
    assert problem_of(rows, good, H100) == ""
    updates, turned = scatter(), kernel(lambda x: x.T * 2, (300, 1000))
    in_order = choose(updates, H100)
    broken = {
        "block": [(rows, replace(good, threads=24)), (rows, replace(good, points=0)), (rows, replace(good, points=64)),
                  (rows, replace(good, threads=8, points=3)), (rows, replace(good, threads=1, points=256, apart=True))],
        "width": [(rows, replace(good, width=4)), (rows, replace(good, threads=1, width=2))],
        "transposed": [(rows, replace(good, transposed=0)), (turned, replace(choose(turned, H100), transposed=1)),
                       (turned, replace(choose(turned, H100), points=128))],
        "stages": [(rows, replace(good, stages=good.stages[1:])), (rows, replace(good, stages=(InOrder(), *good.stages[1:]))),
                   (updates, replace(in_order, stages=(Spread(), Spread()))),
                   (rows, replace(good, stages=(*good.stages[:2], Spread(1, 5))))],
        "order": [(rows, replace(good, stages=(Spread(16), *good.stages[1:]))), (rows, replace(good, threads=16, points=16)),
                  (rows, replace(good, stages=(Spread(32, 4), *good.stages[1:])))],
        "tiles": [(rows, replace(good, tiles=())), (rows, replace(good, tiles=(REGISTERS,) * 3)),
                  (rows, replace(good, tiles=("cache",) * 3)),
                  (SOFTMAX((8, 90_000)), replace(choose(SOFTMAX((8, 90_000)), H100), tiles=(REGISTERS, REGISTERS, SHARED)))],
    }
    assert broken.keys() == RULES.keys()
    for rule, cases in broken.items():
        for case, schedule in cases:
            assert problem_of(case, schedule, H100).startswith(f"rule {rule!r}: "), (rule, str(schedule))
            with pytest.raises(ScheduleError, match="this schedule is not legal for the kernel: rule"):
                emit(case, H100, CUDA, schedule)


@pytest.mark.parametrize("columns, threads, width", [(3, 1, 1), (20, 32, 1), (300, 32, 4), (301, 32, 1), (5000, 512, 4)])
def test_rows_go_to_threads_warps_and_blocks_by_their_length(columns, threads, width):
    schedule = choose(kernel(lambda x: x.sum(1), (10_000, columns)), H100)
    assert schedule.threads == threads and schedule.stages[0] == Spread(threads, width) and not schedule.apart


def test_a_row_has_no_more_threads_than_share_its_folds():
    assert choose(SOFTMAX((8192, 768)), H100).threads == 32


def test_columns_go_to_threads_that_stand_apart():
    for rows, columns, threads in ((9000, 64, 32), (9000, 2000, 16), (9000, 10_000, 1)):
        schedule = choose(kernel(lambda x: x.sum(0), (rows, columns)), H100)
        assert (schedule.threads, schedule.apart) == (threads, threads > 1)


def test_a_map_loads_as_much_as_one_access_does():
    for dtype, width in (("float64", 2), ("float32", 4), ("float16", 8), ("int8", 16)):
        many = [ng.spec((1 << 20,), dtype)]
        assert choose(kernel(lambda x: x + x, *many), H100).width == width
    assert choose(kernel(lambda x: x + x, (1000,)), H100).width == choose(kernel(lambda x: x + x, ((1 << 20) + 1,)), H100).width == 1


def test_updates_are_owned_by_threads():
    schedule = choose(scatter(), H100)
    assert schedule.stages[1] == Owned() and schedule.apart and schedule.threads > 1


def test_what_shared_memory_can_not_hold_goes_to_device_memory():
    for n, place in ((48, SHARED), (5000, SHARED), (60_000, SCRATCH)):
        assert choose(SOFTMAX((8, n)), H100).tiles == (REGISTERS, REGISTERS, place)
    assert choose(SOFTMAX((8, 20_000)), gpu_target("apple7")).tiles[2] == SCRATCH
    assert choose(SOFTMAX((8, 20_000)), H100).tiles[2] == SHARED


def test_an_unknown_target_is_refused_by_name():
    with pytest.raises(SignatureError, match="unknown GPU target 'sm_9'.*sm_90"):
        gpu_target("sm_9")


def test_what_the_strategy_chooses_is_legal_on_every_target():
    functions = [(lambda x: x.sum(0), 1), (lambda x: x.sum(1), 1), (lambda x: np.cumsum(x, 0), 1), (lambda x: np.cumsum(x, 1), 1),
                 (lambda x: x.sum(), 1), (lambda x: ng.nn.functional.softmax(x), 1), (lambda x: np.argmax(x, 0), 1), (lambda x: x.T * 2, 1),
                 (lambda x, y: x.T @ y, 2), (lambda x, y: np.einsum("ij,ij->j", x, y), 2)]
    turned = [lower(graph(lambda x, y: x.T @ y.T, (33, n), (65, 33))) for n in (1, 17, 65)]
    assert not any(problem_of(made, choose(made, target), target) for made in turned for target in TARGETS.values())
    seen = 0
    for fn, count in functions:
        for shape in ((1, 1), (33, 65), (65, 1), (300, 7), (7, 3000), (3000, 40)):
            graphs = graph(fn, *[shape] * count)
            try:
                made = lower(graphs)
            except NotRowLocal:  # it takes two kernels
                continue
            for target in TARGETS.values():
                assert problem_of(made, choose(made, target), target) == "", (shape, str(made))
                seen += 1
    assert seen > 100
