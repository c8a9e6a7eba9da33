"""Texts: what is read and in which order, the symbols, the split, the batches, and input that is no text."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.text import as_text, batch, encode, load
from nagraph.models.data.tokens import BLOCK, Characters, encode_long


def test_symbols_are_the_sorted_characters(tmp_path: pathlib.Path) -> None:
    found = as_text("banana\nü", "here")
    assert found.symbols == "\nabnü" and found.source == "here" and found.ids.dtype == np.uint8
    assert found.ids.tolist() == [2, 1, 3, 1, 3, 1, 0, 4]
    assert found.decode(found.ids) == "banana\nü" and found.encode("nü").tolist() == [3, 4]
    assert found.sha256 == hashlib.sha256("banana\nü".encode()).hexdigest()
    with pytest.raises(DataError, match="does not know the characters 'x' 'z'; it was trained"):
        found.encode("zanx")
    assert encode("", "ab").shape == (0,)


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 19, 20, 101])
def test_the_last_tenth_is_held_out(length: int) -> None:
    found = as_text("ab" * (length // 2) + "a" * (length % 2), "")
    assert len(found.held_out) == length // 10
    assert np.array_equal(np.concatenate([found.train, found.held_out]), found.ids)


def test_batches_are_windows_decided_by_seed_and_step_alone() -> None:
    ids = np.arange(50, dtype=np.int32)
    one = batch(ids, 7, 400, seed=3, step=5)
    assert one.shape == (400, 8) and one.dtype == np.int32
    assert np.array_equal(one, one[:, :1] + np.arange(8)), "each row is a run of the text"
    assert set(one[:, 0]) == set(range(43)), "every window that fits can come, the last one too"
    np.random.seed(1)
    assert np.array_equal(batch(ids, 7, 400, 3, 5), one)
    assert not np.array_equal(batch(ids, 7, 400, 3, 6), one) and not np.array_equal(batch(ids, 7, 400, 4, 5), one)


def test_a_file_and_its_line_ends(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.anything"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n" * 30)
    found = load(path, 4)
    assert found.source == str(path)
    assert found.decode(found.ids[:8]) == "one\ntwo\n"
    path.write_bytes("é\n".encode() * 100)
    assert load(path, 4).symbols == "\né"


def test_a_folder_gives_its_text_files_in_order(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, content in [("b.txt", "B" * 50), ("a.MD", "A" * 50), ("sub/c.py", "C" * 50), ("empty.txt", ""), ("picture.png", "\0")]:
        (tmp_path / name).write_text(content)
    (tmp_path / "folder.txt").mkdir()
    found = load(tmp_path, 4)
    assert found.decode(found.ids) == "\n".join(("A" * 50, "B" * 50, "C" * 50))


def test_pythons_documentation_is_the_default() -> None:
    found = load(None, 128)
    assert found.source == "Python's own documentation"
    assert len(found.ids) > 300_000 and "The \"assert\" statement" in found.decode(found.ids)


def test_a_python_without_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match="ships without pydoc_data, the default text; name a text with --data FILE"):
        load(None, 4)


def content(folder: pathlib.Path, name: str, data: bytes) -> pathlib.Path:
    (folder / name).write_bytes(data)
    return folder / name


CASES: dict[str, tuple[Any, str]] = {
    "missing": (lambda f: f / "none.txt", r"none\.txt does not exist"),
    "under a file": (lambda f: content(f, "a", b"a") / "b", "can't be read: Not a directory"),
    "long name": (lambda f: f / ("n" * 300), "can't be read: File name too long"),
    "empty": (lambda f: content(f, "e.txt", b""), r"e\.txt is empty"),
    "only a mark": (lambda f: content(f, "m.txt", b"\xef\xbb\xbf"), "holds 0 characters; training needs at least 50"),
    "not UTF-8": (lambda f: content(f, "l.txt", b"caf\xe9!" * 100), "l.txt is no UTF-8 text: byte 3 is 0xe9"),
    "binary": (lambda f: content(f, "b.txt", b"ab\0" * 100), "b.txt is a binary file: it holds zero bytes"),
    "picture": (lambda f: content(f, "p.png", b"\x89PNG\r\n\x1a\n\0\0" * 100), "no UTF-8 text: byte 0 is 0x89"),
    "too short": (lambda f: content(f, "s.txt", b"a" * 49), "holds 49 characters; training needs at least 50 .one context of 4"),
    "folder without texts": (lambda f: content(f, "x.bin", b"a").parent, r"holds no text file \(.txt, .md"),
    "folder with a binary": (lambda f: content(f, "b.txt", b"\xff" * 100).parent, "b.txt is no UTF-8 text"),
    "folder of empty files": (lambda f: content(f, "e.txt", b"").parent, "every text file in .* is empty"),
}


@pytest.mark.parametrize("name", CASES)
def test_input_that_is_no_text(name: str, tmp_path: pathlib.Path) -> None:
    make, message = CASES[name]
    with pytest.raises(DataError, match=message) as caught:
        load(make(tmp_path), 4)
    assert "\n" not in str(caught.value)


def test_just_enough_text(tmp_path: pathlib.Path) -> None:
    found = load(content(tmp_path, "s.txt", b"ab" * 25), 4)
    assert len(found.held_out) == 5, "room for one window"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: pathlib.Path) -> None:
    path = content(tmp_path, "s.txt", b"ab" * 25)
    path.chmod(0)
    with pytest.raises(DataError, match="can't be read: Permission denied"):
        load(path, 4)


def test_a_long_text_takes_little_more_than_itself(tmp_path: pathlib.Path) -> None:
    """Text and tokens: the process of this text would take 13 bytes for each of its bytes otherwise."""
    script = """
import resource, sys
from nagraph.models.data import corpus, text
import nagraph.models.data.subwords
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = text.load(sys.argv[1], 128).ids if sys.argv[2] == "text" else corpus.load(sys.argv[1], sys.argv[2]).train
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, found.dtype)
"""
    path = tmp_path / "long.txt"
    path.write_text("".join(f"the cat {i * i % 97} sat on the mat\n" for i in range(1000)) * 1200)
    assert path.stat().st_size > 25e6
    for kind, most in (("text", 3), ("characters", 5), ("bytes", 5)):
        done = subprocess.run([sys.executable, "-c", script, path, kind], check=True, capture_output=True, text=True, timeout=100)
        used, dtype = done.stdout.split()
        unit = 1 if sys.platform == "darwin" else 1024
        assert dtype == "uint8" and int(used) * unit < most * path.stat().st_size, (kind, used)


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
@pytest.mark.parametrize("symbols", ["ab", "".join(map(chr, range(0x400, 0x400 + 300))), "a\U0001f642\ud800"])
def test_long_texts_in_blocks(length: int, symbols: str) -> None:
    content = "".join(np.random.default_rng(length).choice(list(symbols), length))
    found = encode_long(Characters("".join(sorted(symbols))), content)
    assert found.dtype == (np.uint8 if len(symbols) <= 256 else np.uint16) and len(found) == length
    order = {c: i for i, c in enumerate(sorted(symbols))}
    assert found.tolist() == [order[c] for c in content]
