"""Documents: the standard library, the user's own, parts held out by file, and both as tokens."""

from __future__ import annotations

import math
import pathlib
import sysconfig

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.corpus import (
    Document,
    as_tokens,
    folder,
    library_files,
    load,
    split_at_end,
    split_by_file,
    standard_library,
)
from nagraph.models.data.tokens import Bytes


def documents(count: int, length: int = 100) -> list[Document]:
    return [Document(f"{i}.txt", f"{i:03d}" + "é" * length) for i in range(count)]


def test_the_standard_library() -> None:
    found = standard_library()
    names = [d.name for d in found]
    assert names == sorted(names) and len(names) == len(set(names)) and found == standard_library()
    assert {"asyncio/base_events.py", "json/__init__.py", "abc.py", "unittest/case.py", "doctest.py"} <= set(names)
    folders = {part for name in names for part in name.split("/")[:-1]}
    assert not folders & {"test", "tests", "idle_test", "pydoc_data", "encodings", "site-packages", "__pycache__", "_bundled"}
    assert not [n for n in names if n.startswith("_sysconfigdata") or "config-" in n]
    assert 7e6 < sum(d.nbytes for d in found) < 14e6
    assert all(d.text for d in found)


def test_a_python_without_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path))
    with pytest.raises(DataError, match="ships without the sources of its standard library, the default text; name a text with --data"):
        load(None)
    (tmp_path / "tests").mkdir()
    for name in ("b.py", "a.py", "empty.py", "tests/c.py", "_sysconfigdata_x.py", "d.txt"):
        (tmp_path / name).write_text("" if name == "empty.py" else f"# {name}\n")
    assert [name for name, _ in library_files()] == ["a.py", "b.py", "empty.py"]
    assert standard_library() == [Document("a.py", "# a.py\n"), Document("b.py", "# b.py\n")]


def test_a_folder_gives_documents(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_bytes(b"one\r\ntwo")
    (tmp_path / "a.md").write_text("A")
    (tmp_path / "no.png").write_bytes(b"\0")
    assert folder(tmp_path) == [Document("a.md", "A"), Document("sub/b.txt", "one\ntwo")]
    assert folder(tmp_path / "a.md") == [Document("a.md", "A")]
    with pytest.raises(DataError, match="none does not exist"):
        folder(tmp_path / "none")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25, 0.5, 0.9])
def test_files_are_held_out_whole(share: float) -> None:
    whole = documents(60)
    train, held_out = split_by_file(whole, share, seed=3)
    assert not set(train) & set(held_out) and set(train) | set(held_out) == set(whole)
    assert len(held_out) == round(60 * share), "equal files, so their number is the share of bytes"
    assert train == sorted(train, key=lambda d: int(d.name[:-4])) and held_out == sorted(held_out, key=lambda d: int(d.name[:-4]))


def test_the_seed_and_the_names_decide() -> None:
    whole = documents(40)
    assert split_by_file(whole, 0.2, 1) == split_by_file(whole, 0.2, 1) != split_by_file(whole, 0.2, 2)
    held = [{d.name for d in split_by_file(w, 0.25, 1)[1]} for w in (whole, [*whole[:20], *whole[21:]], list(reversed(whole)))]
    assert held[0] == held[2] and len(held[0] ^ held[1]) <= 2, "one file less moves one file or two, in whatever order they come"


def test_shares_of_bytes_with_large_files() -> None:
    whole = standard_library()
    _, held_out = split_by_file(whole)
    assert 0.08 < sum(d.nbytes for d in held_out) / sum(d.nbytes for d in whole) < 0.12


def test_two_documents_and_one() -> None:
    for share in (0.01, 0.99):
        assert [len(part) for part in split_by_file(documents(2), share)] == [1, 1]
    with pytest.raises(DataError, match="takes at least two of them, got 1"):
        split_by_file(documents(1))
    for share in (0, 1, float("nan")):
        with pytest.raises(DataError, match="must lie between 0 and 1, got"):
            split_by_file(documents(2), share)


@pytest.mark.parametrize(("text", "cut"), [("ab" * 50, 90), ("x" * 92 + "\n" + "y" * 7, 93), ("x" * 98 + "\ny", 90), ("ab", 1),
                                           ("x" * 89 + "\n" + "y" * 10, 90)])
def test_the_end_of_one_document(text: str, cut: int) -> None:
    train, held_out = split_at_end(Document("a", text))
    assert train.text + held_out.text == text and len(train.text) == cut
    with pytest.raises(DataError, match="is too short to hold out a part: it has 1 characters"):
        split_at_end(Document("a", "x"))


def test_both_parts_as_tokens() -> None:
    train, held_out = documents(3, 2), [Document("x", "é"), Document("y", "z")]
    found = as_tokens(train, held_out, Bytes(), "here")
    assert found.train.dtype == found.held_out.dtype == np.uint8
    assert found.decode(found.held_out) == "é\nz\n" and found.decode(found.train) == "000éé\n001éé\n002éé\n"
    assert (found.size, found.source, found.bytes_held_out, found.bytes_train) == (256, "here", 5, 24)
    assert found.encode("é").tolist() == [0xc3, 0xa9]
    other = [as_tokens(train, [Document("x", "é")], Bytes(), "here"), as_tokens([*train, held_out[0]], held_out[1:], Bytes(), "here")]
    assert len({found.sha256, *(o.sha256 for o in other)}) == 3, "the split counts, not the text alone"
    assert as_tokens(train, held_out, Bytes(), "there").sha256 == found.sha256
    with pytest.raises(DataError, match="here has no tokens in the part held out"):
        as_tokens(train, [], Bytes(), "here")


def test_bits_a_byte_do_not_depend_on_the_tokens(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.txt").write_text("日本語のテキスト\n" * 100)
    as_bytes, as_characters = (load(tmp_path / "a.txt", kind, context=4) for kind in ("bytes", "characters"))
    assert as_bytes.bytes_held_out == as_characters.bytes_held_out
    assert as_bytes.bits_a_byte(math.log(256)) == pytest.approx(8)
    total = 1000.0  # nats for the whole held-out part, however it is cut
    bits = [t.bits_a_byte(total / len(t.held_out)) for t in (as_bytes, as_characters)]
    assert bits == pytest.approx([total / math.log(2) / as_bytes.bytes_held_out] * 2)


@pytest.mark.parametrize("kind", ["bytes", "characters", "byte-pairs", "word-pieces"])
def test_load_a_folder(kind: str, tmp_path: pathlib.Path) -> None:
    if "-" in kind:
        pytest.importorskip("tokenizers")
    for i in range(10):
        (tmp_path / f"{i}.py").write_text(f"def f{i}(x):\n    return x + {i}\n" * 20)
    found = load(tmp_path, kind, size=280, context=16)
    assert found.tokenizer.kind == kind and found.source == str(tmp_path)
    again = load(tmp_path, found.tokenizer, context=16)
    assert np.array_equal(again.train, found.train) and again.sha256 == found.sha256
    assert found.train.max() < found.size and 0.08 < found.bytes_held_out / (found.bytes_held_out + found.bytes_train) < 0.12
    with pytest.raises(DataError, match=r"has [\d,]+ tokens to hold out; a context of 800 needs at least 801"):
        load(tmp_path, "bytes", context=800, share=0.01)


def test_the_tokenizer_learns_from_the_training_part_alone(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("tokenizers")
    for i in range(10):
        (tmp_path / f"{i}.txt").write_text("plain words " * 50)
    held = split_by_file(folder(tmp_path))[1][0].name
    (tmp_path / held).write_text("zygote zephyr " * 43)
    found = load(tmp_path, "byte-pairs", size=400, context=16)
    assert len(found.encode("zygote")) == 6 and len(found.encode("plain")) == 1
