"""Images in class folders: classes, sizes, channels, what is held out, and pictures that are none."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.images import load

Image = pytest.importorskip("PIL.Image")


def save(path: pathlib.Path, pixels: Any, **options: Any) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def noise(seed: int = 0, height: int = 6, width: int = 6, channels: int | None = None) -> Any:
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def classes(folder: pathlib.Path, count: int = 8, **shape: Any) -> pathlib.Path:
    """Folders cat and dog with `count` images each."""
    for k, kind in enumerate(("dog", "cat")):
        for i in range(count):
            save(folder / kind / f"{i:02}.png", noise(100 * k + i, **shape))
    return folder


def refused(path: pathlib.Path, message: str, **options: Any) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)


def test_a_quarter_of_each_class_is_held_out_by_the_seed(tmp_path: pathlib.Path) -> None:
    found = load(classes(tmp_path), seed=1)
    assert found.train.names == ("cat", "dog") and found.source == str(tmp_path)
    assert np.bincount(found.train.labels).tolist() == [6, 6] and np.bincount(found.held_out.labels).tolist() == [2, 2]
    assert found.train.pixels.shape == (12, 1, 6, 6) and found.train.pixels.dtype == np.float32 and found.train.labels.dtype == np.int32
    known = {(noise(100 * k + i) / np.float32(255)).astype(np.float32).tobytes(): 1 - k for k in range(2) for i in range(8)}
    for part in (found.train, found.held_out):
        for pixels, label in zip(part.pixels, part.labels):
            assert known.pop(pixels.tobytes()) == label
    assert not known, "every image is on one side"
    assert load(tmp_path, seed=1).sha256 == found.sha256 != load(tmp_path, seed=2).sha256


@pytest.mark.parametrize("name", ["test", "val"])
def test_folders_for_training_and_test(name: str, tmp_path: pathlib.Path) -> None:
    classes(tmp_path / "train", 3)
    save(tmp_path / name / "dog" / "a.png", noise(7))
    found = load(tmp_path)
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and found.held_out.labels.tolist() == [1]
    assert np.array_equal(np.rint(found.held_out.pixels[0, 0] * 255), noise(7))


def test_a_folder_train_alone_is_split(tmp_path: pathlib.Path) -> None:
    classes(tmp_path / "train", 4)
    found = load(tmp_path)
    assert (len(found.train), len(found.held_out)) == (6, 2)


def test_a_class_may_be_named_train(tmp_path: pathlib.Path) -> None:
    classes(tmp_path)
    for i in range(2):
        save(tmp_path / "train" / f"{i}.png", noise(i))
    assert load(tmp_path).train.names == ("cat", "dog", "train")


def test_images_are_cut_and_scaled_to_a_size(tmp_path: pathlib.Path) -> None:
    classes(tmp_path)
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 200
    for i in range(4):
        save(tmp_path / "wide" / f"{i}.png", wide)
        save(tmp_path / "tall" / f"{i}.png", wide.T)
    refused(tmp_path, r"00.png is 6 x 6 pixels, .*tall.0.png 10 x 30; give a size to bring all images to")
    found = load(tmp_path, size=5)
    assert found.train.pixels.shape[1:] == (1, 5, 5)
    middle = found.train.pixels[found.train.labels >= 2]
    assert len(middle) == 6 and np.allclose(middle[..., 1:-1, 1:-1], 200 / 255) and middle.min() > 0.6, "the middle square is kept"


def test_one_image_in_colour_makes_all_three_channels(tmp_path: pathlib.Path) -> None:
    classes(tmp_path)
    colour = noise(1, channels=3)
    for kind in ("red", "green"):
        for i in range(2):
            save(tmp_path / kind / f"{i}.png", colour)
    found = load(tmp_path)
    assert found.train.pixels.shape[1] == 3
    grey = found.train.pixels[found.train.labels == 0]
    assert np.array_equal(grey[:, 0], grey[:, 1]) and np.array_equal(grey[:, 0], grey[:, 2])
    assert np.array_equal(np.rint(found.train.pixels[-1] * 255), colour.transpose(2, 0, 1))


def test_other_files_and_hidden_ones_are_passed_over(tmp_path: pathlib.Path) -> None:
    classes(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "labels.csv").write_text("a,b")
    assert len(load(tmp_path).train) == 12


def test_kinds_of_images(tmp_path: pathlib.Path) -> None:
    """Sixteen bits are scaled, palettes and transparency give colours, EXIF turns."""
    for i, pixels in enumerate((np.full((6, 4), 0x8010, np.uint16), np.full((6, 4), 0, np.uint16))):
        save(tmp_path / "a" / f"{i}.png", pixels)
        Image.new("P", (4, 6)).save(tmp_path / "a" / f"p{i}.png")
    for i in range(2):
        save(tmp_path / "b" / f"{i}.png", noise(i, 6, 4, 4))
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        save(tmp_path / "b" / f"turned{i}.jpg", noise(i, 4, 6), exif=exif)
    found = load(tmp_path)
    assert found.train.pixels.shape[1:] == (3, 6, 4)
    everything = np.concatenate([found.train.pixels, found.held_out.pixels])
    assert {round(float(p.min()) * 255) for p in everything if np.ptp(p) == 0} == {0, 0x80}


def damaged(path: pathlib.Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("spoil, message", [
    (lambda f: damaged(f / "cat/03.png", lambda b: b[:len(b) // 2]), "03.png can't be read as an image: "),
    (lambda f: damaged(save(f / "cat/big.jpg", noise(0, 60, 60)), lambda b: b[:-500]),
     "big.jpg can't be read as an image: image file is truncated"),
    (lambda f: damaged(f / "cat/03.png", lambda b: b"words" * 20), "03.png is no image in a format that Pillow knows"),
    (lambda f: damaged(f / "cat/03.png", lambda b: b""), "03.png is empty"),
    (lambda f: [p.unlink() for p in (f / "cat").iterdir()], r"the class folder .*cat holds no images \(.png, .jpg"),
    (lambda f: [p.unlink() for p in sorted((f / "cat").iterdir())[1:]],
     "the class folder .*cat holds one image; one to learn from and one to hold out are needed"),
    (lambda f: (f / "cat").rename(f / ".cat"), "holds the one class folder dog; there is nothing to tell apart"),
    (lambda f: save(f / "cat/wide.png", noise(0, 6, 9)), "00.png is 6 x 6 pixels, .*wide.png 9 x 6; give a size"),
], ids=["truncated", "truncated JPEG", "no picture", "empty", "empty class", "one image", "one class", "sizes"])
def test_bad_folders(spoil: Callable[[pathlib.Path], Any], message: str, tmp_path: pathlib.Path) -> None:
    classes(tmp_path)
    spoil(tmp_path)
    refused(tmp_path, message)


def test_bad_test_folders(tmp_path: pathlib.Path) -> None:
    classes(tmp_path / "train")
    save(tmp_path / "test" / "loose.png", noise())
    refused(tmp_path, "test holds no class folders, as .*train does")
    (tmp_path / "test" / "cat").mkdir()
    refused(tmp_path, "the class folder .*cat holds no images")
    save(tmp_path / "test" / "bird" / "a.png", noise())
    refused(tmp_path, "test has the class bird, which .*train does not have")


def test_without_pillow(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    refused(tmp_path, r"reading the image .*00.png needs Pillow, which is not installed: pip install 'nagraph\[data\]'")
