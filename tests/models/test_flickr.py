"""Photographs with captions: both files that say them, the split by image, and input that is none."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.flickr import load

Image = pytest.importorskip("PIL.Image")
COUNT = 20


def pictures(folder: pathlib.Path) -> None:
    """Twenty images, each of one grey value, which tells them apart; wide and tall ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(COUNT):
        Image.new("RGB", (12, 8 + i), (10 * i,) * 3).save(folder / f"{i:02}.png")


def table(folder: pathlib.Path) -> pathlib.Path:
    """The layout with captions.txt: two captions an image, in quotes or not."""
    pictures(folder / "Images")
    lines = [f'{i:02}.png,"A dog , number {i} , runs ."\r\n{i:02}.png,A cat sits, number {i}\n' for i in range(COUNT)]
    (folder / "captions.txt").write_text("image,caption\n" + "".join(lines))
    return folder


def tokens(folder: pathlib.Path) -> pathlib.Path:
    """The layout with Flickr8k.token.txt, captions and images each in a folder."""
    pictures(folder / "Flicker8k_Dataset")
    (folder / "text").mkdir()
    lines = [f"{i:02}.png#0\tA dog , number {i} , runs .\n{i:02}.png#1\tA cat sits, number {i}\n" for i in range(COUNT)]
    (folder / "text" / "Flickr8k.token.txt").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("make", [table, tokens])
def test_both_files_and_the_split_by_image(make: Callable[[pathlib.Path], pathlib.Path], tmp_path: pathlib.Path) -> None:
    train, test = load(make(tmp_path), 6)
    assert train.pixels.shape == (18, 3, 6, 6) and test.pixels.shape == (2, 3, 6, 6) and train.pixels.dtype == np.float32
    numbers = [np.rint(part.pixels[:, 0, 3, 3] * 25.5).astype(int).tolist() for part in (train, test)]
    assert sorted(numbers[0] + numbers[1]) == list(range(COUNT)), "no image is on both sides"
    for part, own in zip((train, test), numbers):
        assert part.captions == tuple((f"A dog , number {i} , runs .", f"A cat sits, number {i}") for i in own)
    assert train.source == str(tmp_path)
    again, other = load(tmp_path, 6), load(tmp_path, 6, seed=1)
    assert again[0].sha256 == train.sha256 == test.sha256 != other[0].sha256
    assert not np.array_equal(other[1].pixels, test.pixels)


def test_pairs_are_of_one_image(tmp_path: pathlib.Path) -> None:
    train, _ = load(table(tmp_path), 4)
    images, captions, ids = train.draw(np.random.default_rng(0), 200)
    assert images.shape == (200, 3, 4, 4) and ids.dtype == np.int64 and set(ids) == set(range(18))
    assert all(text in train.captions[i] for text, i in zip(captions, ids)) and len(set(captions)) == 36
    assert np.array_equal(images, train.pixels[ids])
    assert captions == train.draw(np.random.default_rng(0), 200)[1]
    _, captions, ids = train.gallery(np.random.default_rng(0), 18)
    assert sorted(ids) == list(range(18)) and len(set(captions)) == 18
    with pytest.raises(DataError, match="holds 18 images .*, so there is no gallery of 256"):
        train.gallery(np.random.default_rng(0))


def test_one_image_in_a_hundred_may_be_absent(tmp_path: pathlib.Path) -> None:
    table(tmp_path)
    with (tmp_path / "captions.txt").open("a") as file:
        for i in range(90):
            Image.new("L", (8, 8), i).save(tmp_path / "Images" / f"more{i}.png")
            file.write(f"more{i}.png,a shade\n")
        file.write("absent.png,not there\n")
    train, test = load(tmp_path, 4)
    assert len(train.captions) + len(test.captions) == 110


def written(text: str | bytes) -> Callable[[pathlib.Path], Any]:
    return lambda f: (f / "captions.txt").write_bytes(text if isinstance(text, bytes) else text.encode())


BAD: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "no captions": (lambda f: (f / "captions.txt").unlink(), r"holds no captions; needed is a folder with images \(inside a folder Images"),
    "no header": (written("00.png,A dog\n"), "captions.txt: line 1 is not the header image,caption"),
    "empty file": (written(""), "captions.txt: line 1 is not the header image,caption"),
    "header alone": (written("image,caption\n"), "captions.txt holds no captions"),
    "no comma": (written("image,caption\n00.png,A dog\n\n01.png A cat\n"), "line 4 is no image and its caption with a comma between"),
    "no caption": (written("image,caption\n00.png,\n"), "line 2 is no image and its caption"),
    "not UTF-8": (written(b"image,caption\n00.png,caf\xe9\n"), "captions.txt is no UTF-8 text: byte 24 is 0xe9"),
    "too long for CSV": (written("image,caption\n00.png," + "x" * 200_000), "captions.txt: line 2 is no CSV: field larger"),
    "absent images": (lambda f: [p.unlink() for p in sorted((f / "Images").iterdir())[3:5]],
                      "captions.txt names 2 images of 20 that .* does not hold, the first is 03.png"),
    "one image": (written("image,caption\n00.png,A dog\n"), "captions.txt describes 1 image; one to learn from"),
    "damaged image": (lambda f: (f / "Images" / "04.png").write_bytes(b"words" * 9), "04.png is no image in a format that Pillow knows"),
}


@pytest.mark.parametrize("name", BAD)
def test_input_that_is_no_set_of_photographs(name: str, tmp_path: pathlib.Path) -> None:
    spoil, message = BAD[name]
    spoil(table(tmp_path))
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, 4)
    assert "\n" not in str(caught.value)


def test_no_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="none does not exist; needed is a folder with images"):
        load(tmp_path / "none", 4)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file is no folder; needed is a folder with images"):
        load(tmp_path / "file", 4)


def test_a_token_file_without_tabs(tmp_path: pathlib.Path) -> None:
    tokens(tmp_path)
    (tmp_path / "text" / "Flickr8k.token.txt").write_text("00.png#0 A dog\n")
    with pytest.raises(DataError, match="line 1 is no image and its caption with a tab between"):
        load(tmp_path, 4)
