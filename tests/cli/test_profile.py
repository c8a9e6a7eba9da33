"""`nagraph profile`: tables of time and memory, a timeline, a picture."""

from __future__ import annotations

import json
import pathlib
import re

import pytest

from tests.cli.running import run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("profile") / "new" / "folder"
    return folder, run("profile", "gpt2", "--layers", 1, "--steps", 1, "--threads", 1, "--rows", 5, "--out", folder)


def test_the_tables_show_time_and_memory(done) -> None:
    folder, result = done
    assert result.code == 0 and result.err == ""
    head, columns, *rows = result.out.splitlines()
    assert re.fullmatch(r"gpt2 train: [\d.]+ ms a step, [\d.]+k tokens/s, \d+ kernel launches, compiled in [\d.]+ s", head)
    assert columns.split() == ["ms", "share", "calls", "threads", "GFLOP/s", "GB/s", "roof", "bound", "kernel", "lines"]
    assert all("gpt2.py" in row or "dot_general" in row for row in rows[:5]) and re.search(r"\d+ more kernels", rows[5])
    shares = [float(re.search(r"([\d.]+)%", row)[1]) for row in rows[:8]]
    assert sum(shares) == pytest.approx(100, abs=0.5) and rows[8].split()[1] == "100.0%" and "the call" in rows[8]
    assert "1 thread, measured: " in rows[9] and "GFLOP/s" in rows[9]
    assert re.search(r"^arena [\d.]+ MB, [\d.]+ times the lower bound of [\d.]+ MB", result.out, re.MULTILINE)
    assert len(re.findall(r"^\*? +[\d,]+ +[\d,]+ +\d+-\d+  %", result.out, re.MULTILINE)) == 5


def test_the_timeline_is_left_as_json(done) -> None:
    folder, result = done
    trace = json.loads((folder / "timeline.json").read_text())
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    call = slices[0]
    assert call["name"] == "gpt2 train" and len(slices) > 50 and {e["tid"] for e in slices} == {1}
    assert all(0 <= e["ts"] and e["ts"] + e["dur"] <= call["dur"] for e in slices)
    assert f"timeline  {folder / 'timeline.json'}" in result.out
    milliseconds = float(re.search(r"([\d.]+) ms a step", result.out)[1])
    assert call["dur"] / 1e3 == pytest.approx(milliseconds, abs=0.01)


def test_the_picture_shows_every_buffer(done, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    folder, result = done
    figure = pytest.importorskip("matplotlib.figure")
    assert (folder / "memory.png").read_bytes().startswith(b"\x89PNG") and f"memory    {folder / 'memory.png'}" in result.out

    from nagraph.cli.memory_picture import draw_memory
    from nagraph.models.workloads import workload

    drawn = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    memory = workload("gpt2", "infer", layers=1, batch=2, context=8, width=8, heads=2).lower("llvm").executable.memory
    draw_memory(memory, "small", tmp_path / "memory.png")
    places, amounts = drawn[0].axes
    boxes = [(p.get_x(), p.get_x() + p.get_width() - 1, p.get_y() * 2**10, p.get_height() * 2**10) for p in places.patches]
    assert boxes == [pytest.approx((b.first, b.last, b.offset, b.nbytes)) for b in memory.buffers] and boxes
    assert amounts.lines[0].get_ydata() == pytest.approx([n / 2**10 for n in memory.live_bytes()])


def test_a_function_of_ones_own(done, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """After the first test, which measures the machine."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("def loss(w, x):\n    return ((x @ w) ** 2).mean()\n")
    result = run("profile", "net.py:loss(f32[3], f32[8,3])", "--steps", 1, "--threads", 1)
    assert result.code == 0 and result.out.startswith("net.py:loss: ") and "net.py:2" in result.out
    assert (tmp_path / "runs" / "net.py-loss-profile" / "timeline.json").exists()


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    result = run("profile", "gpt2", "--task", "infer", "--layers", 1, "--steps", 1, "--out", tmp_path)
    assert result.code == 0 and "gpt2 infer: " in result.out
    assert "memory    not drawn: it needs matplotlib (pip install 'nagraph[plot]')" in result.out and not (tmp_path / "memory.png").exists()


def test_wrong_input(tmp_path: pathlib.Path) -> None:
    assert "unknown target 'gpt9' (did you mean gpt2?); there is a model" in run("profile", "gpt9").one_sentence()
    assert "'sleep' is not one of 'train', 'infer'" in run("profile", "gpt2", "--task", "sleep").one_sentence()
    (tmp_path / "file").touch()
    assert "is a file; name a folder with --out" in run("profile", "gpt2", "--out", tmp_path / "file").one_sentence()
