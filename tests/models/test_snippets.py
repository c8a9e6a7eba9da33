"""Texts by class: snippets of the standard library, the user's folders, and batches with each class as likely."""

from __future__ import annotations

import pathlib
import sysconfig

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.corpus import Document, standard_library
from nagraph.models.data.snippets import LabelledTexts, balanced_batch, from_folders, library_snippets, load, snippets


@pytest.fixture(scope="module")
def library() -> LabelledTexts:
    return load()


def test_snippets_are_runs_of_lines() -> None:
    lines = [f"line {i}" for i in range(30)]
    found = snippets(Document("a", "\n".join(lines)))
    assert found == ["\n".join(lines[i:i + 12]) for i in (0, 4, 8, 12, 16)]
    blank = [*lines[:7], *[" "] * 5, *lines[:8], *[""] * 4]
    assert snippets(Document("a", "\n".join(blank))) == ["\n".join(blank[i:i + 12]) for i in (8, 12)]
    assert snippets(Document("a", "\n".join(lines[:11]))) == []


def test_classes_of_the_standard_library(library: LabelledTexts) -> None:
    assert len(library.names) == len(set(library.names)) == 12 and {"asyncio", "email", "xml"} <= set(library.names)
    assert library.source == "Python's standard library"
    assert library.train_labels.dtype == library.test_labels.dtype == np.int32
    assert len(library.train) == len(library.train_labels) and len(library.test) == len(library.test_labels)
    counts = np.bincount(library.test_labels, minlength=12)
    assert counts.min() == counts.max() >= 20
    counts = np.bincount(library.train_labels, minlength=12)
    assert counts.min() >= 100 and counts.max() <= 800
    assert all(text.count("\n") == 11 for text in (*library.train, *library.test))


def test_no_file_is_in_both_parts(library: LabelledTexts) -> None:
    files: dict[str, list[str]] = {}  # a snippet to the files of its package that have it
    for document in standard_library():
        for text in snippets(document):
            files.setdefault(text, []).append(document.name)
    train, test = ({name for text in part for name in files[text] if len(files[text]) == 1} for part in (library.train, library.test))
    assert len(train) > 100 and len(test) > 20 and not train & test
    for text, label in zip(library.test, library.test_labels):
        assert any(name.startswith(f"{library.names[label]}/") for name in files[text])


def test_the_seed_decides(library: LabelledTexts) -> None:
    again, other = library_snippets(0), library_snippets(1)
    assert again.train == library.train and again.test == library.test and again.names == library.names == other.names
    assert other.test != library.test


def test_a_python_with_few_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    (tmp_path / "json").mkdir()
    for name in ("a", "b"):
        (tmp_path / "json" / f"{name}.py").write_text("x = 1\n" * 1000)
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path))
    with pytest.raises(DataError, match="has the sources of 1 large packages of its standard library, 12 are needed; name folders"):
        load()


def write(root: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_train_and_test_folders(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"train/pos/0.txt": "good", "train/pos/1.txt": "fine", "train/neg/0.txt": "bad", "train/unsup/0.txt": "what",
                     "test/pos/0.txt": "great", "test/neg/0.txt": "awful", "train/.hidden/a.txt": "x", "README.txt": "y"})
    found = load(tmp_path)
    assert found.names == ("neg", "pos") and found.source == str(tmp_path)
    assert list(zip(found.train, found.train_labels.tolist())) == [("bad", 0), ("good", 1), ("fine", 1)]
    assert list(zip(found.test, found.test_labels.tolist())) == [("awful", 0), ("great", 1)]


def test_class_folders(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {f"{c}/{i}.txt": f"{c}{i}" for c in "ab" for i in range(10)})
    found = from_folders(tmp_path, share=0.3)
    assert found.names == ("a", "b") and len(found.train) == 14 and len(found.test) == 6
    assert sorted(found.train + found.test) == sorted(f"{c}{i}" for c in "ab" for i in range(10))
    for texts, labels in ((found.train, found.train_labels), (found.test, found.test_labels)):
        assert [found.names[k] for k in labels] == [t[0] for t in texts]
    assert from_folders(tmp_path, 0.3).test == found.test


@pytest.mark.parametrize(("files", "message"), [
    ({}, "needs a folder of texts for each of at least two classes, it has 0"),
    ({"a/0.txt": "x", "a/1.txt": "y"}, "of at least two classes, it has 1"),
    ({"a/0.txt": "x", "b/1.txt": "y", "b/2.txt": "y"}, "a holds one text; a class needs at least two, one of them to hold out"),
    ({"train/a/0.txt": "x", "train/b/0.txt": "x", "test/a/0.txt": "x", "test/c/0.txt": "x"}, "test has the class c, which .*train has not"),
    ({"train/a/0.txt": "x", "train/b/0.bin": "x", "test/a/0.txt": "x", "test/b/0.txt": "x"}, "b holds no text file"),
    ({"a/0.txt": "x\0", "b/0.txt": "y"}, "0.txt is a binary file: it holds zero bytes"),
])
def test_folders_that_are_no_classes(files: dict[str, str], message: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(write(tmp_path, files))
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_folders(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="none does not exist"):
        load(tmp_path / "none")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="can't be read as a folder: Not a directory"):
        load(tmp_path / "a.txt")


def test_batches_have_each_class_as_often() -> None:
    labels = np.array([5] * 1000 + [2] * 10 + [5] * 100 + [9] * 2, np.int32)
    found = balanced_batch(labels, 6000, seed=1, step=2)
    assert found.shape == (6000,) and np.array_equal(found, balanced_batch(labels, 6000, 1, 2))
    assert not np.array_equal(found, balanced_batch(labels, 6000, 1, 3)) and not np.array_equal(found, balanced_batch(labels, 6000, 2, 2))
    assert all(abs((labels[found] == k).mean() - 1 / 3) < 0.03 for k in (2, 5, 9))
    assert set(range(1000, 1010)) <= set(found) and {1110, 1111} <= set(found) and len(set(found)) > 800
