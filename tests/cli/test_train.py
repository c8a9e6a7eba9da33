"""`nagraph train`: what it writes and says, resuming bit for bit, Ctrl-C, steps that are not finite."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest

from nagraph.storage import read_safetensors
from tests.cli.running import COMMAND, TEXT, TINY, Result, contents, environment, run, spawn


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def trained(data: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, Result]:
    """Eight steps without a stop."""
    out = tmp_path_factory.mktemp("trained") / "new" / "run"
    return out, run("train", "gpt2", "--data", data, "--steps", 8, "--out", out, *TINY)


def checkpoint(folder: pathlib.Path) -> dict[str, bytes | None]:
    """The files of a checkpoint, without picture and times, and without how often it was evaluated."""
    facts = json.loads((folder / "checkpoint.json").read_text())
    scored, earlier = facts.pop("scored"), facts.pop("earlier")
    assert all(x["value"] > 0 for x in scored) and len(earlier) <= 1
    return {"facts": json.dumps(facts).encode(), "tensors": (folder / facts["tensors"]).read_bytes()}


def state(folder: pathlib.Path) -> dict[str, np.ndarray]:
    facts = json.loads((folder / "checkpoint.json").read_text())
    return {n: x for n, x in read_safetensors(folder / facts["tensors"])[0].items() if n.startswith("state.")}


def test_it_writes_checkpoint_and_picture(trained: tuple[pathlib.Path, Result], data: pathlib.Path) -> None:
    folder, done = trained
    assert done.code == 0 and done.err == ""
    facts = json.loads((folder / "checkpoint.json").read_text())
    kept = {x["tensors"] for x in facts["earlier"]}
    assert set(contents(folder)) == {"checkpoint.json", facts["tensors"], "loss.png", "log.csv", *kept}, "and no drafts"
    assert facts["step"] == 8 and facts["model"] == "gpt2" and facts["recipe"]["width"] == 8
    assert facts["data"]["source"] == str(data)
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG\r\n")
    tensors, _ = read_safetensors(folder / facts["tensors"])
    assert tensors["losses"].shape == (8,) and np.isfinite(tensors["losses"]).all()
    assert {n.split(".")[1] for n in tensors if n.startswith("state.")} == {"model", "optimiser", "average", "count"}


def test_it_tells_data_model_baselines_and_a_sample(trained: tuple[pathlib.Path, Result]) -> None:
    folder, done = trained
    assert f"{len(set(TEXT))} symbols, last tenth held out" in done.out and "parameters " in done.out
    for name in ("compiled in", "chance", "Kneser-Ney, order 1", "Kneser-Ney, order 5", "gpt2 after 8 steps", "A sample"):
        assert name in done.out, name
    uniform = next(line for line in done.out.splitlines() if "chance" in line)
    assert f" {len(set(TEXT))} " in uniform
    assert f"checkpoint  {folder}" in done.out and str(folder / "loss.png") in done.out


@pytest.mark.parametrize("stops", [[4], [1, 6]], ids=str)
def test_resuming_is_bit_for_bit_the_run_without_a_stop(trained: tuple[pathlib.Path, Result], data: pathlib.Path,
                                                        tmp_path: pathlib.Path, stops: list[int]) -> None:
    folder = tmp_path / "run"
    assert run("train", "gpt2", "--data", data, "--steps", stops[0], "--out", folder, *TINY).code == 0
    for steps in (*stops[1:], 8):
        assert run("train", "gpt2", "--data", data, "--steps", steps, "--out", folder, "--resume").code == 0
    assert checkpoint(folder) == checkpoint(trained[0])


def test_seed_decides_and_nothing_else(trained: tuple[pathlib.Path, Result], data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name, options in (("same", ["--seed", 0, "--backend", "llvm"]), ("other", ["--seed", 1])):
        assert run("train", "gpt2", "--data", data, "--steps", 8, "--out", tmp_path / name, *TINY, *options).code == 0
    assert checkpoint(tmp_path / "same") == checkpoint(trained[0])
    a, b = state(tmp_path / "other"), state(trained[0])
    assert not np.array_equal(a["state.model.position"], b["state.model.position"])


def test_resuming_at_the_last_step_changes_nothing(trained: tuple[pathlib.Path, Result], data: pathlib.Path) -> None:
    before = checkpoint(trained[0])
    done = run("train", "gpt2", "--data", data, "--steps", 8, "--out", trained[0], "--resume", "--width", 8)
    assert done.code == 0 and checkpoint(trained[0]) == before


def test_a_horizon_is_stored_and_lowers_the_rate(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name, options in (("plain", []), ("falling", ["--horizon", 150])):
        assert run("train", "gpt2", "--data", data, "--steps", 104, "--out", tmp_path / name, *TINY, *options).code == 0
    assert json.loads((tmp_path / "falling" / "checkpoint.json").read_text())["recipe"]["horizon"] == 150
    losses = [read_safetensors(tmp_path / n / json.loads((tmp_path / n / "checkpoint.json").read_text())["tensors"])[0]["losses"]
              for n in ("plain", "falling")]
    assert np.array_equal(losses[0][:101], losses[1][:101]) and not np.array_equal(losses[0], losses[1]), "it falls after the warm-up"


def test_without_matplotlib_all_but_the_picture(data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run("train", "gpt2", "--data", data, "--steps", 1, "--out", tmp_path / "run", *TINY)
    assert done.code == 0 and "not drawn: it needs matplotlib (pip install 'nagraph[plot]')" in done.out
    assert not (tmp_path / "run" / "loss.png").exists() and (tmp_path / "run" / "checkpoint.json").exists()


def test_folders_of_texts(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "texts" / "sub").mkdir(parents=True)
    (tmp_path / "texts" / "a.txt").write_text(TEXT)
    (tmp_path / "texts" / "sub" / "b.md").write_text("Ξ" * 50)
    (tmp_path / "texts" / "c.bin").write_bytes(b"\0\1")
    done = run("train", "gpt2", "--data", tmp_path / "texts", "--steps", 1, "--out", tmp_path / "run", *TINY)
    assert done.code == 0 and f"{len(set(TEXT)) + 2} symbols" in done.out


# -- steps that are not finite ----------------------------------------------------------------------------


def test_a_step_that_is_not_finite_ends_the_run_and_changes_nothing(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Exit 1, one sentence with operation and line, and the state before the step, from which one can go on."""
    folder, options = tmp_path / "run", [*TINY, "--learning-rate", "1e37"]
    done = run("train", "gpt2", "--data", data, "--steps", 9, "--out", folder, *options)
    assert done.code == 1 and "loss" in done.one_sentence() and "comes first from" in done.one_sentence() and ".py:" in done.one_sentence()
    step = int(done.one_sentence().split("step ")[1].split(":")[0])
    assert json.loads((folder / "checkpoint.json").read_text())["step"] == step - 1
    before = state(folder)
    assert all(np.isfinite(x).all() for x in before.values())
    again = run("train", "gpt2", "--data", data, "--steps", 9, "--out", folder, "--resume")
    assert again.code == 1 and again.one_sentence() == done.one_sentence()
    after = state(folder)
    assert before.keys() == after.keys() and all(before[n].tobytes() == after[n].tobytes() for n in before)


def test_the_log_has_a_row_for_each_step(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Also where a run went on from an earlier step than the log's last."""
    folder = tmp_path / "run"
    assert run("train", "gpt2", "--data", data, "--steps", 4, "--out", folder, *TINY, "--evaluate-every", 2).code == 0
    with open(folder / "log.csv", "a") as file:
        file.write("5,1.0,1.0,1.0,\n6,0.")
    assert run("train", "gpt2", "--data", data, "--steps", 6, "--out", folder, "--resume", "--evaluate-every", 2).code == 0
    rows = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    assert rows[0] == ["step", "loss", "gradient_norm", "seconds", "metric"]
    assert [r[0] for r in rows[1:]] == list("123456") and [bool(r[4]) for r in rows[1:]] == [False, True] * 3
    losses = read_safetensors(folder / json.loads((folder / "checkpoint.json").read_text())["tensors"])[0]["losses"]
    np.testing.assert_allclose([float(r[1]) for r in rows[1:]], losses, rtol=1e-6)


def test_patience_ends_a_run_that_does_not_get_better(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "run"
    done = run("train", "gpt2", "--data", data, "--steps", 400, "--out", folder, *TINY, "--learning-rate", "1e-12",
               "--evaluate-every", 2, "--patience", 3, "--keep", 2)
    facts = json.loads((folder / "checkpoint.json").read_text())
    assert done.code == 0 and "stopped   3 evaluations without one better" in done.out and facts["step"] < 400
    best = min(facts["scored"], key=lambda x: x["value"])["step"]
    kept = [x["step"] for x in facts["earlier"]]
    assert best in kept and len(kept) <= 2 and all((folder / x["tensors"]).exists() for x in facts["earlier"])


def test_events_for_tensorboard(data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    assert run("train", "gpt2", "--data", data, "--steps", 2, "--out", folder, *TINY, "--tensorboard").code == 0
    (events,) = (folder / "events").iterdir()
    assert b"gradient_norm" in events.read_bytes() and b"loss" in events.read_bytes()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    done = run("train", "gpt2", "--data", data, "--steps", 2, "--out", tmp_path / "other", *TINY, "--tensorboard")
    assert done.code == 1 and "pip install 'nagraph[logs]'" in done.one_sentence()


# -- Ctrl-C -----------------------------------------------------------------------------------------------


def test_ctrl_c_saves_and_says_how_to_go_on(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """After the first line of progress: exit 130, and what it says leads to the run that was never stopped."""
    folder = tmp_path / "a run"
    command = [*COMMAND, "train", "gpt2", "--data", str(data), "--steps", "1000000", "--out", str(folder), *TINY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step  100/1000000"):
                break
        assert " nats " in line and " tokens/s " in line and line.rstrip().endswith(" left")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == ""
    step = json.loads((folder / "checkpoint.json").read_text())["step"]
    said = out.splitlines()[-1]
    assert step >= 100 and said.startswith(f"stopped after step {step}, which is saved; to go on: nagraph train gpt2 ")
    again = shlex.split(said.partition("to go on: nagraph ")[2])
    assert again[-2:] == ["--steps", "1000000"]
    assert run(*again[:-1], step + 5).code == 0
    assert run("train", "gpt2", "--data", data, "--steps", step + 5, "--out", tmp_path / "straight", *TINY).code == 0
    assert checkpoint(folder) == checkpoint(tmp_path / "straight")


#: The command line in a process that is interrupted once more while it ends.
AGAIN = (sys.executable, "-c", "import atexit, os, signal, sys; atexit.register(os.kill, os.getpid(), signal.SIGINT); "
         "from nagraph.cli import main; main(sys.argv[1:])")


def test_ctrl_c_in_generation_and_once_more(trained: tuple[pathlib.Path, Result]) -> None:
    command = [*AGAIN, "generate", str(trained[0]), "--prompt", "the ", "--length", "1000000"]
    env = {**environment(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None and process.stdout.read(30).startswith(b"the ")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and b"Traceback" not in err


# -- where the output goes --------------------------------------------------------------------------------


def test_on_a_terminal_a_bar_with_loss_rate_and_time(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "train", "gpt2", "--data", str(data), "--steps", "300", "--out", str(tmp_path / "run"), *TINY]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env={**environment(), "TERM": "xterm"}) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
    os.close(ours)
    text = shown.decode()
    assert process.returncode == 0 and "step  300/300" in text and " nats" in text and "k tokens/s" in text and "0:00:0" in text
    assert "step  100/300  " not in text, "lines are for files and pipes"


def test_nobody_reads_the_output(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """| head: quiet, and the steps done until then are saved."""
    folder = tmp_path / "run"
    command = [*COMMAND, "train", "gpt2", "--data", str(data), "--steps", "1000000", "--out", str(folder), *TINY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line.startswith("step  100/"):
                break
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode not in (0, None, -signal.SIGPIPE) and err == ""
    step = json.loads((folder / "checkpoint.json").read_text())["step"]
    assert step >= 200 and step % 100 == 0, "stopped at the next line"
    assert run("generate", folder, "--prompt", "the ", "--length", 5).code == 0


@pytest.mark.parametrize("args", [["inspect", "gpt2", "--train"], ["info"]], ids=lambda a: a[0])
def test_other_output_that_nobody_reads(args: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([*COMMAND, *args], stdout=write, stderr=subprocess.PIPE, text=True, env=environment(), timeout=60)
    finally:
        os.close(write)
    assert done.returncode == 1 and done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_to_a_full_disk() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "info"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), timeout=60)
    assert done.returncode == 1 and done.stderr == "nagraph: No space left on device\n"


def test_help_names_every_option() -> None:
    done = spawn("train", "gpt2", "--help")
    for name in ("--data", "--steps", "--seed", "--out", "--resume", "--backend", "--horizon"):
        assert name in done.out
    assert done.code == 0 and "Ctrl-C" in done.out
