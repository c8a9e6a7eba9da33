"""Targets: every command that compiles takes a model, an operation, a run's folder, a function with types, or a graph."""

from __future__ import annotations

import io
import json
import pathlib

import numpy as np
import pytest

import nagraph as ng
from nagraph.cli.targets import resolve
from nagraph.errors import NagraphError
from nagraph.models.tasks.gpt2 import GPT2Recipe, GPT2Task
from nagraph.models.training import Run
from tests.cli.running import TEXT, Result, run

GRAPH = """graph @twice(%x: f32[4]) -> (f32[4]) {
  %0: f32[4] = tanh(%x)
  %1: f32[4] = tanh(%x)
  %2: f32[4] = add(%0, %1)
  return %2
}
"""
SCRIPT = '''
import dataclasses
import numpy as np
import nagraph as ng
from beside import scale

@dataclasses.dataclass
class Options:
    rate: float = 0.5

def loss(w, x):
    """Of a linear model."""
    return scale * ((x @ w) ** 2).mean()

@ng.jit
def jitted(w, x):
    return ng.grad(loss)(w, x)

def constant():
    return ng.numpy.ones(3)

def broken(x):
    return x.nonsense

size = 3
if __name__ == "__main__":
    raise SystemExit("it is a script here")
'''


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("targets")
    (folder / "net.py").write_text(SCRIPT)
    (folder / "beside.py").write_text("scale = 2.0\n")
    (folder / "early.py").write_text("import numpy\n\nnumber = 1 / 0\n")
    (folder / "wrong.py").write_text("def f(:\n")
    (folder / "twice.ng").write_text(GRAPH)
    (folder / "text.txt").write_text(TEXT)
    Run(GPT2Task.begin(GPT2Recipe(layers=1, heads=2, width=8, context=8, batch=2), folder / "text.txt")).save(folder / "run")
    return folder


@pytest.fixture(autouse=True)
def working_directory(here: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])


ALL = {
    "gpt2": "gpt2 infer", "sgemm_64": "sgemm_64", "run": "run infer", "twice.ng": "twice.ng", "net.py:constant": "net.py:constant",
    "net.py:loss(f32[3], f32[8,3])": "net.py:loss", "net.py:jitted( f32[3],f32[8,3] )": "net.py:jitted",
    "net:loss(f64[3], f64[8,3])": "net:loss", "numpy.linalg:norm(f32[4])": "numpy.linalg:norm",
}


@pytest.mark.parametrize("text", ALL)
def test_what_is_understood_has_a_graph_and_runs(text: str) -> None:
    title, work = resolve(text, usual_layers=1)
    assert title == ALL[text]
    graph = work.graph()
    assert [(a.shape, a.dtype) for a in work.arrays()] == [(v.shape, v.dtype) for v in graph.inputs]
    if text != "gpt2":
        assert work.calls("numpy")() is not None


def test_functions_show_their_names_and_lines() -> None:
    graph = resolve("net.py:loss(f32[3], f32[8,3])").work.graph()
    text = str(graph)
    assert text.startswith("graph @loss(%w: f32[3], %x: f32[8,3])") and "// net.py:13" in text


def test_a_graph_gives_what_it_computes() -> None:
    work = resolve("twice.ng").work
    (x,) = work.arrays()
    np.testing.assert_allclose(work.calls("llvm")()[0], 2 * np.tanh(x), rtol=1e-6)


def test_a_folder_has_the_sizes_and_the_weights_of_its_run(here: pathlib.Path) -> None:
    facts = json.loads((here / "run" / "checkpoint.json").read_text())
    kept = ng.storage.read_safetensors(here / "run" / facts["tensors"])[0]["state.average.token.table"]
    model, _ = resolve("run").work.arguments
    assert np.array_equal(model.token.table, kept)


@pytest.mark.parametrize("args", [
    ["inspect", "net.py:loss(f32[3], f32[8,3])", "--diff"], ["inspect", "twice.ng", "--pass", "cse"], ["inspect", "run"],
    ["opt", "net:loss(f32[3], f32[8,3])", "-p", "cse"], ["opt", "twice.ng"], ["opt", "run", "-p", "dce"],
    ["bench", "twice.ng", "net.py:loss(f32[3], f32[8,3])", "--quick", "--threads", 1, "--out", "out/bench.json"],
], ids=lambda args: f"{args[0]} {args[1]}")
def test_commands_take_every_target(args: list[object]) -> None:
    done = run(*args)
    assert done.code == 0 and done.err == "" and done.out, done


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(GRAPH))
    assert run("inspect", "-", "--pass", "cse", "--pipeline", "cse").out.startswith("// before cse (pass 1): 3 nodes")


WRONG = {
    "abacus": "unknown target 'abacus'; there is a model (gpt2, llama, vit, resnet, bert, clip), an operation (ew_chain_4M, ...), "
              "a folder that nagraph train left, script.py:function(f32[2,3]), module:function(f32[2,3]), an ONNX model, "
              "model.onnx(batch=2), a program, step.ngx, and a graph, file.ng or - for standard input",
    "gpt5": "unknown target 'gpt5' (did you mean gpt2?); there is",
    "modern": "unknown target 'modern' (it is called llama now); there is",
    "missing.ng": "missing.ng does not exist",
    "text.txt": "text.txt: ",
    "net.py": "net.py is a script; name one of its functions, with the types of its arguments: 'net.py:function(f32[2,3])'",
    "gone.py:f": "gone.py does not exist",
    "net.py:los(f32[3])": "net.py has no los (did you mean loss?); its functions are broken, constant, jitted, loss",
    "net.py:size": "net.py:size is no function, but int",
    "net.py:loss": "net.py:loss(w, x) can't be called with 0 arrays (missing a required argument: 'w'); name their types: "
                   "'net.py:loss(f32[2,3], ...)'",
    "net.py:loss(f32[3])": "can't be called with 1 arrays (missing a required argument: 'x')",
    "net.py:loss(f32[3], f31[8,3])": "net.py:loss: 'f31[8,3]' does not begin with a type such as f32[2,3]; dtypes are bool, ",
    "net.py:loss(f32[3] f32[3])": "'f32[3] f32[3]' does not begin with a type",
    "net.py:loss(3)": "'3' does not begin with a type",
    "nowhere:f": "there is no module 'nowhere' to import; modules are looked for in ",
    "numpy.nowhere:f": "there is no module 'numpy.nowhere' to import",
    "nothing": "nothing holds no checkpoint: there is no checkpoint.json",
}


@pytest.mark.parametrize("command", ["inspect", "opt", "profile", "tune", "bench"])
@pytest.mark.parametrize("text", ["abacus", "net.py:los(f32[3])"])
def test_all_commands_say_the_same(text: str, command: str) -> None:
    assert WRONG[text] in run(command, text).one_sentence()


@pytest.mark.parametrize("text", WRONG)
def test_what_is_not_understood_is_told_in_a_sentence(text: str, here: pathlib.Path) -> None:
    (here / "nothing").mkdir(exist_ok=True)
    with pytest.raises(NagraphError) as caught:
        resolve(text)
    assert WRONG[text] in str(caught.value)


def told(done: Result) -> str:
    """Errors of the user's own code name their class, and the line."""
    assert done.code == 1 and len(done.err.splitlines()) == 1 and "Traceback" not in done.err
    return done.err


def test_errors_of_the_users_code_name_its_line() -> None:
    assert "early.py: ZeroDivisionError: division by zero (early.py:3)" in told(run("inspect", "early.py:f"))
    assert "wrong.py: SyntaxError: " in (found := told(run("inspect", "wrong.py:f"))) and "(wrong.py:1)" in found
    assert "AttributeError: " in (found := told(run("inspect", "net.py:broken(f32[3])"))) and "(net.py:23)" in found
    assert "inner sizes differ" in (found := told(run("inspect", "net.py:loss(f32[3], f32[8,4])"))) or "f32[8,4]" in found


def test_what_only_models_have() -> None:
    assert "twice.ng has no training step to choose, which models have" in run("inspect", "twice.ng", "--train").one_sentence()
    assert "sgemm_64 has no layers that could be chosen" in run("profile", "sgemm_64", "--layers", 2).one_sentence()
    assert "resnet has no layers that could be counted" in run("inspect", "resnet", "--layers", 2).one_sentence()
    for command in (["generate", "gpt2", "--prompt", "a"], ["eval", "gpt2"]):
        assert "gpt2 is a model without weights; name a folder that nagraph train left, such as runs/gpt2" in run(*command).one_sentence()


def test_a_graph_of_open_sizes_runs_once_they_are_given(here: pathlib.Path) -> None:
    file = here / "open.ng"
    file.write_text("dim n{min=2}\n" + GRAPH.replace("f32[4]", "f32[n,4]"))
    assert run("opt", file, "-p", "cse").out.count("tanh") == 1, "passes that need no sizes"
    assert "f32[8,4]" in run("opt", f"{file}(n=8)", "-p", "cse,dce,fuse").out
    work = resolve(f"{file}(n=8)").work
    assert [x.shape for x in work.executable()(*work.arrays())] == [(8, 4)]
    assert run("profile", file).one_sentence() == "graph twice leaves sizes open (n from 2); say how large they are, as in 'graph.ng(n=2)'"
    assert "there is no dimension 'm'; the graph has n" in run("opt", f"{file}(m=8)", "-p", "cse").one_sentence()
    assert "the dimension n is a whole number, n from 2; got 1" in run("opt", f"{file}(n=1)", "-p", "cse").one_sentence()
