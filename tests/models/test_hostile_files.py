"""Files that others wrote, of any content: only errors of ours come out, at once, and nothing outside of the folder is read."""

from __future__ import annotations

import json
import os
import pathlib
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nagraph.errors import CheckpointError, NagraphError
from nagraph.models import hugging_face
from nagraph.models.data import files, flickr, idx, tokenization
from nagraph.models.data.subwords import BytePairs, WordPieces
from nagraph.storage import map_safetensors, read_safetensors, write_safetensors
from tests.support import within


@pytest.fixture(autouse=True)
def _nobody_waits() -> Iterator[None]:
    with within(100):
        yield


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A part cut out, doubled or moved, bytes put in or changed."""
    i, j = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    digit = str(rng.choice([-1, 0, 1, 2**31, 2**63, 2**64, 10**30, 1e400])).encode()
    return rng.choice([content[:i], content[:i] + content[j:], content[:j] + content[i:], content[i:],
                       content[:i] + digit + content[i + 1:], content[:i] + rng.randbytes(rng.randrange(1, 30)) + content[i:],
                       content[:i] + bytes([content[i - 1] ^ 1 << rng.randrange(8)]) + content[i + 1:]])


# -- shards --------------------------------------------------------------------------------------------------------------------------

OUTSIDE = ["../secret.safetensors", "/etc/passwd", "..", ".", "", "a/../../secret.safetensors", "sub/model.safetensors",
           "..\\secret.safetensors", "model\0.safetensors", "model\n.safetensors", "x" * 300]


@pytest.mark.parametrize("name", OUTSIDE, ids=ascii)
@pytest.mark.parametrize("absolute", [False, True])
def test_an_index_names_files_of_its_folder_alone(tmp_path: pathlib.Path, name: str, absolute: bool) -> None:
    folder = tmp_path / "model"
    (folder / "a").mkdir(parents=True)
    (folder / "sub").mkdir()
    for place in (tmp_path / "secret.safetensors", folder / "sub" / "model.safetensors", folder / "model-1.safetensors"):
        write_safetensors(place, {"secret": np.ones(3)})
    wanted = str((folder / name).resolve()) if absolute and "\0" not in name and len(name) < 255 else name
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": wanted}}))
    with pytest.raises(CheckpointError, match="a shard is a file in the folder of its index"):
        hugging_face.read_tensors(folder)


def test_shards_may_be_links(tmp_path: pathlib.Path) -> None:
    """As the hub's own cache has them: whoever made the folder made the links, not whoever wrote the index."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "model").mkdir()
    write_safetensors(tmp_path / "blobs" / "0a1b", {"x": np.arange(3)})
    (tmp_path / "model" / "model-1.safetensors").symlink_to("../blobs/0a1b")
    (tmp_path / "model" / "model.safetensors.index.json").write_text('{"weight_map": {"x": "model-1.safetensors"}}')
    assert hugging_face.read_tensors(tmp_path / "model")["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": null}}', 
                                   "[" * 100_000, '{"weight_map": {"a": ["b"]}}', "1" * 10_000, ""], ids=lambda t: t[:24])
def test_an_index_of_any_kind(tmp_path: pathlib.Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    try:
        assert not hugging_face.read_tensors(tmp_path)
    except CheckpointError:
        pass


# -- what is no file -----------------------------------------------------------------------------------------------------------------

OBJECTS: dict[str, Callable[[pathlib.Path], object]] = {
    "pipe": os.mkfifo, "folder": os.mkdir, "loop of links": lambda f: f.symlink_to(f.name), "device": lambda f: f.symlink_to("/dev/zero"),
    "terminal": lambda f: f.symlink_to("/dev/tty"), "nothing": lambda f: None, "empty": lambda f: f.touch(),
    "larger than memory": lambda f: (f.touch(), os.truncate(f, 1 << 43)),
}
READERS: dict[str, tuple[str, Callable[[pathlib.Path], Any]]] = {
    "config": ("config.json", lambda f: hugging_face.read_type(f.parent)),
    "index": ("model.safetensors.index.json", lambda f: hugging_face.read_tensors(f.parent)),
    "tensors": ("model.safetensors", lambda f: hugging_face.read_tensors(f.parent)),
    "read": ("a.safetensors", read_safetensors), "map": ("a.safetensors", map_safetensors),
    "tokenizer": ("tokenizer.json", tokenization.load_tokenizer),
    "tokenizer of a folder": ("tokenizer.json", lambda f: tokenization.load_tokenizer(f.parent)),
    "byte pairs": ("tokenizer.json", BytePairs.load), "vocabulary": ("vocab.txt", WordPieces.load),
    "captions": ("captions.txt", flickr._captions),
    "images": ("images.gz", lambda f: idx.read_file(f, 3)),
}


@pytest.mark.parametrize("put", OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("name, read", READERS.values(), ids=READERS)
def test_what_is_no_file(tmp_path: pathlib.Path, put: Callable[[pathlib.Path], object], name: str,
                         read: Callable[[pathlib.Path], Any]) -> None:
    if put is OBJECTS["larger than memory"] and name in ("captions.txt", "images.gz"):
        pytest.skip("data may be of any size")
    put(tmp_path / name)
    with pytest.raises((NagraphError, FileNotFoundError, OSError) if name == "images.gz" else NagraphError):
        read(tmp_path / name)


def test_a_text_that_is_no_file(tmp_path: pathlib.Path) -> None:
    for kind, put in OBJECTS.items():
        if kind not in ("folder", "larger than memory"):
            path = tmp_path / f"{kind}.txt"
            put(path)
            with pytest.raises(NagraphError):
                files.read(path)


# -- bytes at random -----------------------------------------------------------------------------------------------------------------

def test_safetensors(tmp_path: pathlib.Path) -> None:
    path, rng = tmp_path / "a.safetensors", random.Random(0)
    write_safetensors(path, {"a": np.arange(12.0).reshape(3, 4), "b": np.ones(5, np.float16), "c": np.zeros((0, 2)), "d": np.ones(())})
    content, read = path.read_bytes(), 0
    for _ in range(400):
        path.write_bytes(damaged(content, rng))
        for reader in (read_safetensors, map_safetensors):
            try:
                found = reader(path)
                for array in (found[0] if isinstance(found, tuple) else found).values():
                    np.asarray(array).tobytes()
                    read += 1
            except CheckpointError as error:
                assert str(path) in str(error)
    assert read > 100


HEADERS = [{"a": {"dtype": d, "shape": s, "data_offsets": o}}
           for d in ("F64", "F8_E4M3", "F4", "C64", "X", "", None, 3) for s in ([], [2], [2**62, 4], [-1], [2**64], ["2"], None, [1] * 70)
           for o in ([0, 8], [0, 16], [8, 0], [0, 2**63], [-8, 0], [0], None)]


@pytest.mark.parametrize("reader", [read_safetensors, map_safetensors])
def test_safetensors_that_promise_anything(tmp_path: pathlib.Path, reader: Callable[[Any], Any]) -> None:
    path = tmp_path / "a.safetensors"
    for header in [*HEADERS, [], 3, None, {"__metadata__": 3}, {"__metadata__": {"a": 1}}, {"a": {}}, {"a": 3}]:
        text = json.dumps(header).encode()
        for length in (len(text), len(text) + 1, 2**63, 2**64 - 1):
            path.write_bytes(struct.pack("<Q", length) + text + bytes(16))
            try:
                reader(path)
            except CheckpointError:
                pass


TEXT = "the cat sat on the mat, and the dog ran over the hill to see 17 houses\n" * 20


@pytest.mark.parametrize("kind", [BytePairs, WordPieces])
def test_tokenizers(tmp_path: pathlib.Path, kind: Any) -> None:
    path, rng = tmp_path / "tokenizer.json", random.Random(kind.kind)
    content = json.dumps(kind.train([TEXT], 300).to_json()["tokenizer"]).encode()
    path.write_bytes(content)
    assert tokenization.load_tokenizer(tmp_path).encode(TEXT).size
    loaded = 0
    for _ in range(250):
        path.write_bytes(damaged(content, rng))
        try:
            found = tokenization.load_tokenizer(tmp_path)
            loaded += 1
            found.decode(found.encode("the dog [PAD] \0 ü"))
        except NagraphError:
            pass
    assert loaded > 10


VALUES: list[Any] = [None, True, -1, 0, 2**31, 2**63, 10**30, 1.5, "", "x", [], [1], [["a", "b"]], {}, {"a": 1}, {"type": "BPE"}]


def places(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a JSON; of long lists and tables, those of the first few."""
    if path:
        yield path
    items = list(found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ())
    for key, value in items[:12]:
        yield from places(value, (*path, key))


@pytest.mark.parametrize("kind", [BytePairs, WordPieces])
def test_every_field_of_a_tokenizer(kind: Any) -> None:
    original = kind.train([TEXT], 300).to_json()
    for where in places(original["tokenizer"]):
        for value in VALUES:
            changed = json.loads(json.dumps(original))
            inner = changed["tokenizer"]
            for key in where[:-1]:
                inner = inner[key]
            inner[where[-1]] = value
            try:
                found = tokenization.tokenizer_from_json(changed)
                found.decode(found.encode("the dog [PAD] \0 ü"))
            except NagraphError:
                pass


def test_vocabularies(tmp_path: pathlib.Path) -> None:
    path, rng = tmp_path / "vocab.txt", random.Random(0)
    content = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##s", "cat", "a"]).encode()
    for _ in range(250):
        path.write_bytes(damaged(content, rng))
        try:
            found = tokenization.load_tokenizer(tmp_path)
            found.decode(found.encode("the cats"))
        except NagraphError:
            pass


def test_descriptions_of_tokenizers() -> None:
    """As checkpoints hold them: every field of every type."""
    for kind in ("characters", "bytes", "byte-pairs", "word-pieces", "x", None, 3, [], {}):
        for key in ("symbols", "tokenizer", "x"):
            for value in (None, True, 0, 10**30, "", "abc", "aa", "\ud800", [], ["a"], {}, {"model": 3}, {"model": {"type": "BPE"}}):
                try:
                    tokenization.tokenizer_from_json({"kind": kind, key: value}).encode("a")
                except NagraphError:
                    pass
