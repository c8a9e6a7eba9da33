"""`nagraph train`, `eval` and `generate` with every model: what they leave and say, and what wrong data are told."""

from __future__ import annotations

import json
import pathlib
import struct

import pytest

from nagraph.models import CLASSES
from tests.cli.running import TEXT, contents, run

SHORT = ("--batch", 8, "--steps", 6, "--warm-up", 2, "--horizon", 8)
BLOCKS = ("--layers", 1, "--heads", 2, "--width", 16)
SMALL = {
    "gpt2": (*BLOCKS, "--context", 8), "llama": (*BLOCKS, "--groups", 1, "--inner", 16, "--context", 8, "--vocabulary", 260),
    "vit": (*BLOCKS, "--patch", 4), "resnet": ("--width", 8, "--depths", "1,1"),
    "bert": (*BLOCKS, "--context", 16, "--vocabulary", 300, "--reading", 3), "clip": (*BLOCKS, "--text-layers", 1),
}
#: The picture beside the curve, and a row of the table that each model has.
LEFT = {"gpt2": (None, "Kneser-Ney, order 5"), "llama": (None, "Kneser-Ney of bytes, order 8"),
        "vit": ("predictions.png", "nearest neighbours"), "resnet": ("predictions.png", "logistic regression"),
        "bert": ("confusion.png", "TF-IDF"), "clip": ("similarity.png", "sees all but")}


def idx(path: pathlib.Path, labels: list[int], cut: int = 0) -> None:
    """MNIST's four files, the training images without their last bytes."""
    pixels = bytes(8 * 8 * len(labels))
    path.mkdir()
    for part in ("train", "t10k"):
        raw = struct.pack(">IIII", 2051, len(labels), 8, 8) + pixels
        (path / f"{part}-images-idx3-ubyte").write_bytes(raw[:len(raw) - cut] if part == "train" else raw)
        (path / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(labels)) + bytes(labels))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("models")
    (root / "text.txt").write_text(TEXT)
    for name, words in (("cats", "mew purr mice"), ("dogs", "bark bone run")):
        (root / "classes" / name).mkdir(parents=True)
        for i in range(6):
            (root / "classes" / name / f"{i}.txt").write_text(f"{words} the {i} " * 12)
    (root / "empty").mkdir()
    idx(root / "cut", [0, 1, 2], cut=40)
    idx(root / "eleven", [0, 1, 12])
    return root


@pytest.fixture
def here(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(place)
    return place


DATA = {"gpt2": "text.txt", "llama": "text.txt", "bert": "classes"}


def data(name: str) -> tuple[str, ...]:
    return ("--data", DATA[name]) if name in DATA else ()


@pytest.mark.parametrize("name", CLASSES)
def test_every_model_trains_reports_and_is_evaluated(name: str, here: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder, (picture, row) = tmp_path / "run", LEFT[name]
    done = run("train", name, *data(name), "--out", folder, *SMALL[name], *SHORT)
    assert done.code == 0 and done.err == "", done
    for told in ("data  ", "model  ", "compiled in", "waiting for data", "chance", row, f"{name} after 6 steps", "loss curve"):
        assert told in done.out, told
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG") and len((folder / "log.csv").read_text().splitlines()) == 7
    assert picture is None or (folder / picture).read_bytes().startswith(b"\x89PNG")
    facts = json.loads((folder / "checkpoint.json").read_text())
    assert facts["model"] == name and facts["step"] == 6

    before = contents(folder)
    again = run("eval", folder, *data(name))
    table = [line.split("│")[1:3] for line in done.out.splitlines() if "│" in line]
    assert again.code == 0 and [line.split("│")[1:3] for line in again.out.splitlines() if "│" in line] == table
    assert "other data" not in again.out and contents(folder) == before
    more = run("train", name, *data(name), "--out", folder, "--resume", "--steps", 7)
    assert more.code == 0 and f"{name} after 7 steps" in more.out


@pytest.mark.parametrize("args, told", [
    (["train", "vit", "--data", "text.txt"], "text.txt is no folder; understood are MNIST's IDX files"),
    (["train", "vit", "--data", "empty"], "empty holds no images in a layout that is understood"),
    (["train", "resnet", "--data", "classes"], "classes"),
    (["train", "vit", "--data", "cut"], "cut/train-images-idx3-ubyte is truncated: it holds 168 bytes, 3 x 8 x 8 elements take 208"),
    (["train", "vit", "--data", "eleven"], "12"),
    (["train", "bert", "--data", "text.txt"], "text.txt can't be read as a folder"),
    (["train", "bert", "--data", "empty"], "empty needs a folder of texts for each of at least two classes, it has 0"),
    (["train", "clip", "--data", "empty"], "empty holds no captions"),
    (["train", "vit", "--patch", 3], "image 8 must be a multiple of patch 3"),
    (["train", "llama", "--data", "text.txt", "--heads", 5], "width 192 must be a multiple of heads 5"),
    (["train", "llama", "--data", "text.txt", "--groups", 4], "heads 6 must be a multiple of groups 4"),
    (["train", "resnet", "--depths", "3,x"], "depths must be numbers such as 3,2,1, got '3,x'"),
    (["train", "abacus"], "unknown model 'abacus'; there is gpt2, "),
    (["eval", "empty"], "empty holds no checkpoint"),
])
def test_wrong_data_and_options_are_told_in_a_sentence(args: list[str], told: str, here: pathlib.Path) -> None:
    before = contents(here)
    done = run(*args)
    assert done.code != 0 and told in done.err and "Traceback" not in done.err and len(done.err.splitlines()) == 1
    assert contents(here) == before, "nothing is left behind"


def test_a_model_of_another_kind_is_refused(here: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "run"
    assert run("train", "resnet", "--out", folder, *SMALL["resnet"], *SHORT).code == 0
    assert "is a checkpoint of 'resnet', not of 'vit'" in run("train", "vit", "--out", folder, "--resume").one_sentence()
    assert "writes no text; gpt2 and llama do" in run("generate", folder, "--prompt", "a").one_sentence()


def test_images_that_the_model_does_not_know(here: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "run"
    assert run("train", "resnet", "--out", folder, *SMALL["resnet"], *SHORT).code == 0
    (here / "wide").mkdir(exist_ok=True)
    raw = struct.pack(">IIII", 2051, 3, 9, 9) + bytes(243)
    for part in ("train", "t10k"):
        (here / "wide" / f"{part}-images-idx3-ubyte").write_bytes(raw)
        (here / "wide" / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 3) + bytes([0, 1, 2]))
    told = run("eval", folder, "--data", "wide").one_sentence()
    assert "the model knows images [1, 8, 8] of 10 classes" in told and "[1, 9, 9]" in told
