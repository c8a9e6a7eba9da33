"""Program files that are damaged, hostile or newer: each is refused in one sentence, and asks for no memory; text and ops have versions."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import ProgramError
from nagraph.export.program_file import CONSTANTS, MANIFEST, TEXT, WEIGHTS
from nagraph.ir.attributes import hints
from nagraph.ir.op import REGISTRY
from nagraph.storage import tensor_header
from tests.export.mutations import contents, mutated, packed, read, rewritten, whole
from tests.export.programs import DATA
from tests.support import own_ops

F32 = np.float32
COUNT = 60


def refused(data: bytes, folder: pathlib.Path) -> str:
    """Why a file is refused, in one sentence, at little cost."""
    tracemalloc.start()
    try:
        outcome, told = read(data, folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert outcome == "refused", (outcome, told)
    assert peak < 2 * len(data) + (64 << 20)
    return told.partition(": ")[2]


def manifest(**changes: Any) -> Callable[[bytes], bytes]:
    """A change of fields of a manifest; `...` takes one out."""
    def changed(data: bytes) -> bytes:
        found = json.loads(data) | changes
        return json.dumps({k: v for k, v in found.items() if v is not ...}).encode()

    return changed


def test_damaged_programs_are_read_or_refused_in_a_sentence(tmp_path: pathlib.Path) -> None:
    for name, data in whole().items():
        assert read(data, tmp_path) == ("read", ""), name
        assert packed(contents(data)) == data, "so that what is rewritten is what would be written"
    outcomes = []
    for seed in range(COUNT):
        what, data = mutated(seed)
        outcome, told = read(data, tmp_path)
        assert outcome != "fault", f"seed {seed}, {what}: {told}"
        outcomes.append(outcome)
    assert outcomes.count("refused") > COUNT // 2 and outcomes.count("read") > 2


def test_every_cut_and_every_damaged_byte_of_what_is_held_is_seen(tmp_path: pathlib.Path) -> None:
    data = whole()["forward-1"]
    for at in range(0, len(data), 97):
        assert "cut off" in refused(data[:at], tmp_path) or at == 0
        changed = bytearray(data)
        changed[at] ^= 0x10
        assert bytes(changed) == data or read(bytes(changed), tmp_path)[0] == "refused" or not _held(data, at)


def _held(data: bytes, at: int) -> bool:
    """Whether a byte is one of a file's contents."""
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        for info in opened.infolist():
            name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
            begin = info.header_offset + 30 + name + extra
            if begin <= at < begin + info.file_size:
                return True
    return False


def test_what_is_no_file_is_refused(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe.ngx")
    (tmp_path / "empty.ngx").touch()
    (tmp_path / "text.ngx").write_text("graph @f")
    for name, told in (("none.ngx", "does not exist"), ("pipe.ngx", "a device, a pipe or a socket"), (".", "it is a folder"),
                       ("empty.ngx", "it is empty"), ("text.ngx", "it is no program, or cut off"), ("text.ngx/a.ngx", "Not a directory")):
        with pytest.raises(ProgramError, match=told):
            ng.load_program(tmp_path / name)


# -- zips -------------------------------------------------------------------------------------------------


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as opened:
        for name, content in members:
            opened.writestr(name, content)
    return made.getvalue()


def poked(data: bytes, signature: bytes, offset: int, new: bytes) -> bytes:
    """A zip in which bytes behind the first such signature are others."""
    at = data.index(signature) + offset
    return data[:at] + new + data[at + len(new):]


PARTS = contents(whole()["forward-1"])
ZIPS = {
    "a bomb": (zipped(*PARTS.items(), ("bomb", bytes(1 << 25)), compression=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "another zip": (zipped(("a.txt", b"a")), "it holds 'a.txt', which is no file of a program"),
    "names that lead elsewhere": (zipped(*PARTS.items(), ("../../evil", b"a")), "it holds '../../evil', which is no file of a program"),
    "a name that is absolute": (zipped(*PARTS.items(), ("/etc/passwd", b"a")), "it holds '/etc/passwd'"),
    "names of other characters": (zipped(*PARTS.items(), ("a\nb\x1b[2J", b"a")), "it holds 'a"),
    "a file less": (packed({k: v for k, v in PARTS.items() if k != WEIGHTS}), "there is no weights.safetensors in it"),
    "many files": (zipped(*((f"{i}", b"") for i in range(3000))), "it holds 3,000 files"),
    "encrypted": (poked(packed(PARTS), b"PK\1\2", 8, b"\1\0"), "compressed or encrypted"),
    "a size that lies": (poked(zipped(*PARTS.items()), b"PK\1\2", 20, struct.pack("<LL", 1 << 30, 1 << 30)), "would end at byte"),
    "a place that lies": (poked(zipped(*PARTS.items()), b"PK\1\2", 42, struct.pack("<L", 40)), "does not begin at byte 40"),
    "another name": (poked(zipped(*PARTS.items()), b"PK\3\4", 30, b"x"), "there is another file than manifest.json"),
    "a wrong checksum": (poked(zipped(*PARTS.items()), b"PK\1\2", 16, b"\0\0\0\0"), "manifest.json do not have their checksum"),
    "text behind it": (packed(PARTS) + b"more", "cut off"),
    "its directory elsewhere": (poked(packed(PARTS), b"PK\5\6", 16, struct.pack("<L", 7)), "damaged"),
    "a directory of 64 bits that lies": (
        packed(PARTS)[:-22] + struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 1 << 45, 0)
        + struct.pack("<4sLQL", b"PK\6\7", 0, len(packed(PARTS)) - 22, 1) + packed(PARTS)[-22:], "it holds 1,099,511,627,776 files"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_hostile_zips_are_refused(name: str, tmp_path: pathlib.Path) -> None:
    data, told = ZIPS[name]
    assert told in refused(data, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["program.ngx"], "nothing is unpacked"


def test_a_file_twice_and_files_in_one_another(tmp_path: pathlib.Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped(*PARTS.items(), (MANIFEST, PARTS[MANIFEST]))
    assert "'manifest.json', twice" in refused(twice, tmp_path)
    data = zipped(*PARTS.items())
    first, second = (data.index(b"PK\1\2"), data.index(b"PK\1\2", data.index(b"PK\1\2") + 4))
    inside = data[:second + 42] + data[first + 42:first + 46] + data[second + 46:]
    assert "does not begin at byte" in refused(inside, tmp_path) or "another file" in refused(inside, tmp_path)


# -- manifests ----------------------------------------------------------------------------------------------

DEEP: Any = "*"
for _ in range(150):
    DEEP = {"tuple": [DEEP]}
RECORD = {"record": "R", "fields": [["a", "*"]], "static": [], "buffers": []}
MANIFESTS = {
    "newer": (manifest(version=2, nagraph="7.1"), "its format has version 2, and version 1 is the newest that is known here: it was "
                                                  f"written by nagraph 7.1, and this is {ng.__version__}"),
    "newer, with other fields": (manifest(version=2, colour="red"), "its format has version 2"),
    "newer text": (manifest(text=2), "the text of its graph has version 2"),
    "a newer op": (manifest(ops={"add": 2}), "the op add has version 2, and 1 is the newest known here"),
    "an op of the future": (manifest(ops={"divine": 1}), "there is no op divine here"),
    "versions of the past": (manifest(version=0), "its format has version 0"),
    "a version in words": (manifest(text="1"), "the text of its graph has version 1"),
    "ops in a list": (manifest(ops=["add"]), "its manifest says of ops: ['add']"),
    "another format": (manifest(format="elsewhere"), "is not that of a nagraph program"),
    "no JSON": (lambda b: b[:-9], "its manifest is no JSON"),
    "nested JSON": (lambda b: b"[" * 100_000 + b"]" * 100_000, "its manifest is no JSON"),
    "a long number": (lambda b: b.replace(b'"version": 1', b'"version": 1' + b"0" * 9999), "its manifest is no JSON"),
    "no UTF-8": (lambda b: b"\xff\xfe", "its manifest is no JSON"),
    "a list": (lambda b: b"[]", "is not that of"),
    "too large": (lambda b: b + b" " * (1 << 24), "may have 16,777,216"),
    "a field less": (manifest(weights=...), "its manifest has format, version"),
    "a field more": (manifest(colour="red"), "colour, and should have format"),
    "a wrong kind": (manifest(inputs=[]), "its manifest says of inputs: []"),
    "other types": (manifest(outputs={"a": "f32[]", "b": "f32[]"}), "its manifest names outputs of other types than its graph has"),
    "other weights": (manifest(weights=["w"]), "its weights are others than its manifest names"),
    "arguments of a wrong kind": (manifest(arguments=[3]), "its manifest says of arguments: [3]"),
    "a deep tree": (manifest(arguments=[["pixels", DEEP]]), "a tree is nested more than 100 deep"),
    "no tree": (manifest(arguments=[["pixels", {"set": ["*"]}]]), "set is no kind of tree"),
    "leaves more": (manifest(arguments=[["pixels", {"tuple": ["*", "*"]}]]), "the trees in its manifest have other leaves"),
    "keys that are not sorted": (manifest(arguments=[["pixels", {"dict": [["b", "*"], ["a", None]]}]]), "are not those of a dict, sorted"),
    "a field of Python": (manifest(arguments=[["pixels", RECORD | {"fields": [["__class__", "*"]]}]]), "has the fields ('__class__',)"),
    "a field that is code": (manifest(arguments=[["pixels", RECORD | {"fields": [["a=print()", "*"]]}]]), "has the fields"),
    "a class that is a keyword": (manifest(arguments=[["pixels", RECORD | {"record": "class"}]]), "a record class has the fields"),
    "a field twice": (manifest(arguments=[["pixels", RECORD | {"static": [["a", 1]]}]]), "has the fields ('a', 'a')"),
    "a value of no kind": (manifest(arguments=[["pixels", RECORD | {"static": [["b", [1]]]}]]), "[1] is no value of a field"),
    "buffers that are none": (manifest(arguments=[["pixels", RECORD | {"buffers": [["a"]]}]]), "a record R has the fields"),
    "an argument that is a keyword": (manifest(arguments=[["lambda", "*"]]), "its arguments can't be those of a function"),
    "arguments in a wrong order": (manifest(arguments=[["xs[0]", "*"], ["y", None]]), "its arguments can't be those of a function"),
    "an argument twice": (manifest(arguments=[["pixels", "*"], ["pixels", None]]), "its arguments can't be those of a function"),
    "giving away nothing": (manifest(donated=["state"]), "it gives away 'state', which is no argument"),
    "a pipeline of code": (manifest(pipeline="simplify{x=__import__('os')}"), "its pipeline is none: pass simplify has no option 'x'"),
    "an unknown pass": (manifest(pipeline="witchcraft"), "its pipeline is none: unknown pass 'witchcraft'"),
    "a nested pipeline": (manifest(pipeline="fuse{max_nodes=" + "(" * 9000 + "1"), "its pipeline is none"),
    "a long pipeline": (manifest(pipeline="dce," * 9999), "its pipeline is none: it has 39,996 characters"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_that_are_wrong_are_refused(name: str, tmp_path: pathlib.Path) -> None:
    change, told = MANIFESTS[name]
    assert told in refused(rewritten(whole()["forward-1"], manifest=change), tmp_path)


# -- text and tensors -----------------------------------------------------------------------------------------

SQUARE = "graph @f(%x: f32[2]) -> (f32[2]) {{\n  %0: f32[2] = {}(%x)\n  return %0\n}}\n"
TEXTS = {
    "no text": (b"\xff", "the text of its graph is no UTF-8: byte 0 is 0xff"),
    "an unknown op": (SQUARE.format("sqare").encode(), "its graph is no graph: line 2, column 16: unknown op 'sqare'; did you mean"),
    "nothing": (b"", "its graph is no graph: line 1, column 1: a text holds at least one graph"),
    "another graph": (SQUARE.format("square").encode(), "its manifest names inputs of other types than its graph has"),
    "too long": (b" " * ((1 << 24) + 1), "and may have 16,777,216"),
    "nested lists": (b"graph @f() -> (f32[]) {\n  %0: f32[] = const{value=" + b"[" * 9000 + b"}() return %0 }",
                     "its graph is no graph: line 2, column"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_are_wrong_are_refused(name: str, tmp_path: pathlib.Path) -> None:
    text, told = TEXTS[name]
    assert told in refused(rewritten(whole()["forward-1"], text=lambda _: text), tmp_path)


def tensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> Any:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


TENSORS = {
    "nothing": (b"", "a header of 0 bytes in a file of 0"),
    "a header that lies": (tensors({}, length=1 << 60), "a header of 1,152,921,504,606,846,976 bytes in a file of"),
    "no JSON": (tensors({})[:8] + b"[]", "its header is no object with names"),
    "nested JSON": (tensors(0)[:0] + (90_000).to_bytes(8, "little") + b"[" * 90_000, "its header is no JSON"),
    "no entry": (tensors({"w": 3}), "tensor w has the entry 3"),
    "a field more": (tensors({"w": entry() | {"x": 1}}, bytes(8)), "tensor w has the entry"),
    "an unknown dtype": (tensors({"w": entry("C64")}, bytes(8)), "tensor w is C64, which is none of"),
    "sizes that are none": (tensors({"w": entry(shape=(-2,))}, bytes(8)), "tensor w has the entry"),
    "sizes that lie": (tensors({"w": entry(shape=(2, 3))}, bytes(8)), "tensor w is f32[2,3], of 24 bytes, and has bytes 0 to 8 of 8"),
    "sizes beyond all": (tensors({"w": entry(shape=(1 << 62, 0))}, bytes(8)), "tensor w has the shape [4611686018427387904, 0], which"),
    "an end beyond the file": (tensors({"w": entry(offsets=(0, 8))}, bytes(4)), "has bytes 0 to 8 of 4"),
    "tensors in one another": (tensors({"w": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
                               "begins at byte 4, and the one before ends at 8"),
    "a gap": (tensors({"w": entry(offsets=(8, 16))}, bytes(16)), "begins at byte 8, and the one before ends at 0"),
    "bytes of nobody": (tensors({"w": entry()}, bytes(99)), "its tensors end at byte 8 of 99"),
    "bools that are none": (tensors({"w": entry("BOOL", (8,))}, b"\2" * 8), "tensor w has a bool that is neither 0 nor 1"),
    "other weights": (tensors({"w": entry("F64", (1,))}, bytes(8)), "its weights are others than its manifest names"),
    "a weight of another type": (tensors({"w": entry(), "b": entry(offsets=(8, 16))}, bytes(16)),
                                 "the weight w is f32[2], and its graph takes"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_wrong_are_refused(name: str, tmp_path: pathlib.Path) -> None:
    content, told = TENSORS[name]
    assert told in refused(rewritten(whole()["forward-1"], weights=lambda _: content), tmp_path)


def test_constants_are_those_of_the_text(tmp_path: pathlib.Path) -> None:
    data = whole()["forward-1"]

    def zeroed(content: bytes) -> bytes:
        length = 8 + int.from_bytes(content[:8], "little")
        return content[:length] + bytes(len(content) - length)

    assert "the bytes are not those that this sha256 names" in refused(rewritten(data, constants=zeroed), tmp_path)
    none = b"".join([tensor_header({})[0]])
    assert "the text holds no resource sha256:" in refused(rewritten(data, constants=lambda _: none), tmp_path)
    assert CONSTANTS in PARTS and TEXT in PARTS


def test_expressions_of_sizes_can_not_grow_beyond_bounds(tmp_path: pathlib.Path) -> None:
    """A product of sums has as many terms as the sums have together, multiplied: a short text could ask for billions."""
    names = "abcdefghij"
    product = "*".join([f"({'+'.join(names)})"] * 24)
    text = "\n".join([*(f"dim {n}{{min=1}}" for n in names), f"graph @f(%x: f32[{product}]) -> (f32[{product}]) {{ return %x }}"])
    assert "line 11, column" in refused(rewritten(whole()["forward-1"], text=lambda _: text.encode()), tmp_path)


# -- versions of ops ------------------------------------------------------------------------------------------


def test_attributes_of_ops_change_with_their_version() -> None:
    """tests/data/attributes.json holds the attributes of every op at every version: a change without a new version fails here.

    What a new version did away with is read by the op's `upgraded`. A row is added by hand; none is changed or taken out.
    """
    table = json.loads((DATA / "attributes.json").read_text())
    now = {name: (str(cls.version), _attributes(cls)) for name, cls in own_ops().items()}
    for name, (version, attributes) in now.items():
        assert table.get(name, {}).get(version) == attributes, f"op {name}, version {version}: {attributes}"
        assert list(table[name]) == [str(v) for v in range(1, int(version) + 1)]
        assert version == "1" or "upgraded" in vars(REGISTRY[name]), f"op {name} can't read its earlier attributes"
    assert table.keys() == now.keys(), "an op that files may hold stays readable"


def _attributes(cls: Any) -> str:
    known = hints(cls)
    shown = (f"{f.name}: {known[f.name].__name__ if type(known[f.name]) is type else known[f.name]}" for f in dataclasses.fields(cls))
    return re.sub(r"[\w.]+\.(\w+)", r"\1", ", ".join(shown))
