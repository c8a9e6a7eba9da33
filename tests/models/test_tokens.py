"""Tokenizers: text there and back, what each refuses, the same training twice, and what is stored, loaded and fits."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.tokenization import KINDS, check_fits, load_tokenizer, tokenizer_from_json, train_tokenizer
from nagraph.models.data.tokens import Bytes, Characters

HARD = ["", " ", "\n", "\r\n\r\r\n", "a\0b\0", "  two  spaces\t\ttabs  ", "naïve café e\u0301", "日本語とかな",
        "😀👩\u200d👩\u200d👧 \U0001d518",
        "\ufeffmark", "�", "<|endoftext|> [MASK] ##x", "def f(x):\n    return x**2  # ²\n", "\x7f\x85\u2028"]
TEXTS = ["def add(left, right):\n    return left + right\n",
         "The cat sat on the mat; the rat sat on the cat.", "adding, Added, addition"] * 3


def subwords() -> Any:
    pytest.importorskip("tokenizers")
    from nagraph.models.data import subwords

    return subwords


@pytest.mark.parametrize("text", HARD)
def test_bytes_are_those_of_utf8(text: str) -> None:
    ids = Bytes().encode(text)
    assert ids.dtype == np.int32 and ids.tolist() == list(text.encode()) and Bytes().decode(ids) == text


def test_bytes_that_are_no_text() -> None:
    assert Bytes().decode([0x61, 0xff, 0xf0, 0x9f]) == "a��"
    assert Bytes().decode(Bytes().encode("a\ud800")) == "a���", "half a surrogate pair goes in, and shows as what it is"


@pytest.mark.parametrize("text", HARD)
def test_characters_there_and_back(text: str) -> None:
    found = Characters.of(["abc", text])
    assert found.symbols == "".join(sorted(set("abc" + text)))
    ids = found.encode(text)
    assert ids.dtype == np.int32 and ids.shape == (len(text),) and found.decode(ids) == text


def test_characters_that_are_unknown() -> None:
    with pytest.raises(DataError, match="does not know the characters '\\\\x00' 'é' '😀'; it was trained"):
        Characters("abc").encode("a\0b😀é")


@pytest.mark.parametrize("text", HARD)
def test_byte_pairs_lose_nothing(text: str) -> None:
    found = subwords().BytePairs.train(TEXTS, 300)
    ids = found.encode(text)
    assert ids.dtype == np.int32 and found.decode(ids) == text and len(ids) <= len(text.encode())


def test_byte_pairs_merge_what_is_frequent() -> None:
    found = subwords().BytePairs.train(TEXTS, 300)
    assert found.size == 300 and sorted(found.token(i) for i in range(256)) == sorted(set(found.token(i) for i in range(256)))
    assert len(found.encode(TEXTS[1])) < len(TEXTS[1]) * 2 / 3
    assert subwords().BytePairs.train([], 300).size == 256, "without texts, the bytes"
    half = found.encode("é")[:1]
    assert found.decode(half) == "�"


def test_word_pieces() -> None:
    found = subwords().WordPieces.train(TEXTS, 200)
    assert (found.pad, found.unknown, found.cls, found.sep, found.mask) == found.special == (0, 1, 2, 3, 4)
    assert [found.token(i) for i in found.special] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert found.decode(found.encode("def  add(left)\r\n")) == "def add ( left )"
    assert found.encode("日").tolist() == [found.unknown]
    assert found.encode("[MASK]").tolist() == [found.mask]
    assert len(found.encode("")) == 0 and len(found.encode("\0")) == 0


def test_case_counts_for_code_and_not_in_lower_case() -> None:
    cased, lower = (subwords().WordPieces.train([*TEXTS, "É"], 200, lowercase=x) for x in (False, True))
    assert cased.decode(cased.encode("The É")) == "The É" and lower.decode(lower.encode("The É")) == "the e"


def test_training_is_a_function_of_the_texts(tmp_path: pathlib.Path) -> None:
    """In processes of their own, for the library's hash tables are seeded anew in each."""
    subwords()
    code = ("import json, nagraph.models.data.tokenization as t, nagraph.models.data.files as f\n"
            f"texts = [f.read({t_file()!r})[0].text]\n"
            "print(json.dumps([t.train_tokenizer(k, texts, 600).to_json() for k in ('byte-pairs', 'word-pieces')]))")
    one, two, three = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(3))
    assert one == two == three and len(one) > 10_000


def t_file() -> str:
    return json.__file__.replace("__init__", "decoder")


@pytest.mark.parametrize("kind", KINDS)
def test_json_there_and_back(kind: str) -> None:
    if "-" in kind:
        subwords()
    found = train_tokenizer(kind, TEXTS, 280)
    stored = json.loads(json.dumps(found.to_json()))
    again = tokenizer_from_json(stored)
    assert again.kind == stored["kind"] == kind and again.size == found.size and again.to_json() == stored
    ids = found.encode(TEXTS[0])
    assert np.array_equal(again.encode(TEXTS[0]), ids) and again.decode(ids) == found.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_that_are_no_tokens(kind: str) -> None:
    if "-" in kind:
        subwords()
    found = train_tokenizer(kind, TEXTS, 280)
    assert found.decode([]) == ""
    for ids in ([-1], [0, found.size]):
        with pytest.raises(DataError, match=f"{ids[-1]} is no token of a tokenizer with {found.size} of them"):
            found.decode(ids)
    with pytest.raises(DataError, match="tokens are whole numbers, got float64"):
        found.decode([0.5])


@pytest.mark.parametrize("found", [None, {}, {"kind": "words"}, {"kind": "characters"}, {"kind": "characters", "symbols": "aa"},
                                   {"kind": "byte-pairs"}, {"kind": "byte-pairs", "tokenizer": {"model": 3}}, {"kind": "word-pieces"}])
def test_json_that_is_no_tokenizer(found: Any) -> None:
    subwords()
    with pytest.raises(DataError, match="is not known; there is|names its symbols|holds the contents|can't be read as") as caught:
        tokenizer_from_json(found)
    assert "\n" not in str(caught.value)


def test_sizes_that_are_too_small() -> None:
    with pytest.raises(DataError, match="at least 256 tokens, one for each byte; got 255"):
        subwords().BytePairs.train(TEXTS, 255)
    with pytest.raises(DataError, match="more than the 5 special tokens; got 5"):
        subwords().WordPieces.train(TEXTS, 5)
    with pytest.raises(DataError, match="unknown kind of tokens 'words'; there is characters, bytes"):
        train_tokenizer("words", TEXTS)


@pytest.mark.parametrize("kind", ["byte-pairs", "word-pieces"])
def test_half_a_surrogate_pair(kind: str) -> None:
    subwords()
    with pytest.raises(DataError, match=r"character 1 is '\\ud800', half a surrogate pair, which is no text"):
        train_tokenizer(kind, TEXTS, 300).encode("a\ud800")


def test_folders(tmp_path: pathlib.Path) -> None:
    library = subwords()
    with pytest.raises(DataError, match="holds no tokenizer: neither tokenizer.json nor vocab.txt"):
        load_tokenizer(tmp_path)
    pieces = library.WordPieces.train(TEXTS, 120)
    (tmp_path / "vocab.txt").write_text("".join(pieces.token(i) + "\n" for i in range(pieces.size)))
    text = "The cat added left"
    lower = load_tokenizer(tmp_path)
    assert lower.kind == "word-pieces" and np.array_equal(lower.encode(text), pieces.encode(text.lower())), "BERT's default"
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert np.array_equal(load_tokenizer(tmp_path).encode(text), pieces.encode(text))
    pairs = library.BytePairs.train(TEXTS, 300)
    (tmp_path / "tokenizer.json").write_text(json.dumps(pairs.to_json()["tokenizer"]))
    found = load_tokenizer(tmp_path)
    assert found.kind == "byte-pairs" and found.to_json() == pairs.to_json(), "tokenizer.json comes first"
    (tmp_path / "tokenizer.json").write_text(json.dumps(pieces.to_json()["tokenizer"]))
    assert load_tokenizer(tmp_path).to_json() == pieces.to_json()


FILES: dict[str, tuple[str, str]] = {
    "no json": ("{", "tokenizer.json is damaged: Expecting"),
    "a list": ("[]", "tokenizer.json is damaged: it holds a list"),
    "deep": ("[" * 100_000, "tokenizer.json is damaged: maximum recursion"),
    "no model": ("{}", "is no tokenizer.json: it describes no model"),
    "another model": ('{"model": {"type": "Unigram"}}', "is a tokenizer of type 'Unigram'; BPE and WordPiece can be read"),
    "half": ('{"model": {"type": "BPE"}}', "tokenizer.json can't be read as a tokenizer"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_tokenizer(name: str, tmp_path: pathlib.Path) -> None:
    subwords()
    content, message = FILES[name]
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_vocabularies_that_are_none(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "vocab.txt"
    for content, message in ((b"[PAD]\n[UNK]\nthe\n", r"lacks \[CLS\] \[SEP\] \[MASK\]"), (b"a\nb\na\n", "lists 'a' 2 times"),
                             (b"\xff\n", "is no UTF-8 text: byte 0 is 0xff")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_tokenizer(tmp_path)
    with pytest.raises(DataError, match="none does not exist"):
        subwords().WordPieces.load(tmp_path / "none")


def test_bpe_that_is_not_of_bytes() -> None:
    library = subwords()
    import tokenizers

    inner = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    with pytest.raises(DataError, match="need a byte-level BPE tokenizer; this is another one"):
        library.BytePairs(inner)
    with pytest.raises(DataError, match="need a WordPiece tokenizer; this is another one"):
        library.WordPieces(inner)


def test_a_tokenizer_that_does_not_fit() -> None:
    check_fits(Bytes(), 256, "runs/a")
    check_fits(Bytes(), 256, "runs/a", "bytes")
    with pytest.raises(DataError, match=r"^runs/a has a vocabulary of 50,257, but the tokenizer \(bytes\) has 256 tokens; use the one"):
        check_fits(Bytes(), 50257, "runs/a")
    with pytest.raises(DataError, match="^runs/a was trained on byte-pairs, but the tokenizer is one of bytes; use the one"):
        check_fits(Bytes(), 256, "runs/a", "byte-pairs")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for kind in ("byte-pairs", "word-pieces"):
        with pytest.raises(DataError, match=r"need the package tokenizers: pip install 'nagraph\[text\]'"):
            train_tokenizer(kind, TEXTS)
    assert train_tokenizer("bytes", TEXTS).size == 256
