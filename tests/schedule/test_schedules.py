"""Schedules: how kernels run is data that prints, reads back, is checked by rules, and can be given; it never changes a bit."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.llvm.text.target import host
from nagraph.errors import ParseError, ScheduleError, SignatureError
from nagraph.nn import functional as F
from nagraph.schedule.form import Lanes, Loops, Points, Product, Rows, Schedule, Split, Stored, Tiles
from nagraph.schedule.names import name_of
from nagraph.schedule.strategy import choose
from nagraph.schedule.text import format_all, parse, parse_all
from nagraph.schedule.verify import RULES, problem_of


def attention(q, k, v):
    return F.softmax(np.where(np.tril(np.ones((128, 128), bool)), q @ k.transpose(0, 2, 1), -np.inf)) @ v


#: Functions, the shapes of their arguments, and the units of their first kernel.
FUNCTIONS = {
    "map": (lambda x, y: np.tanh(x) * y, [(70, 33), (70, 33)], Lanes),
    "transpose": (lambda x, y: x.T + y, [(40, 96), (96, 40)], Tiles),
    "rows": (lambda x, b: F.softmax(x) + b, [(64, 200), (200,)], Points),
    "joined": (lambda x, y: np.concatenate([x, np.exp(y)], axis=1).max(axis=1), [(6, 16), (6, 40)], Points),
    "product": (lambda x, w: x @ w, [(300, 80), (80, 600)], Rows),
    "layer": (lambda x, w, b: np.tanh(x @ w + b), [(300, 400), (400, 500), (500,)], Rows),
    "one row": (lambda x, w: x @ w, [(1, 600), (600, 1024)], Rows),
    "attention": (attention, [(8, 128, 16)] * 3, None),
}


@functools.cache
def case(name):
    """(graph, arrays, executable) of a function."""
    fn, shapes, _ = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype(np.float32) for s in shapes]
    graph = ng.trace(fn, *arrays)
    return graph, arrays, ng.compile(graph)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_chosen_is_legal_and_reads_back(name):
    executable = case(name)[2]
    expected = FUNCTIONS[name][2]
    assert expected is None or any(isinstance(s.units, expected) for s in executable.schedules.values())
    for kernel in executable.kernels:
        schedule = executable.schedule(kernel)
        assert schedule == executable.schedule(name_of(kernel)) == choose(kernel, host())
        assert problem_of(kernel, schedule, host()) == "" and parse(str(schedule)) == schedule
    assert parse_all(executable.source("schedule")) == executable.schedules


@pytest.mark.parametrize("schedule", [
    Schedule(Lanes(64), 3), Schedule(Tiles(1, 16), 1), Schedule(Points(32), 2, (Loops(), Loops(3, 8, (16, 48)), Stored())),
    Schedule(Rows(96, 256, True), 1, (Product(12, 2, 384, False),), Split(1, 64, True), (0, 2)),
    Schedule(Rows(1, 0, True), 1, (), Split(0, 0, True)),
    Schedule(Points(), 1, (Loops(2, 16, (5,)),), Split(2, 4), (1,), 0)])
def test_schedules_read_back(schedule):
    assert parse(str(schedule)) == schedule
    assert parse_all(format_all({"a-1": schedule, "b-2": schedule})) == {"a-1": schedule, "b-2": schedule}


@pytest.mark.parametrize(("text", "message"), [
    ("", "one schedule is wanted"), ("schedule {\n units: points\n}", "its units and its chunk"), ("schedule {", "before its last"),
    ("schedule {\n units: discs\n}", "line 2: units reads like"), ("schedule {\n speed: 4\n}", "line 2: expected split, units"),
    ("schedule {\n chunk: 1\n chunk: 2\n}", "line 3: chunk is said twice"),
    ("schedule {\n units: points\n chunk: 1\n stage 1: element by element\n}", "numbered from 0"),
    ("schedule {\n units: points\n chunk: " + "7" * 5000 + "\n}", "line 3: a number has at most 18 digits, found 'chunk: 777.*7$"),
    ("schedule {\n stage " + "7" * 5000 + ": element by element\n}", "line 2: a number has at most 18 digits"),
    ("schedule {\n prefetch: pp\n}", "line 2: prefetch reads like"),
    ("schedule {\n stage 0: 8 lanes along a1, cut at , ,\n}", "line 2: stage 0 reads like")])
def test_other_texts_are_refused(text, message):
    with pytest.raises(ParseError, match=message):
        parse(text)


@pytest.mark.parametrize(("name", "right", "wrong", "rule"), [
    ("layer", r"parts of \d+", "parts of 7", "split"), ("layer", r"units: .*", "units: points in lanes", None),
    ("layer", r"units: .*", "units: blocks of 301 rows", "units"), ("map", r"units: .*", "units: blocks of 8 rows", "units"),
    ("rows", r"units: .*", "units: 16 points in lanes", "stages"), ("layer", r"(stage 1): .*", r"\1: stored by its product", "stages"),
    ("product", r"(stage 0): .*", r"\1: element by element", "stages"), ("map", r"(\d+) points", "3 points", "lanes"),
    ("layer", r"along a2", "along a0", "lanes"), ("layer", r"by 2 vectors", "by 4 vectors", "registers"),
    ("layer", r"prefetch: .*", "prefetch: p0, p9", "prefetch"), ("map", r"chunk: .*", "chunk: 0", "chunk"),
    ("rows", r"(stage 1): (\d+) lanes", r"\1: 2 lanes", "order"), ("rows", r"(stage 0): .*", r"\1: element by element", None)])
def test_an_illegal_schedule_is_refused_with_its_rule(name, right, wrong, rule):
    graph, _, executable = case(name)
    (kernel,) = executable.schedules
    text = re.sub(right, wrong, str(executable.schedule(kernel)))
    assert text != str(executable.schedule(kernel))
    if rule is None:  # no schedule, or one that is legal: maxima of floats have an order as well
        with pytest.raises((ParseError, ScheduleError)):
            ng.compile(graph, schedules={kernel: text})
        return
    with pytest.raises(ScheduleError, match=f"not legal for {kernel}: rule '{rule}': "):
        ng.compile(graph, schedules={kernel: text})
    assert rule == "split" or rule in RULES


@pytest.mark.parametrize(("schedule", "message"), [
    (Schedule("points", 1), "units is Lanes or Tiles or Points or Rows, got str: 'points'"),
    (Schedule(Points(), "4"), "chunk is int, got str: '4'"), (Schedule(Points(), True), "chunk is int, got bool: True"),
    (Schedule(Points(2.5), 1), "units.rows is int, got float: 2.5"), (Schedule(Rows(8, None), 1), "units.columns is int, got NoneType"),
    (Schedule(Points(), 1, [Loops()]), "stages is a tuple, got list"), (Schedule(Points(), 1, 3), "stages is a tuple, got int: 3"),
    (Schedule(Points(), 1, (Loops(), None)), r"stages\[1\] is Loops or Product or Stored, got NoneType"),
    (Schedule(Points(), 1, (Loops(0, 8, (1, "2")),)), r"stages\[0\].cuts\[1\] is int, got str: '2'"),
    (Schedule(Points(), 1, (), Lanes(8)), "split is Split or None, got Lanes"),
    (Schedule(Points(), 1, (), None, 0), "prefetch is a tuple, got int: 0"),
    (Schedule(Points(), 1, during="1"), "during is int or None, got str: '1'")])
def test_fields_of_other_types_are_refused(schedule, message):
    graph, _, executable = case("map")
    (kernel,) = executable.kernels
    assert re.search(f"^rule 'fields': {message}", problem_of(kernel, schedule, host()))
    with pytest.raises(ScheduleError, match=f"not legal for {name_of(kernel)}: rule 'fields': {message}"):
        ng.compile(graph, schedules={name_of(kernel): schedule})


def test_a_given_schedule_is_obeyed_and_changes_no_bit(tmp_path):
    graph, arrays, executable = case("layer")
    (name,) = executable.schedules
    text = str(executable.schedule(name)).replace("12 rows by 2 vectors", "6 rows by 4 vectors")
    text = re.sub(r"blocks of \d+ rows\n", "blocks of 36 rows\n", text).replace("32 lanes", "16 lanes")
    file = tmp_path / "schedules"
    file.write_text(f"// the layer\n{name} {text}\n")
    for given in ({name: text}, {name: parse(text)}, file, str(file)):
        other = ng.compile(graph, schedules=given)
        assert str(other.schedule(name)) == text
        assert "6x4x" in other.source() and "6x4x" not in executable.source()
        assert other.launches[0].function.emitted.units == 4 * 9 > executable.launches[0].function.emitted.units
        np.testing.assert_array_equal(other(*arrays)[0], executable(*arrays)[0])
    found = ng.jit(FUNCTIONS["layer"][0], schedules=file)
    assert str(found.lower(*arrays).executable.schedule(name)) == text


def test_what_is_not_packed_has_the_same_bits():
    """Rows of 4,096 bytes fall into few sets of a cache, and a transposed A has unit rows: both are packed unless the schedule says no."""
    rng = np.random.default_rng(1)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((700, 144), (700, 1024)))
    graph = ng.trace(lambda x, w: x.T @ w, x, w)
    executable = ng.compile(graph)
    (name, schedule), = executable.schedules.items()
    other = ng.compile(graph, schedules={name: re.sub(r"(vectors, blocks of \d+ rows)", r"\1, unpacked", str(schedule))})
    assert "_unpacked(" in other.source() and "_unpacked(" not in executable.source()
    np.testing.assert_array_equal(other(x, w)[0], executable(x, w)[0])


def test_programs_are_kept_by_their_schedules(tmp_path, monkeypatch):
    from nagraph.backends import cache

    graph, arrays, executable = case("map")
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    (name,) = executable.schedules
    text = re.sub(r"\d+ points", "16 points", str(executable.schedule(name)))
    assert text != str(executable.schedule(name))
    plain, other, again = ng.compile(graph), ng.compile(graph, schedules={name: text}), ng.compile(graph, schedules={name: text})
    assert not plain.loaded and not other.loaded and again.loaded and ng.compile(graph).loaded
    assert str(again.schedule(name)) == text != str(plain.schedule(name)), "what explains a loaded program has its schedules"
    np.testing.assert_array_equal(again(*arrays)[0], plain(*arrays)[0])


def test_names_that_no_kernel_has_and_backends_without_schedules():
    graph, _, executable = case("map")
    (name, schedule), = executable.schedules.items()
    for wrong in (name[:-1], "nothing"):
        with pytest.raises(ScheduleError, match=f"no kernel of this program is called '{wrong}'.*{name}"):
            ng.compile(graph, schedules={wrong: schedule})
    with pytest.raises(SignatureError, match=f"has no kernel 'nothing'; it has {name}"):
        executable.schedule("nothing")
    with pytest.raises(SignatureError, match="a kernel, or the name of one, is wanted, got int: 3"):
        executable.schedule(3)
    with pytest.raises(SignatureError, match="backend 'numpy' has no schedules"):
        ng.compile(graph, backend="numpy", schedules={name: schedule})
    with pytest.raises(SignatureError, match="its backend has no schedules"):
        ng.compile(graph, backend="numpy").schedule(name)
    for wrong in (3, {name: 3}, "/nowhere"):
        with pytest.raises(SignatureError, match="schedules"):
            ng.compile(graph, schedules=wrong)
