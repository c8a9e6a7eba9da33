"""ng.save and ng.load: what goes in comes out, every damage is one sentence, a file is whole or not there."""

from __future__ import annotations

import errno
import os
import pathlib
import pickle
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng
from nagraph import files, storage
from nagraph.errors import CheckpointError
from nagraph.files import locked
from nagraph.ir.types import DTYPES
from tests.support import within


class Pair(ng.nn.Module):
    """A module with a leaf that may be None."""

    weight: Any
    bias: Any
    width: int = 3


def listing(folder: pathlib.Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


def test_every_dtype_comes_back_bit_for_bit(tmp_path: pathlib.Path) -> None:
    arrays = {name: np.arange(6).reshape(2, 3).astype(dtype) for name, dtype in DTYPES.items()}
    ng.save(tmp_path / "a.safetensors", arrays)
    found = ng.load(tmp_path / "a.safetensors", arrays)
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype and found[name].shape == x.shape and found[name].tobytes() == x.tobytes()


def test_any_layout_comes_back(tmp_path: pathlib.Path) -> None:
    """Scalars, empty arrays, NaN's bits, transposed, sliced, byte-swapped and read-only arrays."""
    base = np.random.default_rng(0).normal(size=(4, 6))
    fixed = base.copy()
    fixed.flags.writeable = False
    arrays = [np.float32(2.5), np.zeros((0, 3)), np.array([np.nan, -0.0, np.inf]), base.T, base[::2, ::-1], base.astype(">f8"), fixed]
    ng.save(tmp_path / "a", arrays)
    like = [np.asarray(x).astype(np.asarray(x).dtype.newbyteorder("=")) for x in arrays]
    for x, y in zip(ng.load(tmp_path / "a", like), like, strict=True):
        assert x.tobytes() == y.tobytes() and x.shape == y.shape
        assert x.flags.owndata and x.flags.writeable


def test_modules_come_back_and_none_stays(tmp_path: pathlib.Path) -> None:
    like = {"layers": (Pair(np.ones((2, 2)), None), Pair(np.zeros(3, np.int32), np.float32(1)))}
    ng.save(tmp_path / "new" / "folder" / "a", like, {"made by": "a test"})
    tensors, metadata = storage.read_safetensors(tmp_path / "new" / "folder" / "a")
    assert sorted(tensors) == ["layers.0.weight", "layers.1.bias", "layers.1.weight"] and metadata == {"made by": "a test"}
    found = ng.load(tmp_path / "new" / "folder" / "a", like)
    assert found["layers"][0].bias is None and found["layers"][1].width == 3
    assert np.array_equal(found["layers"][1].weight, np.zeros(3)) and found["layers"][1].bias.dtype == np.float32


def test_leaves_that_do_not_fit_are_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a"
    ng.save(path, {"w": np.zeros((2, 3), np.float32)})
    for like, message in [
        ({"w": np.zeros((3, 2), np.float32)}, "tensor w is float32[2, 3], expected float32[3, 2]"),
        ({"w": np.zeros((2, 3))}, "tensor w is float32[2, 3], expected float64[2, 3]"),
        ({"v": np.zeros((2, 3), np.float32)}, "holds no tensor v"),
    ]:
        with pytest.raises(CheckpointError) as caught:
            ng.load(path, like)
        assert message in str(caught.value) and str(path) in str(caught.value)


def test_two_leaves_with_one_path_are_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=r"two leaves have the path 'a\.b'"):
        ng.save(tmp_path / "a", {"a.b": np.zeros(1), "a": {"b": np.ones(1)}})
    assert listing(tmp_path) == []


@pytest.mark.parametrize("array", [np.array([object()]), np.ones(2, complex), np.array(["text"]), np.ones(2, ml_dtypes.float8_e5m2)])
def test_dtypes_that_can_not_be_saved_are_errors(array: np.ndarray, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="tensor x is .* can't be saved; there is bool, int8"):
        ng.save(tmp_path / "a", {"x": array})
    assert listing(tmp_path) == []


def damaged(whole: bytes) -> dict[str, bytes]:
    """Ways in which a safetensors file goes wrong."""
    size = struct.unpack("<Q", whole[:8])[0]
    header = whole[8:8 + size]

    def with_header(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text + whole[8 + size:]

    return {
        "empty": b"",
        "shorter than a header": whole[:5],
        "cut in its header": whole[:20],
        "cut in its data": whole[:-7],
        "longer than it says": whole + b"\0" * 9,
        "header longer than the file": struct.pack("<Q", 10**6) + whole[8:],
        "header longer than memory": struct.pack("<Q", 2**63) + whole[8:],
        "header that is no JSON": with_header(b"x" * size),
        "lying shape": with_header(header.replace(b"[2,3]", b"[9,3]")),
        "huge shape": with_header(header.replace(b"[2,3]", b"[4294967296,4294967296]")),
        "lying offsets": with_header(header.replace(b"[0,24]", b"[0,99]")),
        "backward offsets": with_header(header.replace(b"[0,24]", b"[24,0]")),
        "unknown dtype": with_header(header.replace(b"F32", b"F99")),
        "header of another kind": with_header(b"[1, 2, 3]"),
        "a pickle": pickle.dumps({"x": np.zeros((2, 3), np.float32)}),
        "text": b"It was a dark and stormy night; the rain fell in torrents.",
    }


def test_every_damage_is_one_sentence(tmp_path: pathlib.Path) -> None:
    like = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    path = tmp_path / "a"
    ng.save(path, like)
    whole = path.read_bytes()
    for name, content in damaged(whole).items():
        assert content != whole, name
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="is damaged, or no safetensors file") as caught:
            ng.load(path, like)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value), name


def test_every_cut_and_a_flip_in_every_byte_of_the_header_are_told_or_change_nothing(tmp_path: pathlib.Path) -> None:
    like = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    path = tmp_path / "a"
    ng.save(path, like)
    whole = path.read_bytes()
    flipped = [whole[:i] + bytes([whole[i] ^ 1 << b]) + whole[i + 1:] for i in range(len(whole) - 24) for b in (0, 4)]
    for content in [*(whole[:n] for n in range(len(whole))), *flipped]:
        path.write_bytes(content)
        try:
            assert np.array_equal(ng.load(path, like)["x"], like["x"])
        except CheckpointError:
            continue
        assert content[:8] == whole[:8] and len(content) == len(whole)


def test_nothing_is_unpickled(tmp_path: pathlib.Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "a").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        ng.load(tmp_path / "a", {"x": np.zeros(1)})
    assert listing(tmp_path) == ["a"]


def test_missing_files_and_folders(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        ng.load(tmp_path / "none", {})
    with pytest.raises(CheckpointError, match="is a folder"):
        ng.load(tmp_path, {})
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with within(5), pytest.raises(CheckpointError, match="can't be read: it is a device, a pipe or a socket"):
            ng.load(tmp_path / "pipe", {})
        (tmp_path / "pipe").unlink()
    with pytest.raises(CheckpointError, match="can't be written: Is a directory"):
        ng.save(tmp_path, {"x": np.zeros(1)})
    (tmp_path / "file").write_text("here")
    with pytest.raises(CheckpointError, match="can't be written: Not a directory"):
        ng.save(tmp_path / "file" / "sub" / "a", {"x": np.zeros(1)})
    with pytest.raises(CheckpointError, match="can't be written: File name too long"):
        ng.save(tmp_path / ("a" * 300), {"x": np.zeros(1)})
    assert listing(tmp_path) == ["file"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
        moment: str, error: BaseException, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    ng.save(path, {"x": np.ones(3)})

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(files.os, moment, fail)
    expected = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    for target in (path, tmp_path / "new" / "b"):
        with pytest.raises(expected) as caught:
            ng.save(target, {"x": np.zeros(3)})
        assert expected is KeyboardInterrupt or str(caught.value) == f"{target} can't be written: No space left on device"
    monkeypatch.undo()
    assert listing(tmp_path) == ["a"] and np.array_equal(ng.load(path, {"x": np.ones(3)})["x"], np.ones(3))


def test_files_have_the_permissions_of_any_new_file(tmp_path: pathlib.Path) -> None:
    ng.save(tmp_path / "a", {"x": np.ones(3)})
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_folder_is_locked_once(tmp_path: pathlib.Path) -> None:
    """By whoever opened it first, until they let go."""
    for _ in range(2):
        with locked(tmp_path / "run", CheckpointError):
            with pytest.raises(CheckpointError, match="another process is training in"), locked(tmp_path / "run", CheckpointError):
                pass
            (tmp_path / "run" / "a").touch()
    assert listing(tmp_path) == ["a", "run"]


# -- folders ----------------------------------------------------------------------------------------------


def write_folder(path: pathlib.Path, *names: str) -> None:
    with files.atomic_folder(path, CheckpointError) as draft:
        for name in names:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_text(name)
        assert not (path / names[0]).exists() or (path / names[0]).read_text() == "old", "nothing is seen before the end"


def test_a_folder_is_whole_or_not_there(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "new" / "out"
    with pytest.raises(RuntimeError), files.atomic_folder(target, CheckpointError) as draft:
        (draft / "a").write_text("a")
        raise RuntimeError
    assert listing(tmp_path) == []
    write_folder(target, "a", "lib/b")
    assert listing(tmp_path) == ["a", "b", "lib", "new", "out"]
    (target / "a").write_text("old")
    write_folder(target, "a", "lib/b", "c")
    assert listing(tmp_path) == ["a", "b", "c", "lib", "new", "out"] and (target / "a").read_text() == "a"
    with pytest.raises(RuntimeError), files.atomic_folder(target, CheckpointError) as draft:
        (draft / "a").write_text("other")
        raise RuntimeError
    assert listing(tmp_path) == ["a", "b", "c", "lib", "new", "out"] and (target / "a").read_text() == "a"


def test_a_folder_with_files_of_others_stays(tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    before = listing(tmp_path)
    with pytest.raises(CheckpointError, match="can't be replaced: it holds thesis.tex, which would be lost; name a new folder"):
        write_folder(tmp_path, "a")
    with pytest.raises(CheckpointError, match="thesis.tex can't be written: it is no folder"):
        write_folder(tmp_path / "thesis.tex", "a")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(CheckpointError, match="link can't be written: it is no folder"):
        write_folder(tmp_path / "link", "a")
    (tmp_path / "link").unlink()
    assert listing(tmp_path) == before and [p.name for p in tmp_path.parent.iterdir() if p.name.startswith(f".{tmp_path.name}")] == []


def test_a_folder_that_can_not_be_renamed_leaves_the_old_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, rename = tmp_path / "out", os.rename
    write_folder(target, "a")
    (target / "a").write_text("old")

    def fail(a: Any, b: Any) -> None:
        if pathlib.Path(b) == target and not str(a).endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        rename(a, b)

    monkeypatch.setattr(files.os, "rename", fail)
    with pytest.raises(CheckpointError, match="out can't be written: Input/output error"):
        write_folder(target, "a", "b")
    assert listing(tmp_path) == ["a", "out"] and (target / "a").read_text() == "old"
