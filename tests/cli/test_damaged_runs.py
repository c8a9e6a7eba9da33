"""Whatever stands in the files of a run: `train --resume` goes on, or says in one sentence what is wrong and changes nothing.

Each file is damaged in each of its parts: fields of the JSON and of the log by values of every type, bytes at random, and in place
of the file something that is none.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cli.running import COMMAND, TEXT, TINY, Result, contents, environment, run
from tests.support import within

STEPS = 4


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of a few steps that keeps two checkpoints and was evaluated, and its text."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "text.txt").write_text(TEXT)
    done = run("train", "gpt2", "--data", folder / "text.txt", "--steps", STEPS, "--evaluate-every", 2, "--keep", 2, *TINY,
               "--out", folder / "run")
    assert done.code == 0
    return folder


@pytest.fixture
def place(original: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    with within(100):
        yield tmp_path / "run"


def resume(steps: int = STEPS) -> Result:
    return run("train", "gpt2", "--data", "text.txt", "--resume", "--out", "run", "--steps", steps)


def check(folder: pathlib.Path, told: str = "") -> Result:
    """It goes on as if nothing were, or refuses in one sentence and leaves all files as they are."""
    before = contents_of_files(folder)
    done = resume()
    if done.code:
        assert told in done.one_sentence()
        assert contents_of_files(folder) == before
    else:
        assert not told and not done.err, done
    return done


def contents_of_files(folder: pathlib.Path) -> dict[str, Any]:
    return {p.name: p.read_bytes() if p.is_file() else p.lstat().st_mode for p in folder.iterdir()}


# -- checkpoint.json, field by field -----------------------------------------------------------------------------------

VALUES = [None, True, -1, 0, 1, 3, 10**30, 1.5, float("nan"), float("inf"), "", "..", "/etc/passwd", "a\0b", "x" * 100_000, [], [1],
          [[1]], {}, {"step": "1"}, [{"step": None}], [{"step": 1, "value": "nan"}], {"a": {}}]


def places(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a JSON."""
    if path:
        yield path
    for key, value in found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ():
        yield from places(value, (*path, key))


def changed(found: Any, path: tuple[Any, ...], change: Callable[[Any, Any], object]) -> str:
    made = json.loads(json.dumps(found))
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return json.dumps(made)


def test_every_field_of_the_checkpoint(place: pathlib.Path) -> None:
    """Reading alone: all fields, all values. What is read goes on in the tests below."""
    from nagraph.errors import NagraphError
    from nagraph.models.training import Run

    path = place / "checkpoint.json"
    facts = json.loads(path.read_text())
    paths = list(places(facts))
    assert ("scored", 1, "value") in paths and ("earlier", 0, "tensors") in paths and ("recipe", "width") in paths
    read = 0
    for where in paths:
        changes = [lambda inner, key: inner.__delitem__(key)] + [lambda inner, key, v=v: inner.__setitem__(key, v) for v in VALUES]
        for change in changes:
            path.write_text(changed(facts, where, change))
            try:
                Run.resume(place, pathlib.Path("text.txt"), backend="numpy").close()
                read += 1
            except NagraphError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000, where
    assert read > len(paths), "some changes are as good as what stood there"


@pytest.mark.parametrize("where", [("step",), ("scored",), ("scored", 0, "step"), ("scored", 0, "value"), ("earlier",),
                                   ("earlier", 0, "step"), ("earlier", 0, "tensors"), ("tensors",), ("facts",),
                                   ("facts", "tokenizer", "symbols"), ("data",)], ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_the_command_with_a_damaged_field(place: pathlib.Path, where: tuple[Any, ...], seed: int) -> None:
    path, rng = place / "checkpoint.json", random.Random(f"{where} {seed}")
    value = rng.choice(VALUES)
    path.write_text(changed(json.loads(path.read_text()), where, lambda inner, key: inner.__setitem__(key, value)))
    check(place)


# -- log.csv -------------------------------------------------------------------------------------------------------------

ROWS = ["", "x", "²,1,1,1,", "-1,1,1,1,", "1", "1,2,3,4,5,6,7", ",,,,", f"{10**30},1,1,1,", f"{'9' * 5000},1,1,1,", "1.5,1,1,1,",
        "nan,1,1,1,", '"1,1,1,1,', '"a\n"",1,1,1,1', "\0,1,1,1,", "1,1,1,1,\r2", "x" * 200_000, "step,loss,gradient_norm,seconds,loss"]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: ascii(r[:12]))
@pytest.mark.parametrize("at", [0, 2])
def test_every_field_of_the_log(place: pathlib.Path, row: str, at: int) -> None:
    path = place / "log.csv"
    lines = path.read_text().split("\n")
    assert lines[at] != row
    path.write_text("\n".join([*lines[:at], row, *lines[at + 1:]]))
    assert check(place, "log.csv is damaged: line").code == 1


@pytest.mark.parametrize("cut", [0, 1, 20, 60])
def test_a_log_that_was_cut_off_goes_on(place: pathlib.Path, cut: int) -> None:
    """As a process leaves it that was killed while it wrote."""
    path = place / "log.csv"
    text = path.read_text()
    path.write_text(text[:len(text) - cut])
    assert check(place).code == 0
    rows = path.read_text().splitlines()
    assert rows == text.splitlines()[:len(rows)]


# -- bytes, and what is no file --------------------------------------------------------------------------------------------

def damaged(content: bytes, rng: random.Random) -> bytes:
    i, j = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice([content[:i], content[:i] + content[j:], content[:j] + content[i:], content[i:],
                       content[:i] + rng.randbytes(rng.randrange(1, 30)) + content[i:],
                       content[:i] + bytes([content[i - 1] ^ 1 << rng.randrange(8)]) + content[i + 1:]])


@pytest.mark.parametrize("name", ["checkpoint.json", "log.csv", "step-*.safetensors"])
def test_bytes_at_random(place: pathlib.Path, name: str) -> None:
    rng = random.Random(name)
    path = sorted(place.glob(name))[-1]
    content = path.read_bytes()
    for _ in range(25):
        path.write_bytes(damaged(content, rng))
        if not check(place).code:  # then it has written the file anew
            path.write_bytes(content)


OBJECTS: dict[str, Callable[[pathlib.Path], object]] = {
    "pipe": os.mkfifo, "folder": os.mkdir, "loop of links": lambda f: f.symlink_to(f.name), "device": lambda f: f.symlink_to("/dev/zero"),
    "link to nothing": lambda f: f.symlink_to("nowhere"), "larger than memory": lambda f: (f.touch(), os.truncate(f, 1 << 43)),
}


@pytest.mark.parametrize("name", ["checkpoint.json", "log.csv", "step-*.safetensors"])
@pytest.mark.parametrize("put", OBJECTS.values(), ids=OBJECTS)
def test_what_is_no_file(place: pathlib.Path, name: str, put: Callable[[pathlib.Path], object]) -> None:
    path = sorted(place.glob(name))[-1]
    path.unlink()
    put(path)
    done = resume()
    if done.code:
        done.one_sentence()
    else:
        assert name == "log.csv" and path.is_file()


# -- two runs ----------------------------------------------------------------------------------------------------------------

def start(*more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, "train", "gpt2", "--data", "text.txt", "--out", "both", "--steps", "100000", *map(str, more)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def test_two_runs_do_not_share_a_folder(place: pathlib.Path) -> None:
    """The second says so at once and touches nothing; a run that was killed is no obstacle."""
    both = place.parent / "both"
    first = start(*TINY)
    try:
        assert first.stdout is not None
        first.stdout.readline()  # it has begun
        for more in (TINY, ["--resume"]):
            done = run("train", "gpt2", "--data", "text.txt", "--out", "both", "--steps", "3", *more)
            assert done.one_sentence().startswith("another process is training in both; wait for its end, or name another folder")
        while not (both / "checkpoint.json").exists():
            assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
    step = json.loads((both / "checkpoint.json").read_text())["step"]
    assert run("train", "gpt2", "--data", "text.txt", "--out", "both", "--steps", step + 1, "--resume").code == 0
    assert json.loads((both / "checkpoint.json").read_text())["step"] == step + 1


def test_two_runs_that_begin_at_the_same_time(place: pathlib.Path) -> None:
    runs = [start(*TINY) for _ in range(2)]
    try:
        loser = next(r for _ in iter(int, 1) for r in runs if r.poll() is not None)
        assert loser.returncode == 1 and "another process is training in both" in loser.communicate()[1]
    finally:
        for r in runs:
            r.kill()
            r.communicate()


def test_a_refused_run_leaves_no_folder(place: pathlib.Path) -> None:
    before = contents(place.parent)
    assert run("train", "gpt2", "--data", "missing", "--out", "a/b/c").one_sentence() == "missing does not exist"
    assert contents(place.parent) == before
