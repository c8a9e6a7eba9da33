"""`nagraph tune`: a table of what was found, and a file of schedules that compile takes."""

from __future__ import annotations

import pathlib
import re

import nagraph as ng
from nagraph.cli.tune import changes
from nagraph.schedule.text import parse, parse_all
from tests.cli.running import run

GRAPH = """graph @f(%x: f32[64,80], %y: f32[64,80]) -> (f32[64,80]) {
  %0: f32[64,80] = multiply(%x, %y)
  %1: f32[64,80] = tanh(%0)
  return %1
}
"""


def test_a_graph_is_tuned(tmp_path: pathlib.Path) -> None:
    graph, file = tmp_path / "f.ng", tmp_path / "f.schedules"
    graph.write_text(GRAPH)
    result = run("tune", graph, "--threads", 1, "--out", file)
    assert result.code in (0, None) and result.err == "", result
    head, row, total, place = result.out.splitlines()
    assert head.split() == ["ms", "share", "after", "gain", "tried", "kernel", "what", "changed"]
    (name, schedule), = parse_all(file.read_text()).items()
    assert re.search(rf"100 % +[\d.]+ +[\d.]+ +\d+ +{name} +(it stays|\w+.*:.*)", row), row
    assert re.fullmatch(rf"{graph}: [\d.]+ ms a call before, [\d.]+ ms after. By the time of threads all kernels are [\d.]+ times as fast; "
                        r"\d+ schedules were measured", total)
    assert place == f"schedules  {file}"
    assert ng.compile(ng.parse(GRAPH), threads=1, schedules=file).schedule(name) == schedule


def test_changes_are_the_lines_that_are_new() -> None:
    before = parse("schedule {\n units: points\n chunk: 4\n stage 0: 8 lanes along a1\n}")
    after = parse("schedule {\n units: 16 points in lanes\n chunk: 2\n}")
    assert changes(before, after) == "units: 16 points in lanes" and changes(before, before) == ""
    assert changes(after, before) == "units: points; stage 0: 8 lanes along a1"


def test_the_help_says_what_a_schedule_is() -> None:
    text = run("tune", "--help").out
    assert "its schedule says how" in text and "same bits with every schedule" in text and "kept in the cache" in text
