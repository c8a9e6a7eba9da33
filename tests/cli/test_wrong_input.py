"""Wrong input on the command line: one sentence on stderr, an exit code that is not 0, and nothing written."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from nagraph.storage import safetensors_bytes
from tests.cli.running import TEXT, TINY, contents, run, spawn


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A text, and a checkpoint after two steps on it."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "text.txt").write_text(TEXT)
    assert run("train", "gpt2", "--data", folder / "text.txt", "--steps", 2, "--out", folder / "run", *TINY).code == 0
    return folder


@pytest.fixture
def place(tmp_path: pathlib.Path, original: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder with all kinds of wrong files, which is the working directory."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "bytes.txt").write_bytes(b"text and then \xff\xfe" * 100)
    (tmp_path / "zeros.txt").write_bytes(b"text and then \0" * 100)
    (tmp_path / "other.txt").write_text(TEXT[::-1])
    (tmp_path / "nothing").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "bad.ng").write_text("graph @f(%x: f32[2]) -> (f32[2]) {\n  %0: f32[2] = tahn(%x)\n  return %0\n}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ["train", "gpt2", *TINY, "--steps", "3", "--out", "new/run"]
GOOD = ["--data", "text.txt"]


@pytest.mark.parametrize("args, told", [
    ([*TRAIN, "--data", "missing.txt"], "missing.txt does not exist"),
    ([*TRAIN, "--data", "empty.txt"], "empty.txt is empty"),
    ([*TRAIN, "--data", "bytes.txt"], "bytes.txt is no UTF-8 text: byte 14 is 0xff"),
    ([*TRAIN, "--data", "zeros.txt"], "zeros.txt is a binary file: it holds zero bytes"),
    ([*TRAIN, "--data", "short.txt"], "short.txt holds 9 characters; training needs at least 90 (one context of 8 in each of 10 parts)"),
    ([*TRAIN, "--data", "nothing"], "nothing holds no text file (.txt, .md, "),
    ([*TRAIN, "--data", "pictures"], "pictures holds no text file"),
    ([*TRAIN, *GOOD, "--context", "5000"], "training needs at least 50,010"),
    (["train", "gpt5", *GOOD], "unknown model 'gpt5' (did you mean gpt2?); there is gpt2"),
    ([*TRAIN, *GOOD, "--backend", "abacus"], "unknown backend 'abacus'; there is llvm, "),
    ([*TRAIN, *GOOD, "--width", "9"], "width 9 must be a multiple of heads 2"),
    ([*TRAIN, *GOOD, "--horizon", "50"], "the horizon, 50 steps, must lie beyond the warm-up of 100"),
    ([*TRAIN, *GOOD, "--learning-rate", "nan"], "learning_rate must be a number greater than 0, got nan"),
    ([*TRAIN, *GOOD, "--seed", str(2**64)], "seed must be a whole number"),
    ([*TRAIN, *GOOD, "--out", "text.txt"], "text.txt"),
    ([*TRAIN, *GOOD, "--out", "text.txt/sub"], "can't be written: it is no folder"),
    ([*TRAIN, *GOOD, "--out", "run"], "run holds a checkpoint already; add --resume to go on from it, or name another folder with --out"),
    ([*TRAIN, *GOOD, "--resume"], "new/run holds no checkpoint: there is no checkpoint.json"),
    (["train", "gpt2", *GOOD, "--resume", "--out", "text.txt"], "text.txt can't be written: it is no folder"),
    (["train", "gpt2", "--data", "other.txt", "--resume", "--out", "run"], "text.txt) than other.txt; resume with the data"),
    (["train", "gpt2", *GOOD, "--resume", "--out", "run", "--width", "16"], "run was trained with width 8, so it can't go on with 16; "),
    (["train", "gpt2", *GOOD, "--resume", "--out", "run", "--steps", "1"], "run is at step 2 already, beyond --steps 1"),
    ([*TRAIN, *GOOD, "--batch", "1000000000000"], "not enough memory: Unable to allocate"),
    (["generate", "run", "--prompt", ""], "the prompt is empty"),
    (["generate", "run", "--prompt", "the Ω"], "the model does not know the characters 'Ω'; it was trained on a text without them"),
    (["generate", "missing", "--prompt", "the"], "missing holds no checkpoint: there is no checkpoint.json"),
    (["generate", "nothing", "--prompt", "the"], "nothing holds no checkpoint"),
    (["generate", "text.txt", "--prompt", "the"], "text.txt holds no checkpoint"),
    (["generate", "run", "--prompt", "the", "--backend", "abacus"], "unknown backend 'abacus'"),
    (["generate", "run", "--prompt", "the", "--temperature", "nan"], "the temperature is at least 0, got nan"),
    (["inspect", "abacus"], "unknown target 'abacus'; there is a model (gpt2, "),
    (["inspect", "gpt2", "--pass", "fuze"], "unknown pass 'fuze' (did you mean fuse?); there is "),
    (["inspect", "gpt2", "--pass", "fuse", "--pipeline", "cse"], "the pipeline cse does not run fuse"),
    (["inspect", "gpt2", "--pipeline", "fuse{"], "can't read the pipeline 'fuse{'"),
    (["opt", "missing.ng"], "missing.ng does not exist"),
    (["opt", "nothing"], "nothing holds no checkpoint: there is no checkpoint.json"),
    (["opt", "bytes.txt"], "bytes.txt is no UTF-8 text: byte 14 is 0xff"),
])
def test_one_sentence(place: pathlib.Path, args: list[str], told: str) -> None:
    before = contents(place)
    done = run(*args)
    assert told in done.one_sentence() and done.code == 1
    assert contents(place) == before, "nothing is written"


@pytest.mark.parametrize("args, told", [
    (["trian"], "No such command 'trian'"),
    (["train"], "Missing command (nagraph train --help tells more)"),
    (["train", "gpt2", "--steps", "0"], "Invalid value for '--steps': 0 is not in the range x>=1 (nagraph train gpt2 --help tells more)"),
    (["train", "gpt2", "--steps", "many"], "Invalid value for '--steps': 'many' is not a valid integer"),
    (["train", "gpt2", "--step-size", "3"], "No such option '--step-size'"),
    (["generate", "run"], "Missing option '--prompt'"),
    (["generate", "run", "--prompt", "a", "--top-k", "0"], "Invalid value for '--top-k'"),
    (["opt"], "Missing argument 'TARGET'"),
])
def test_wrong_usage(place: pathlib.Path, args: list[str], told: str) -> None:
    done = run(*args)
    assert told in done.one_sentence() and done.code == 2


@pytest.mark.parametrize("file, told", [
    ("bad.ng", "bad.ng: line 2, column 16: unknown op 'tahn'; did you mean"),
    ("empty.txt", "empty.txt: line 1, column 1: a text holds at least one graph"),
    ("short.txt", "short.txt: line 1, column 1: expected 'graph'"),
])
def test_texts_that_are_no_graphs(place: pathlib.Path, file: str, told: str) -> None:
    """A sentence, the line, and a caret."""
    done = run("opt", file)
    lines = done.err.splitlines()
    assert done.code == 1 and done.out == "" and lines[0].startswith(f"nagraph: {told}") and lines[-1].strip() == "^" and len(lines) <= 3


def test_a_graph_that_a_pass_can_not_take(place: pathlib.Path) -> None:
    (place / "f.ng").write_text("graph @f(%x: f32[2]) -> (f32[2]) {\n  return %x\n}\n")
    assert "unknown pass 'quux'; there is " in run("opt", "f.ng", "-p", "quux").one_sentence()
    assert "option max_nodes has the type int, got 'x'" in run("opt", "f.ng", "-p", "fuse{max_nodes='x'}").one_sentence()


# -- checkpoints that are damaged or foreign --------------------------------------------------------------


def facts_of(folder: pathlib.Path) -> dict:
    return json.loads((folder / "checkpoint.json").read_text())


def tensors_of(folder: pathlib.Path) -> pathlib.Path:
    return folder / facts_of(folder)["tensors"]


def write_tensors(folder: pathlib.Path, content: bytes) -> None:
    """Other tensors under the digest that belongs to them, so that only their contents can be wrong."""
    facts = facts_of(folder)
    tensors_of(folder).write_bytes(content)
    (folder / "checkpoint.json").write_text(json.dumps({**facts, "sha256": hashlib.sha256(content).hexdigest()}))


def change_facts(**changes: object) -> Callable[[pathlib.Path], None]:
    return lambda folder: (folder / "checkpoint.json").write_text(json.dumps({**facts_of(folder), **changes}))  # type: ignore[func-returns-value]


def change_json(content: bytes) -> Callable[[pathlib.Path], None]:
    return lambda folder: (folder / "checkpoint.json").write_bytes(content)  # type: ignore[func-returns-value]


def change_header(change: Callable[[bytes], bytes]) -> Callable[[pathlib.Path], None]:
    """Change the file of tensors after its length of 8 bytes, and claim the digest of what comes out."""
    return lambda folder: write_tensors(folder, change(tensors_of(folder).read_bytes()))


def lie_about_sizes(content: bytes) -> bytes:
    """The first tensor claims to be a thousand times as long as it is."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + length])
    name = next(n for n in header if n != "__metadata__")
    header[name]["shape"] = [1000 * s for s in header[name]["shape"]] or [1000]
    header[name]["data_offsets"][1] += 10**9
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length:]


def flip(folder: pathlib.Path) -> None:
    path = tensors_of(folder)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def widen_recipe(folder: pathlib.Path) -> None:
    facts = facts_of(folder)
    change_facts(recipe={**facts["recipe"], "width": 2**20})(folder)


FOREIGN = safetensors_bytes({"weight": np.zeros((3, 4), np.float32)})


@pytest.mark.parametrize("damage, told", [
    (lambda f: tensors_of(f).write_bytes(tensors_of(f).read_bytes()[:-100]), "damaged"),
    (lambda f: tensors_of(f).write_bytes(b""), "damaged"),
    (lambda f: tensors_of(f).unlink(), "does not exist"),
    (flip, "is damaged: its contents are not those that checkpoint.json names"),
    (change_header(lambda c: struct.pack("<Q", 2**62) + c[8:]), "damaged, or no safetensors file"),
    (change_header(lambda c: c[:8] + b"[" + c[9:]), "damaged, or no safetensors file"),
    (change_header(lie_about_sizes), "damaged, or no safetensors file"),
    (change_header(lambda c: FOREIGN), "its tensors are not those of its recipe"),
    (change_header(lambda c: b"PK\3\4 another format" * 9), "damaged, or no safetensors file"),
    (change_json(b""), "checkpoint.json is damaged"),
    (change_json(b'{"format": "nagraph'), "checkpoint.json is damaged"),
    (change_json(b"\xff\xfe\0\0"), "checkpoint.json is damaged"),
    (change_json(b"[" * 100_000), "checkpoint.json is damaged"),
    (change_json(b'{"epoch": 3}'), "is no checkpoint of this program"),
    (change_json(b"[1, 2]"), "is damaged: it holds a list in place of"),
    (change_facts(format="another program 2"), "is no checkpoint of this program"),
    (change_facts(model="abacus"), "is a checkpoint of 'abacus'"),
    (change_facts(step=-1), "names no tensors or no step"),
    (change_facts(tensors="../text.txt"), "names no tensors or no step"),
    (change_facts(recipe={"layers": 1}), "its recipe is not one that this version knows"),
    (widen_recipe, "its tensors are not those of its recipe"),
], ids=lambda x: x[:40] if isinstance(x, str) else "")
def test_damaged_checkpoints(place: pathlib.Path, damage: Callable[[pathlib.Path], object], told: str) -> None:
    damage(place / "run")
    before = contents(place)
    for args in (["generate", "run", "--prompt", "the"], ["train", "gpt2", *GOOD, "--resume", "--out", "run", "--steps", "3"]):
        done = run(*args)
        assert told in done.one_sentence() and done.out == ""
    assert contents(place) == before


# -- disks and permissions --------------------------------------------------------------------------------


def limit(nbytes: int) -> Callable[[], None]:
    """Files end at this size, as on a disk without space."""
    def set_limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes))

    return set_limit


def test_no_space_at_the_start(place: pathlib.Path) -> None:
    before = contents(place)
    done = spawn(*TRAIN, *GOOD, cwd=place, preexec_fn=limit(4096))
    assert re.fullmatch(r"new/run/step-00000000-\w{8}.safetensors can't be written: File too large", done.one_sentence())
    assert contents(place) == before, "not even the folders"


def test_no_space_later_leaves_the_last_checkpoint(place: pathlib.Path) -> None:
    before = contents(place)
    done = spawn("train", "gpt2", *GOOD, "--resume", "--out", "run", "--steps", 4, cwd=place, preexec_fn=limit(4096))
    assert "can't be written: File too large" in done.one_sentence()
    assert {**contents(place), "run/log.csv": None} == {**before, "run/log.csv": None}
    assert run("train", "gpt2", *GOOD, "--resume", "--out", "run", "--steps", 4).code == 0, "with space it goes on"


def test_no_space_for_the_picture(place: pathlib.Path) -> None:
    nbytes = tensors_of(place / "run").stat().st_size
    assert nbytes < 30_000 < (place / "run" / "loss.png").stat().st_size
    done = spawn(*TRAIN, *GOOD, cwd=place, preexec_fn=limit(30_000))
    assert done.one_sentence() == "new/run/loss.png can't be written: File too large"
    made = contents(place / "new" / "run")
    facts = facts_of(place / "new" / "run")
    kept = {x["tensors"] for x in facts["earlier"]}
    assert set(made) == {"checkpoint.json", "log.csv", facts["tensors"], *kept}, "the checkpoint is whole, no half picture"
    assert run("generate", "new/run", "--prompt", "the ", "--length", 5).code == 0


def without_roots_rights() -> Callable[[], None]:
    """Permissions hold for root too in a process that starts without the capabilities to ignore them. Skips where that can't be."""
    if os.geteuid():
        return lambda: None
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "prctl"):
        pytest.skip("root may do everything here")

    def drop() -> None:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP

    return drop


def test_no_permission(place: pathlib.Path) -> None:
    drop = without_roots_rights()
    (place / "secret.txt").write_text(TEXT)
    (place / "closed").mkdir()
    before = contents(place)
    for name, mode in (("secret.txt", 0), ("closed", 0o555), ("run/checkpoint.json", 0)):
        (place / name).chmod(mode)
    if not subprocess.run(["cat", "secret.txt"], cwd=place, preexec_fn=drop, capture_output=True).returncode:
        pytest.skip("root may do everything here")
    for args, told in [
        ([*TRAIN, *GOOD, "--out", "closed/run"], "can't be written: Permission denied"),
        ([*TRAIN, "--data", "secret.txt"], "secret.txt can't be read: Permission denied"),
        (["opt", "secret.txt"], "secret.txt can't be read: Permission denied"),
        (["generate", "run", "--prompt", "a"], "run/checkpoint.json can't be read: Permission denied"),
    ]:
        assert told in spawn(*args, cwd=place, preexec_fn=drop).one_sentence()
    for name, mode in (("secret.txt", 0o644), ("closed", 0o755), ("run/checkpoint.json", 0o644)):
        (place / name).chmod(mode)
    assert contents(place) == before
