"""`nagraph bench`: rounds in turns, results kept and compared, what is slower beyond the noise."""

from __future__ import annotations

import importlib.util
import json
import math
import pathlib
from types import SimpleNamespace

import pytest

from nagraph.cli.bench import benchmarks
from nagraph.cli.measuring import Others, Row, measure, median_seconds
from nagraph.cli.results import LEAST_CHANGE, Change, changes, load, save
from nagraph.errors import DataError
from nagraph.models import CLASSES
from nagraph.models.operations import CASES
from tests.cli.running import run


def row(name: str, *rounds: float, column: str = "nagraph") -> Row:
    return Row(name, column, rounds)


# -- rounds, medians, noise -----------------------------------------------------------------------------


def test_rounds_go_through_all_benchmarks_in_turns() -> None:
    seen: list[str] = []

    def runner(name: str, times: list[float]):
        def once(seconds: float) -> float:
            seen.append(name)
            assert seconds == 0.5
            return times.pop(0)
        return once

    rows = measure({("a", "nagraph"): runner("a", [1.0, 3.0, 2.0]), ("b", "torch"): runner("b", [6.0, 4.0, 5.0])}, 3, 0.5, {"a": 7.0},
                   lambda: seen.append("."))
    assert "".join(seen) == "a.b.b.a.a.b."
    assert rows == [Row("a", "nagraph", (1.0, 3.0, 2.0), 7.0), Row("b", "torch", (6.0, 4.0, 5.0))] and [r.seconds for r in rows] == [2, 5]


def test_a_round_is_some_calls_even_if_one_takes_longer() -> None:
    calls: list[int] = []
    assert 0 <= median_seconds(lambda: calls.append(1), 0.0) < 1
    assert len(calls) == 3


def test_noise_is_the_spread_of_the_rounds() -> None:
    assert row("x", 1, 1, 1, 1, 1).noise == 0
    assert row("x", 8, 9, 10, 11, 12).noise == pytest.approx(0.1), "quartiles 9 and 11"
    assert row("x", 8, 9, 10, 11, 100).noise == pytest.approx(0.1), "one disturbed round is no noise"
    assert row("x", 8, 10, 12).noise == pytest.approx(0.2), "few rounds: their whole range"
    assert math.isinf(row("x", 8).noise)


@pytest.mark.parametrize("before, now, verdict", [
    ((10,) * 5, (10,) * 5, "same"), ((10,) * 5, (11,) * 5, "slower"), ((11,) * 5, (10,) * 5, "faster"),
    ((10,) * 5, (10 * (1 + 0.9 * LEAST_CHANGE),) * 5, "same"),
    ((8, 9, 10, 11, 12), (11,) * 5, "same"), ((8, 9, 10, 11, 12), (13,) * 5, "slower"), ((10,), (100,), "same"),
])
def test_a_change_counts_beyond_the_noise_of_both(before, now, verdict) -> None:
    change = Change(row("x", *before), row("x", *now))
    assert change.verdict == verdict and change.limit >= LEAST_CHANGE


def test_what_other_processes_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0, 200.0, 201.0])
    monkeypatch.setattr("nagraph.cli.measuring.busy_seconds", lambda: next(clock))
    monkeypatch.setattr("nagraph.cli.measuring.time", SimpleNamespace(
        process_time=iter([0.0, 1.0, 5.0, 5.5]).__next__, perf_counter=iter([0.0, 2.0, 7.0, 8.0]).__next__))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    others = Others()
    assert others.share is None
    run = others.watched(lambda seconds: seconds / 2)
    assert [run(1.0), run(3.0)] == [0.5, 1.5]
    assert others.share == pytest.approx(((3 - 1) + (1 - 0.5)) / (2 * 3))


def test_rows_are_compared_by_name_and_column() -> None:
    old = [row("a", 1), row("b", 2), row("a", 3, column="torch")]
    new = [row("b", 4), row("c", 5), row("a", 6, column="torch")]
    assert [(c.before.seconds, c.now.seconds) for c in changes(old, new)] == [(2, 4), (3, 6)]


# -- files ------------------------------------------------------------------------------------------------


def test_results_are_read_as_they_were_written(tmp_path: pathlib.Path) -> None:
    rows = [Row("a", "nagraph", (1.0, 2.0), 5.0), Row("a", "torch", (3.0,))]
    save(tmp_path / "new" / "r.json", {"threads": 2}, rows)
    about, found = load(tmp_path / "new" / "r.json")
    assert found == rows and about["threads"] == 2
    shown = json.loads((tmp_path / "new" / "r.json").read_text())["rows"]
    assert shown[0]["median_seconds"] == 1.5 and shown[1]["noise"] is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other", "rows": []}', '{"format": "nagraph bench 1"}',
                                  '{"format": "nagraph bench 1", "rows": [{"name": "a", "column": "b", "rounds": [], "flops": 0}]}',
                                  '{"format": "nagraph bench 1", "rows": [{"name": "a", "column": "b", "rounds": [0], "flops": 0}]}'])
def test_files_of_something_else(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=r"r\.json (holds no results of nagraph bench|is damaged): "):
        load(tmp_path / "r.json")


# -- the command ------------------------------------------------------------------------------------------


def test_there_is_a_benchmark_for_every_model_task_and_operation() -> None:
    assert set(benchmarks()) == {f"{m}_{t}" for m in CLASSES for t in ("train", "infer")} | set(CASES)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("bench") / "first.json"
    return out, run("bench", "--quick", "--only", "sgemm_64,sgemm_256", "--threads", 1, "--out", out)


def test_times_are_shown_and_kept(first) -> None:
    out, done = first
    assert done.code == 0 and done.err == ""
    head, *lines = (line for line in done.out.splitlines() if not line.startswith("note: other processes"))
    assert head.split() == ["benchmark", "ms", "noise", "GFLOP/s"] and [line.split()[0] for line in lines[:2]] == ["sgemm_64", "sgemm_256"]
    assert lines[2] == f"results   {out}"
    about, rows = load(out)
    assert [(r.name, r.column, r.flops, len(r.rounds)) for r in rows] == [
        ("sgemm_64", "nagraph", 2 * 64**3, 3), ("sgemm_256", "nagraph", 2 * 256**3, 3)]
    assert set(about) == {"format", "date", "machine", "versions", "backend", "threads", "quick", "others"}
    assert about["threads"] == 1 and about["quick"] is True and about["backend"] == "llvm"
    assert {"nagraph", "python", "numpy", "llvmlite"} <= set(about["versions"]) and set(about["machine"]) == {"cpu", "cores", "system"}


def altered(source: pathlib.Path, target: pathlib.Path, factor: float, **changes: object) -> pathlib.Path:
    """Results in which every time is `factor` of what it was, with hardly any noise."""
    found = json.loads(source.read_text())
    for r in found["rows"]:
        r["rounds"] = [r["median_seconds"] * factor] * 5
    target.write_text(json.dumps({**found, **changes}))
    return target


def test_what_got_slower_is_told_and_can_fail(first, tmp_path: pathlib.Path) -> None:
    fast, slow = altered(first[0], tmp_path / "fast.json", 1e-3), altered(first[0], tmp_path / "slow.json", 1e3)
    args = ("bench", "--quick", "--only", "sgemm_64", "--threads", 1, "--out", tmp_path / "now.json")
    done = run(*args, "--compare", fast)
    assert done.code == 0 and "slower beyond the noise: sgemm_64 (" in done.out and "sgemm_256 (" not in done.out
    assert run(*args, "--compare", fast, "--fail-if-slower").code == 1
    better = run(*args, "--compare", slow, "--fail-if-slower")
    assert better.code == 0 and "slower beyond the noise: nothing" in better.out and "faster" in better.out


def test_other_conditions_are_noted(first, tmp_path: pathlib.Path) -> None:
    old = altered(first[0], tmp_path / "old.json", 1.0, threads=64, quick=False, others=0.4)
    done = run("bench", "--quick", "--only", "sgemm_64", "--threads", 1, "--out", tmp_path / "now.json", "--compare", old)
    assert "note: when the earlier results were taken, other processes used 40% of the cores" in done.out
    assert "note: threads was 64, is 1" in done.out and "note: quick was False, is True" in done.out and "note: machine" not in done.out


def test_wrong_input(first, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no benchmark 'sgem9'; there is gpt2_train, " in run("bench", "--only", "sgem9").one_sentence()
    assert "unknown backend 'tpu'" in run("bench", "--backend", "tpu").one_sentence()
    assert "--fail-if-slower compares with earlier results" in run("bench", "--fail-if-slower").one_sentence()
    assert "none.json does not exist" in run("bench", "--compare", tmp_path / "none.json").one_sentence()
    assert "there is no peer 'theano'; there is torch, jax" in run("bench", "--only", "sgemm_64", "--against", "theano").one_sentence()
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "jax" else found(name, *rest))
    assert run("bench", "--only", "sgemm_64", "--against", "jax").one_sentence() == "jax is not installed; pip install jax"
    other = altered(first[0], tmp_path / "other.json", 1.0)
    done = run("bench", "--quick", "--only", "sum_16M", "--out", tmp_path / "now.json", "--compare", other)
    assert done.code == 1 and "the two results have no benchmark in common" in done.err
