"""Texts by class: snippets of the standard library, each of the package that it comes from, or the user's own folders."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagraph.errors import DataError
from nagraph.models.data.corpus import STANDARD_LIBRARY, split_by_file, standard_library
from nagraph.models.data.files import Document, read

#: Packages of the standard library with many lines; the classes are the first CLASSES of them that this Python has.
PACKAGES = ("idlelib", "asyncio", "tkinter", "email", "xml", "multiprocessing", "unittest", "importlib", "http", "logging", "xmlrpc",
            "ctypes", "turtledemo", "concurrent", "urllib", "html", "re", "wsgiref", "json")
CLASSES = 12
#: Lines of a snippet, how many of them are not blank at least, and lines from the beginning of one to that of the next.
LINES, FULL, STEP = 12, 8, 4
#: The most snippets of each class that are drawn to train on, and those to test.
TRAIN, TEST = 800, 60
#: A package with fewer snippets is no class.
LEAST = 300


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Labelled texts are texts and their classes. train_labels, test_labels: int32 [texts], each the index of a name.

    reading: texts to learn the language from, which hold none of the test's. unread: others, to test that.
    """

    train: list[str]
    train_labels: np.ndarray[Any, Any]
    test: list[str]
    test_labels: np.ndarray[Any, Any]
    names: tuple[str, ...]
    source: str
    reading: list[str]
    unread: list[str]


def load(path: str | pathlib.Path | None = None, seed: int = 0, share: float = 0.2) -> LabelledTexts:
    """Snippets of the standard library or, for a path, the texts of its folders."""
    return library_snippets(seed) if path is None else from_folders(path, share, seed)


def snippets(document: Document) -> list[str]:
    """Runs of lines, overlapping by half, without those that are mostly blank."""
    lines = document.text.split("\n")
    runs = (lines[i:i + LINES] for i in range(0, len(lines) - LINES + 1, STEP))
    return ["\n".join(run) for run in runs if sum(bool(line.strip()) for line in run) >= FULL]


def library_snippets(seed: int = 0, share: float = 0.25) -> LabelledTexts:
    """Which package does a snippet come from? No file has snippets in both parts; the test part has as many of each class.

    DataError where fewer than CLASSES packages are there, as on a Python cut down to the least.
    """
    packages: dict[str, list[Document]] = {}
    documents = standard_library()
    for document in documents:
        name, slash, _ = document.name.partition("/")
        if slash:
            packages.setdefault(name, []).append(document)
    large = [n for n in PACKAGES if len(packages.get(n, ())) > 1 and sum(len(snippets(d)) for d in packages[n]) >= LEAST]
    if len(large) < CLASSES:
        raise DataError(f"this Python has the sources of {len(large)} large packages of its standard library, {CLASSES} are needed; "
                        "name folders of texts with --data")
    names = large[:CLASSES]
    split = [split_by_file(packages[n], share, seed) for n in names]
    parts = [[[s for d in part for s in snippets(d)] for part in both] for both in split]
    rng = np.random.default_rng(seed)
    train = [_drawn(p[0], TRAIN, rng) for p in parts]
    fewest = min(TEST, *(len(p[1]) for p in parts))
    held_out = {d.name for _, out in split for d in out}
    reading = [[d.text for d in documents if (d.name in held_out) is out] for out in (False, True)]
    return _labelled(train, [_drawn(p[1], fewest, rng) for p in parts], names, STANDARD_LIBRARY, reading)


def from_folders(path: str | pathlib.Path, share: float = 0.2, seed: int = 0) -> LabelledTexts:
    """A folder for each class: in `train` and `test`, or without those, a share of each class's files held out.

    With train and test, the classes are those that both have. DataError for fewer than two classes, or one with no text.
    """
    root = pathlib.Path(path)
    split = [root / "train", root / "test"]
    if all(p.is_dir() for p in split):
        inside = [_folders(p) for p in split]
        strange = sorted(set(inside[1]) - set(inside[0]))
        if strange:
            raise DataError(f"{split[1]} has the class {strange[0]}, which {split[0]} has not")
        names = inside[1]
        parts = [[read(p / name) for name in names] for p in split]
    else:
        names = _folders(root)
        both = [_split_class(root / name, share, seed) for name in names]
        parts = [[b[0] for b in both], [b[1] for b in both]]
    if len(names) < 2:
        raise DataError(f"{root} needs a folder of texts for each of at least two classes, it has {len(names)}")
    train, test = ([[d.text for d in documents] for documents in part] for part in parts)
    return _labelled(train, test, names, str(path), [[text for texts in part for text in texts] for part in (train, test)])


def _split_class(folder: pathlib.Path, share: float, seed: int) -> tuple[list[Document], list[Document]]:
    documents = read(folder)
    if len(documents) < 2:
        raise DataError(f"{folder} holds one text; a class needs at least two, one of them to hold out")
    return split_by_file(documents, share, seed)


def _folders(path: pathlib.Path) -> list[str]:
    """The folders in a folder that are not hidden, sorted."""
    try:
        return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"{path} can't be read as a folder: {error.strerror or error}") from None


def _drawn(texts: Sequence[str], most: int, rng: np.random.Generator) -> list[str]:
    """At most `most` of the texts, in random order."""
    return [texts[i] for i in rng.permutation(len(texts))[:most]]


def _labelled(train: Sequence[Sequence[str]], test: Sequence[Sequence[str]], names: Sequence[str], source: str,
              reading: Sequence[list[str]]) -> LabelledTexts:
    def flat(part: Sequence[Sequence[str]]) -> tuple[list[str], np.ndarray[Any, Any]]:
        return [t for texts in part for t in texts], np.repeat(np.arange(len(names)), [len(texts) for texts in part]).astype(np.int32)

    return LabelledTexts(*flat(train), *flat(test), tuple(names), source, *reading)


def balanced_batch(labels: np.ndarray[Any, Any], size: int, seed: int, step: int) -> np.ndarray[Any, Any]:
    """Which texts a step trains on, each class as likely as the others, int64 [size]; a function of seed and step alone."""
    rng = np.random.default_rng((seed, step))
    _, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(number, kind="stable")
    classes = rng.integers(0, len(counts), size)
    inside = rng.integers(0, counts[classes])
    found: np.ndarray[Any, Any] = order[(np.cumsum(counts) - counts)[classes] + inside]
    return found
