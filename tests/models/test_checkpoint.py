"""Checkpoints: whatever happens while one is written, a whole one is there; whatever is wrong with one is said in a sentence."""

from __future__ import annotations

import builtins
import errno
import json
import os
import pathlib
import signal
import time
from typing import Any

import numpy as np
import pytest

from nagraph import files
from nagraph.errors import CheckpointError
from nagraph.models import checkpoint

OLD = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.int32(4)}
NEW = {"w": np.full((2, 3), 7, np.float32), "count": np.int32(5)}


def names(folder: pathlib.Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def holds(folder: pathlib.Path, step: int, tensors: dict[str, Any]) -> bool:
    facts, found = checkpoint.read(folder, "toy")
    return facts["step"] == step and found.keys() == tensors.keys() and all(np.array_equal(found[n], x) for n, x in tensors.items())


def write(folder: pathlib.Path, step: int, tensors: dict[str, Any]) -> None:
    checkpoint.write(folder, step, {"model": "toy", "note": "ü"}, {n: np.asarray(x) for n, x in tensors.items()})


def test_a_model_that_had_another_name(tmp_path: pathlib.Path) -> None:
    checkpoint.write(tmp_path, 4, {"model": "modern"}, OLD)
    assert checkpoint.read_facts(tmp_path, "llama")["model"] == "llama"


def test_the_last_checkpoint_is_the_one(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "runs" / "toy"
    assert not checkpoint.exists(folder)
    write(folder, 4, OLD)
    assert checkpoint.exists(folder) and holds(folder, 4, OLD)
    write(folder, 4, OLD)
    assert holds(folder, 4, OLD), "the same again"
    (folder / "mine.txt").write_text("a file of the user's")
    (folder / ".step-00000003-0.safetensors.ab12").write_text("a draft of a process that was killed")
    write(folder, 5, NEW)
    assert holds(folder, 5, NEW)
    facts = checkpoint.read_facts(folder)
    assert facts["note"] == "ü" and names(folder) == ["checkpoint.json", "mine.txt", facts["tensors"]]


class Stop(Exception):
    """What a test raises where a process might die."""


def every_moment(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Any:
    """Arms a failure at the n-th call into the file system while a checkpoint is written; tells whether it was reached."""
    counted = {"left": 0, "reached": False}

    def guarded(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            counted["left"] -= 1
            if counted["left"] == 0:
                counted["reached"] = True
                raise error
            return real(*args, **options)

        return call

    def arm(n: int) -> None:
        counted.update(left=n, reached=False)

    monkeypatch.setattr(builtins, "open", guarded(open))
    for name in ("fsync", "replace", "open"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    for name in ("mkdir", "glob"):
        monkeypatch.setattr(pathlib.Path, name, guarded(getattr(pathlib.Path, name)))
    return arm, counted


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), Stop()], ids=repr)
@pytest.mark.parametrize("step", [4, 5])
def test_a_failure_at_any_moment_leaves_a_whole_checkpoint(
        step: int, error: BaseException, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same step too, where another run's tensors take the place of the old ones."""
    outcomes = set()
    for n in range(1, 100):
        folder = tmp_path / str(n)
        write(folder, 4, OLD)
        before = names(folder)
        with monkeypatch.context() as patch:
            arm, counted = every_moment(patch, error)
            arm(n)
            try:
                write(folder, step, NEW)
            except (CheckpointError, KeyboardInterrupt, Stop) as caught:
                assert not isinstance(error, OSError) or "No space left on device" in str(caught)
        old = holds(folder, 4, OLD)
        assert old or holds(folder, step, NEW), f"failure {n} left no whole checkpoint"
        if old:
            assert names(folder) == before, f"failure {n} left something half written"
        outcomes.add(old)
        if not counted["reached"]:
            break
    assert outcomes == {True, False} and n > 6, "failures before the turning point and after it, and then none"


def test_a_failure_in_a_new_folder_leaves_no_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CheckpointError, match="can't be written: No space left on device"):
        write(tmp_path / "runs" / "toy", 4, OLD)
    assert names(tmp_path) == []


def spoil(folder: pathlib.Path, **changes: Any) -> None:
    path = folder / checkpoint.NAME
    facts = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in facts.items() if v is not ...}))


def tensors_of(folder: pathlib.Path) -> pathlib.Path:
    found: pathlib.Path = folder / checkpoint.read_facts(folder)["tensors"]
    return found


def cut(folder: pathlib.Path) -> None:
    path = tensors_of(folder)
    path.write_bytes(path.read_bytes()[:-3])


def flip(folder: pathlib.Path) -> None:
    path = tensors_of(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def lie(folder: pathlib.Path) -> None:
    path = tensors_of(folder)
    path.write_bytes(path.read_bytes().replace(b"[2,3]", b"[3,3]"))


WRONG: dict[str, tuple[Any, str]] = {
    "no folder": (lambda f: [p.unlink() for p in f.iterdir()] and f.rmdir(), "holds no checkpoint: there is no checkpoint.json"),
    "no json": (lambda f: (f / checkpoint.NAME).unlink(), "holds no checkpoint: there is no checkpoint.json"),
    "empty json": (lambda f: (f / checkpoint.NAME).write_text(""), "checkpoint.json is damaged"),
    "cut json": (lambda f: (f / checkpoint.NAME).write_text('{"format": "nagr'), "checkpoint.json is damaged"),
    "binary json": (lambda f: (f / checkpoint.NAME).write_bytes(b"\xff\0\xfe"), "checkpoint.json is damaged"),
    "deep json": (lambda f: (f / checkpoint.NAME).write_text("[" * 100_000), "checkpoint.json is damaged"),
    "list": (lambda f: (f / checkpoint.NAME).write_text("[1]"), "checkpoint.json is damaged: it holds a list in place of"),
    "foreign": (lambda f: (f / checkpoint.NAME).write_text('{"epoch": 3}'), "is no checkpoint of this program .it would say 'nagraph"),
    "another format": (lambda f: spoil(f, format="nagraph checkpoint 99"), "is no checkpoint of this program"),
    "another model": (lambda f: spoil(f, model="resnet"), "is a checkpoint of 'resnet', not of 'toy'"),
    "no tensors": (lambda f: spoil(f, tensors=...), "it names no tensors or no step"),
    "tensors elsewhere": (lambda f: spoil(f, tensors="../../secret"), "it names no tensors or no step"),
    "tensors here": (lambda f: spoil(f, tensors="."), "it names no tensors or no step"),
    "tensors above": (lambda f: spoil(f, tensors=".."), "it names no tensors or no step"),
    "step in words": (lambda f: spoil(f, step="four"), "it names no tensors or no step"),
    "step that is true": (lambda f: spoil(f, step=True), "it names no tensors or no step"),
    "negative step": (lambda f: spoil(f, step=-1), "it names no tensors or no step"),
    "tensors lost": (lambda f: tensors_of(f).unlink(), r"step-00000004-\w{8}.safetensors does not exist"),
    "tensors cut": (cut, "is damaged, or no safetensors file"),
    "tensors empty": (lambda f: tensors_of(f).write_bytes(b""), "is damaged, or no safetensors file"),
    "tensors lying": (lie, "is damaged, or no safetensors file"),
    "tensors changed": (flip, "its contents are not those that checkpoint.json names"),
    "wrong hash": (lambda f: spoil(f, sha256="0" * 64), "its contents are not those that checkpoint.json names"),
    "no hash": (lambda f: spoil(f, sha256=...), "its contents are not those that checkpoint.json names"),
}


@pytest.mark.parametrize("name", WRONG)
def test_whatever_is_wrong_is_one_sentence(name: str, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "run"
    write(folder, 4, OLD)
    change, message = WRONG[name]
    change(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.read(folder, "toy")
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_file_is_no_checkpoint(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.read(tmp_path / "file")
    assert not checkpoint.exists(tmp_path / "file")
    with pytest.raises(CheckpointError, match="can't be written: Not a directory"):
        write(tmp_path / "file", 4, OLD)
    assert names(tmp_path) == ["file"]


# -- several checkpoints ------------------------------------------------------------------------------------


def test_the_last_ones_and_the_best_stay(tmp_path: pathlib.Path) -> None:
    for step in range(1, 8):
        checkpoint.write(tmp_path, step, {"model": "m"}, {"x": np.full(3, step)}, keep=3, best=2 if step > 2 else None)
    facts = checkpoint.read_facts(tmp_path)
    assert facts["step"] == 7 and [x["step"] for x in facts["earlier"]] == [2, 5, 6]
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    for step in (2, 5, 6, 7):
        found, tensors = checkpoint.read(tmp_path, step=step)
        assert found["step"] == step and tensors["x"].tolist() == [step] * 3
    with pytest.raises(CheckpointError, match="keeps no checkpoint of step 4; it has 2, 5, 6, 7"):
        checkpoint.read(tmp_path, step=4)


def test_one_that_is_no_longer_the_best_goes(tmp_path: pathlib.Path) -> None:
    for step, best in ((1, None), (2, 1), (3, 1), (4, 3), (5, 3)):
        checkpoint.write(tmp_path, step, {}, {"x": np.zeros(step)}, best=best)
    assert [x["step"] for x in checkpoint.read_facts(tmp_path)["earlier"]] == [3]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
def test_a_process_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path: pathlib.Path) -> None:
    """A hundred times: writing one after another, killed some milliseconds later; the next one goes on from what is there."""
    rng = np.random.default_rng(0)
    checkpoint.write(tmp_path, 0, {"model": "m"}, {"x": np.zeros(2_000)}, keep=2)
    steps = [0]
    for _ in range(100):
        child = os.fork()
        if not child:
            try:
                for step in range(steps[-1] + 1, steps[-1] + 10_000):
                    checkpoint.write(tmp_path, step, {"model": "m"}, {"x": np.full(2_000, float(step))}, keep=2, best=step // 2)
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        facts, tensors = checkpoint.read(tmp_path, "m")
        assert (tensors["x"] == facts["step"]).all() and facts["step"] >= steps[-1]
        for earlier in facts["earlier"]:
            assert (checkpoint.read(tmp_path, step=earlier["step"])[1]["x"] == earlier["step"]).all()
        steps.append(facts["step"])
    assert len(set(steps)) > 10, "they come to write"
    checkpoint.write(tmp_path, steps[-1] + 1, {}, {"x": np.zeros(1)})
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({checkpoint.NAME, checkpoint.read_facts(tmp_path)["tensors"]}), "no drafts"
