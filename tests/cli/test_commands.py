"""`nagraph generate`, `inspect`, `opt`, `info`."""

from __future__ import annotations

import io
import pathlib
import re

import pytest

import nagraph as ng
from nagraph.backends import BACKENDS, find
from nagraph.cli.lazy import Commands
from nagraph.pipeline import Pipeline
from tests.cli.running import TEXT, TINY, run, spawn
from tests.support import CPU_BACKENDS
from tests.tools import tool

GRAPH = """graph @twice(%x: f32[4]) -> (f32[4]) {
  %0: f32[4] = tanh(%x)
  %1: f32[4] = tanh(%x)
  %2: f32[4] = add(%0, %1)
  return %2
}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    assert run("train", "gpt2", "--data", folder / "text.txt", "--steps", 2, "--out", folder / "run", *TINY).code == 0
    return folder / "run"


# -- generate ---------------------------------------------------------------------------------------------


def test_generation_continues_the_prompt(trained: pathlib.Path) -> None:
    done = run("generate", trained, "--prompt", "the cat ", "--length", 30)
    assert done.code == 0 and done.err == ""
    assert done.out.startswith("the cat ") and len(done.out) == len("the cat ") + 30 + 1 and done.out.endswith("\n")
    assert set(done.out[:-1]) <= set(TEXT)


def test_generation_is_a_function_of_the_seed(trained: pathlib.Path) -> None:
    def written(*options: object) -> str:
        return run("generate", trained, "--prompt", "the ", "--length", 40, *options).out

    assert written() == written() == written("--seed", 0, "--temperature", 0.8, "--backend", "numpy")
    assert len({written("--seed", s) for s in range(3)}) == 3
    assert written("--temperature", 0) == written("--temperature", 0, "--seed", 7) == written("--top-k", 1, "--seed", 3)
    assert written("--temperature", 0) != written()
    assert written("--top-p", 1e-9) == written("--temperature", 0) != written("--temperature", 0, "--repetition-penalty", 5)


def test_a_process_of_its_own_writes_the_same(trained: pathlib.Path) -> None:
    args = ("generate", trained, "--prompt", "the ", "--length", 20, "--seed", 5)
    assert spawn(*args) == run(*args)


def test_a_prompt_longer_than_the_context(trained: pathlib.Path) -> None:
    prompt = "the cat sat on the mat, and "
    assert run("generate", trained, "--prompt", prompt, "--length", 3).out.startswith(prompt)


def test_the_step_of_generation_is_exported_with_a_page(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    tool("wasm-ld")
    done = run("export", trained, "--to", "wasm", "--generate", "-o", tmp_path / "page")
    assert done.code == 0 and "index.html" in done.out
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<title>run writes</title>" in page and ">The </textarea>" not in page  # there is no T in the text
    assert run("export", trained, "--to", "native", "--generate", "-o", tmp_path / "step").code == 0
    assert "logits" in (tmp_path / "step" / "step.h").read_text()
    assert "--train and --layers are not" in run("export", trained, "--to", "wasm", "--generate", "--train", "-o", tmp_path / "a").err
    assert "is a model without weights" in run("export", "gpt2", "--to", "wasm", "--generate", "-o", tmp_path / "a").one_sentence()


# -- inspect ----------------------------------------------------------------------------------------------


def counts(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"^// .*: (\d+) nodes$", text, re.MULTILINE)]


def test_inspect_prints_the_graph_before_and_after() -> None:
    done = run("inspect", "gpt2")
    assert done.code == 0 and done.err == ""
    traced, after = done.out.split("// after ")
    assert traced.startswith("// as traced: ") and after.startswith("canonicalize,narrow,simplify,")
    assert 'layer_norm' in traced and "gpt2.py:" in traced, "composites by name, and the user's lines"
    assert 'kind="fused"' in after and 'kind="fused"' not in traced
    before, then = counts(done.out)
    assert before == traced.partition("return")[0].count("\n") - 2 and then > 10


def test_inspect_one_pass() -> None:
    done = run("inspect", "gpt2", "--pass", "fuse")
    assert re.match(r"// before fuse{[^}]*} \(pass \d+\): \d+ nodes\n", done.out) and "// after fuse{" in done.out
    before, after = counts(done.out)
    assert after < before
    halves = done.out.split("// after fuse")
    assert 'kind="fused"' not in halves[0] and 'kind="fused"' in halves[1]


def test_inspect_the_training_step() -> None:
    forward, step = (counts(run("inspect", "gpt2", *options).out) for options in ([], ["--train"]))
    assert step[0] > 10 * forward[0]
    deeper = counts(run("inspect", "gpt2", "--layers", 2).out)
    assert deeper[0] > forward[0]


def test_inspect_differences_and_other_pipelines() -> None:
    done = run("inspect", "gpt2", "--pass", "cse", "--pipeline", "expand,cse", "--diff")
    lines = done.out.splitlines()
    changed = [line for line in lines if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    assert done.code == 0 and changed and any(line.startswith("-") for line in changed)
    assert "after expand,cse: " in run("inspect", "gpt2", "--pipeline", " expand, cse ").out


def test_inspect_prints_the_code_that_runs() -> None:
    assert run("inspect", "sgemm_64", "--source", "llvm").out.count("define ") >= 1
    assert run("inspect", "sgemm_64", "--source", "kernel").out.startswith("kernel (in p0: f32")
    assert "there is no source 'cuda'; there is llvm and asm" in run("inspect", "sgemm_64", "--source", "cuda").one_sentence()
    told = run("inspect", "sgemm_64", "--target", "sm_90").one_sentence()
    assert told == "backend 'llvm' compiles for the machine that it runs on, and has no target 'sm_90'"


# -- opt --------------------------------------------------------------------------------------------------


def test_opt_runs_passes_on_a_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "twice.ng").write_text(GRAPH)
    done = run("opt", tmp_path / "twice.ng", "-p", "cse")
    assert done.code == 0 and done.out.count("tanh") == 1
    assert ng.parse(done.out) == Pipeline.parse("cse")(ng.parse(GRAPH))
    assert ng.parse(run("opt", tmp_path / "twice.ng", "-p", "dce").out) == ng.parse(GRAPH)
    assert ng.parse(run("opt", tmp_path / "twice.ng").out) == Pipeline.parse(find().pipeline)(ng.parse(GRAPH))


def test_opt_writes_the_forms_that_hold_graphs(tmp_path: pathlib.Path) -> None:
    (tmp_path / "twice.ng").write_text(GRAPH)
    for name in ("a.ngx", "a.mlir"):
        assert run("opt", tmp_path / "twice.ng", "-p", "cse", "-o", tmp_path / name).code == 0
    assert ng.load_program(tmp_path / "a.ngx").graph == Pipeline.parse("cse")(ng.parse(GRAPH))
    assert (tmp_path / "a.mlir").read_text().count("stablehlo.tanh") == 1
    done = run("opt", tmp_path / "twice.ng", "-o", tmp_path / "a.txt")
    assert done.code != 0 and "name a file that ends in .ng, for the text form, or in .onnx, .mlir, .ngx" in done.err


def test_opt_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(GRAPH))
    assert run("opt", "-", "-p", "cse,dce").out == f"{Pipeline.parse('cse,dce')(ng.parse(GRAPH))}\n"
    assert spawn("opt", "-", "-p", "cse", input=GRAPH).out.count("tanh") == 1


# -- info and help ----------------------------------------------------------------------------------------


def test_info() -> None:
    done = run("info")
    rows = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in done.out.splitlines() if len(line.split()) > 1}
    assert rows["nagraph"] == ng.__version__ and all(re.search(rf"^backend {name} +\S", done.out, re.M) for name in BACKENDS)
    assert all(re.search(rf"^backend {name} +usable", done.out, re.M) for name in CPU_BACKENDS)
    assert re.match(r"\d+ usable of \d+", rows["threads"]) and len(rows["cpu"]) > 2 and rows["numpy"][0].isdigit()


def test_info_says_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else found(name, *rest))
    assert re.search(r"matplotlib +not installed", run("info").out)


@pytest.mark.parametrize("args", [[], *([name] for name in Commands.names)], ids=lambda a: a[0] if a else "nagraph")
def test_help(args: list[str]) -> None:
    done = run(*args, "--help")
    assert done.code == 0 and done.out.startswith("Usage: nagraph ") and "-h, --help" in done.out
    assert run(*args, "-h") == done


def test_no_command_shows_the_commands() -> None:
    done = run()
    assert done.code == 2 and all(name in done.out + done.err for name in Commands.names)


def test_version() -> None:
    assert run("--version").out == f"nagraph, version {ng.__version__}\n"
