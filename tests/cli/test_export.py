"""`nagraph export`: targets of all kinds, sizes, options of forms; and program files as targets of other commands."""

from __future__ import annotations

import inspect
import io
import pathlib
import re
from typing import Any

import numpy as np
import pytest
import rich.console

import nagraph as ng
from nagraph.cli import export as command
from nagraph.export import progress
from nagraph.export.forms import FORMS, Form, Option
from tests.cli.running import TEXT, TINY, contents, run

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = """
import numpy as np

def loss(w, x):
    return np.tanh(x @ w).sum()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    assert run("train", "gpt2", "--data", folder / "text.txt", "--steps", 2, "--out", folder / "run", *TINY).code == 0
    return folder / "run"


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    (tmp_path / "net.py").write_text(SCRIPT)
    (tmp_path / "open.ng").write_text("dim n{min=1}\ngraph @twice(%x: f32[n]) -> (f32[n]) {\n  %0: f32[n] = add(%x, %x)\n  return %0\n}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def good(*args: Any) -> str:
    done = run(*args)
    assert done.code == 0, done
    return done.out


def test_a_trained_model_keeps_its_weights_and_open_sizes(trained: pathlib.Path, place: pathlib.Path) -> None:
    out = good("export", trained, "--to", "program", "-o", "a.ngx")
    assert "sizes: batch is open, time is open\n" in out and re.search(r"^a.ngx +0\.\d\d MB$", out, re.M)
    loaded = ng.load_program("a.ngx")
    assert "blocks.0.attention.projection.weight" in loaded.weights and loaded.subject.free == ("ids",)
    ids = np.zeros((3, 5), np.int32)
    from nagraph.models.training import load_model

    assert np.array_equal(loaded(ids), ng.jit(lambda m, i: m(i))(load_model(trained)[0], ids))
    assert "sizes: batch is 2, time is open\n" in good("export", trained, "--to", "program", "-o", "b.ngx", "--sizes", "batch=2")
    assert [str(t) for t in ng.load_program("b.ngx").arguments.values()] == ["i32[2,time]"]


def test_a_train_step_goes_on_as_it_does_here(trained: pathlib.Path, place: pathlib.Path) -> None:
    """State in, state out: the same bits after three steps, and the state's arrays are used again."""
    from nagraph.models.training import init_state, load_model, make_step

    good("export", trained, "--train", "--to", "program", "-o", "step.ngx")
    loaded = ng.load_program("step.ngx")
    task = load_model(trained)[1]
    ours, theirs = init_state(task), init_state(task)
    batch, step = task.random_batch(np.random.default_rng(0)), make_step(task)
    for i in range(3):
        ours, loss, _ = step(ours, batch, np.int32(i))
        given = theirs
        theirs, other, _ = loaded(theirs, batch, np.int32(i))
        assert loss == other and type(theirs) is type(ours)
    assert all(a is None or np.array_equal(a, b) for a, b in zip(ng.tree.leaves(ours), ng.tree.leaves(theirs)))
    assert "is donated: it is overwritten by the result" in loaded.explain() and theirs.count is given.count


@pytest.mark.parametrize("target", ["net.py:loss(f32[3], f32[8,3])", "net.py:loss(f32[3], f32[batch,3])", "sgemm_64", "open.ng(n=4)",
                                    "open.ng", "a.ngx"])
def test_targets_of_all_kinds(target: str, place: pathlib.Path) -> None:
    if target == "a.ngx":
        ng.export.program(lambda w, x: x @ w, "a.ngx", (np.ones((3, 2), np.float32), ng.spec((ng.Dim("batch"), 3))))
    out = good("export", target, "--to", "program", "-o", "out.ngx", "--optimised")
    assert ("batch is open" in out) == ("batch" in target or target == "a.ngx")
    assert ng.load_program("out.ngx").graph.nodes
    assert target != "a.ngx" or pathlib.Path("out.ngx").read_bytes() == pathlib.Path("a.ngx").read_bytes()


def test_a_form_without_open_sizes_gets_numbers(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMS, "program", FORMS["program"]._replace(open_sizes=False))
    pathlib.Path("max.ng").write_text(pathlib.Path("open.ng").read_text().replace("min=1", "min=2, max=9"))
    for target, size in (("open.ng", 1), ("max.ng", 9)):
        assert f"sizes: n is {size}\n" in good("export", target, "--to", "program", "-o", "out.ngx")
        assert ng.load_program("out.ngx").graph.input_types[0].shape == (size,)


@pytest.mark.parametrize("args, told", [
    (["open.ng", "--to", "program", "-o", "a.onnx"], "a.onnx would be written by --to program; name a file that ends in .ngx"),
    (["open.ng", "--to", "cards", "-o", "a"], "Invalid value for '--to': 'cards' is not one of 'program', 'onnx'"),
    (["open.ng", "--to", "program", "-o", "a.ngx", "--opset", "20"], "--opset is no option of --to program"),
    (["open.ng", "--to", "program", "-o", "a.ngx", "--sizes", "m=2"], "--sizes: there is no dimension 'm'; the graph has n"),
    (["open.ng", "--to", "program", "-o", "a.ngx", "--sizes", "n=0"], "--sizes: the dimension n is a whole number, n from 1; got 0"),
    (["open.ng", "--to", "program", "-o", "a.ngx", "--sizes", "n"], "--sizes: 'n' gives no size its number; write batch=2"),
    (["none.ngx", "--to", "program", "-o", "a.ngx"], "none.ngx: it does not exist"),
    (["open.ng", "--to", "program", "-o", "net.py/a.ngx"], "can't be written"),
])
def test_wrong_words_are_one_sentence_and_write_nothing(args: list[str], told: str, place: pathlib.Path) -> None:
    before = contents(place)
    assert told in run("export", *args).one_sentence()
    assert contents(place) == before


def test_functions_with_open_sizes_are_shown_and_not_run(place: pathlib.Path) -> None:
    target = "net.py:loss(f32[n], f32[m,n])"
    assert "dim n{min=1}\ndim m{min=1}\ngraph @loss(%w: f32[n], %x: f32[m,n])" in good("opt", target, "-p", "cse,dce")
    for args in (["run", target, "--random"], ["profile", target], ["bench", target]):
        told = run(*args).one_sentence()
        assert "net.py:loss leaves sizes open (f32[n], f32[m,n]); give them numbers in its types" in told
    assert "net.py:loss: Dim: a name is letters, digits and _" in run("inspect", "net.py:loss(f32[2x], f32[3,2])").one_sentence()


def test_programs_are_targets_of_commands(place: pathlib.Path) -> None:
    ng.export.program(lambda w, x: {"scores": np.tanh(x @ w)}, "a.ngx", (np.ones((3, 2), np.float32), ng.spec((ng.Dim("batch"), 3))))
    assert re.search(r"^x +f32\[4,3\].*\nscores +f32\[4,2\]", good("run", "a.ngx(batch=4)", "--random"), re.M)
    assert "tanh" in good("inspect", "a.ngx(batch=4)") and "%x: f32[batch,3]" in good("opt", "a.ngx", "-p", "cse,dce")
    told = run("run", "a.ngx", "--random").one_sentence()
    assert "leaves sizes open (batch from 1); say how large they are, as in 'program.ngx(batch=2)'" in told
    assert "there is no dimension 'time'" in run("run", "a.ngx(time=4)", "--random").one_sentence()
    pathlib.Path("a.ngx").write_bytes(pathlib.Path("a.ngx").read_bytes()[:-3])
    assert "a.ngx: it is no program, or cut off" in run("run", "a.ngx", "--random").one_sentence()


def test_large_weights_show_progress(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(progress, "_STEP", 64)
    with progress.listening(lambda *seen: told.append(seen)):
        ng.export.program(lambda w, x: x @ w, "a.ngx", (np.ones((3, 20), np.float32), ng.spec((2, 3))))
    assert told == [("weights.safetensors", n, 240) for n in (64, 128, 192, 240)]
    shown = io.StringIO()
    monkeypatch.setattr(command, "console", lambda: rich.console.Console(file=shown, force_terminal=True, width=100))
    monkeypatch.setattr(command, "LARGE_NBYTES", 100)
    good("export", "a.ngx", "--to", "program", "-o", "b.ngx")
    assert "weights.safetensors" in shown.getvalue() and "b.ngx" in shown.getvalue()


def test_help_teaches_each_form(monkeypatch: pytest.MonkeyPatch) -> None:
    out = good("export", "--help")
    for name, form in FORMS.items():
        assert re.search(rf"nagraph export runs/gpt2 --to {name} +-o {re.escape(form.example)} +{re.escape(form.about)}", out)
        assert all(f"--{o.name.replace('_', '-')} " in out and o.help.split()[0] in out for o in form.options)
    assert Form("m", "folder", "").suffix == "" and Option("a", int, "b").name == "a"


def test_the_page_has_a_row_for_each_form() -> None:
    """docs/exporting.md says what goes where and what is lost; each form is a function of `ng.export`."""
    page = (ROOT / "docs" / "exporting.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+)` \|", page.partition("| form |")[2].partition("\n\n")[0], re.M)) == sorted(FORMS)
    for name, form in FORMS.items():
        signature = inspect.signature(getattr(ng.export, name))
        assert list(signature.parameters)[:3] in (["what", place, "args_or_specs"] for place in ("path", "folder"))
        assert signature.return_annotation == "pathlib.Path" and "names" in signature.parameters
        assert all(o.name in signature.parameters for o in form.options), name
    assert set(dir(ng.export)) >= FORMS.keys()
    with pytest.raises(AttributeError, match="has no form 'cards'; there is program, onnx"):
        _ = ng.export.cards
