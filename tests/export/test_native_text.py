"""A program in C continues a text with a trained GPT-2, by the functions of a library that read a prompt and take a step with the cache."""

from __future__ import annotations

import pathlib
import subprocess

from nagraph.models.generation import generate
from nagraph.models.pretrained import load_language_model
from tests.cli.running import TEXT, run
from tests.tools import tool

PROGRAM = pathlib.Path(__file__).parents[2] / "docs" / "write_text.c"
SIZES = ("--layers", 2, "--heads", 2, "--width", 16, "--context", 40, "--batch", 8, "--steps", 120, "--learning-rate", 0.02, "--warm-up", 5)


def test_a_program_in_c_writes_what_generation_writes(tmp_path):
    (tmp_path / "notes.txt").write_text(TEXT)
    assert not run("train", "gpt2", *SIZES, "--data", tmp_path / "notes.txt", "--out", tmp_path / "run").code
    model, tokenizer = load_language_model(tmp_path / "run")
    exported = "--to", "native", "--generate", "--target", "x86-64-v3", "-o", tmp_path / "gpt2"
    assert not run("export", tmp_path / "run", *exported).code
    assert "no sizes that are open" in run("export", tmp_path / "run", *exported, "--sizes", "batch=1").one_sentence()
    symbols = ['"' + "".join(f"\\{byte:03o}" for byte in s.encode()) + '"' for s in tokenizer.symbols]
    (tmp_path / "text.h").write_text(f"#define CONTEXT {model.config.context}\n#define EACH_LAYER(X) X(0) X(1)\n"
                                     f"#define SYMBOLS {', '.join(symbols)}\n")
    source = PROGRAM.read_text()
    assert len(source.splitlines()) < 100
    package = [tool("pkg-config"), "--cflags", "--libs", tmp_path / "gpt2" / "gpt2.pc"]
    flags = subprocess.run(package, capture_output=True, text=True).stdout.split()
    subprocess.run([tool("gcc"), "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-g", f"-I{tmp_path}", PROGRAM, *flags, "-lm",
                    "-o", tmp_path / "write_text"], check=True)

    def written(*arguments: str, under: tuple[str, ...] = ()) -> str:
        done = subprocess.run([*under, tmp_path / "write_text", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for prompt, length in (("the cat 1", 100), ("t", 3), (TEXT[:40], 50), (TEXT[:29], 20)):
        wanted = tokenizer.decode(list(generate(model, tokenizer.encode(prompt), length, temperature=0)))
        assert written(prompt, str(length), "0") == f"{prompt}{wanted}\n"
    assert len(set(written("the cat 1", "100", "0"))) > 8, "the model has learned to write more than one symbol"
    assert len(written("the ", "30", "1.5")) == 35
    valgrind = tool("valgrind"), "-q", "--error-exitcode=9", "--fair-sched=yes"
    assert written("the cat 1", "45", "0", under=valgrind) == written("the cat 1", "45", "0")
    refused = subprocess.run([tmp_path / "write_text", "the Ä", "3", "0"], capture_output=True, text=True)
    assert refused.returncode == 1 and "the model can't read: Ä" in refused.stderr
