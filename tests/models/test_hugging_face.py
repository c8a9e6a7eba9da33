"""Folders of tensors: what is read and when, and one message for all that does not fit."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from nagraph.errors import CheckpointError
from nagraph.models.hugging_face import Tensors, read_tensors
from nagraph.storage import map_safetensors, read_safetensors, write_safetensors

RNG = np.random.default_rng(0)
ARRAYS = {"a.weight": RNG.normal(size=(3, 4)).astype(np.float32), "a.bias": RNG.normal(size=4).astype(np.float32),
          "b.weight": RNG.normal(size=(4, 2)).astype(np.float32)}


def write(folder: pathlib.Path, *shards: dict[str, Any]) -> pathlib.Path:
    """One file, or shards with an index."""
    if len(shards) == 1:
        write_safetensors(folder / "model.safetensors", shards[0])
        return folder
    where = {name: f"model-{i}.safetensors" for i, shard in enumerate(shards) for name in shard}
    for i, shard in enumerate(shards):
        write_safetensors(folder / f"model-{i}.safetensors", shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def part(*names: str) -> dict[str, Any]:
    return {n: ARRAYS[n] for n in names}


@pytest.mark.parametrize("shards", [(ARRAYS,), (part("a.weight"), part("a.bias", "b.weight"))], ids=["whole", "shards"])
def test_what_was_written_is_taken(shards: Any, tmp_path: pathlib.Path) -> None:
    tensors = read_tensors(write(tmp_path, *shards))
    assert sorted(tensors) == sorted(ARRAYS) and len(tensors) == 3 and "a.bias" in tensors and "c" not in tensors
    for name, x in ARRAYS.items():
        found = tensors.take(name, x.shape, np.float32)
        assert type(found) is np.ndarray and np.array_equal(found, x)
        assert not found.flags.owndata and not found.flags.writeable, "a view of the file"
    tensors.finish()


def test_prefixes_are_stripped(tmp_path: pathlib.Path) -> None:
    tensors = read_tensors(write(tmp_path, {"model.x": np.ones(2), "head": np.zeros(3)}), strip="model.")
    assert sorted(tensors) == ["head", "x"]
    with pytest.raises(CheckpointError, match="model.safetensors: there are two tensors x$"):
        read_tensors(write(tmp_path, {"model.x": np.ones(2), "x": np.zeros(3)}), strip="model.")


@pytest.mark.parametrize("stored", [ml_dtypes.bfloat16, np.float16, np.float64], ids=["bf16", "f16", "f64"])
def test_other_dtypes_are_cast(stored: Any, tmp_path: pathlib.Path) -> None:
    x = ARRAYS["a.weight"].astype(stored)
    tensors = read_tensors(write(tmp_path, {"x": x}))
    found = tensors.take("x", x.shape, np.float32)
    assert found.dtype == np.float32 and np.array_equal(found, x.astype(np.float32))
    kept = tensors.take("x", x.shape)
    assert kept.dtype == np.dtype(stored) and kept.tobytes() == x.tobytes()


def test_whole_numbers_are_no_weights(tmp_path: pathlib.Path) -> None:
    tensors = read_tensors(write(tmp_path, {"q": np.ones(3, np.int8), "ids": np.arange(3)}))
    assert tensors.take("ids", (3,), np.int32).dtype == np.int32
    tensors.take("q", (3,), np.float32)
    with pytest.raises(CheckpointError, match=f"^{tmp_path}: tensor q is int8, the model computes in float32$"):
        tensors.finish()


def test_all_that_does_not_fit_is_one_message(tmp_path: pathlib.Path) -> None:
    tensors = read_tensors(write(tmp_path, {**ARRAYS, "mask": np.ones(2), "c.rest": np.ones(1), "d.rest": np.ones(1)}))
    assert np.array_equal(tensors.take("a.weight", (3, 4)), ARRAYS["a.weight"])
    for name, shape in (("a.bias", (5,)), ("b.weight", (2, 4)), ("c.bias", (7, 2)), ("e.bias", ())):
        stand_in = tensors.take(name, shape, np.float32)
        assert stand_in.shape == shape and stand_in.dtype == np.float32 and not stand_in.any()
    with pytest.raises(CheckpointError) as caught:
        tensors.finish(ignored=("*.rest",))
    assert str(caught.value) == (
        f"{tmp_path}: holds no tensor c.bias, e.bias; tensor a.bias has shape [4], the configuration asks for [5]; "
        "tensor b.weight has shape [4, 2], the configuration asks for [2, 4]; the model has no place for mask")


def test_a_message_shows_some_and_counts_all() -> None:
    tensors = Tensors("folder", {f"x{i:02}": np.ones(2) for i in range(30)})
    for i in range(20):
        tensors.take(f"y{i:02}", (1,))
    for i in range(9):
        tensors.take(f"x{i:02}", (3,))
    with pytest.raises(CheckpointError) as caught:
        tensors.finish(ignored=("x29",))
    missing, *unfit, extra = str(caught.value).split("; ")
    assert missing == "folder: holds no tensor y00, y01, y02, y03, y04, y05, y06, y07, ... (20 in all)"
    assert len(unfit) == 8 + 1 and unfit[7].startswith("tensor x07 has shape [2]") and unfit[8] == "... (9 in all)"
    assert extra == "the model has no place for x09, x10, x11, x12, x13, x14, x15, x16, ... (20 in all)"


def _cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _longer(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(8))


def _foreign(path: pathlib.Path) -> None:
    path.write_bytes(b"PK\3\4 a zip")


def _empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _longer, _foreign, _empty])
def test_a_damaged_shard(damage: Any, tmp_path: pathlib.Path) -> None:
    write(tmp_path, part("a.weight"), part("a.bias", "b.weight"))
    damage(tmp_path / "model-1.safetensors")
    with pytest.raises(CheckpointError, match="model-1.safetensors is damaged, or no safetensors file: "):
        read_tensors(tmp_path)


def test_shards_that_are_not_there(tmp_path: pathlib.Path) -> None:
    write(tmp_path, part("a.weight"), part("a.bias"))
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-1.safetensors does not exist"):
        read_tensors(tmp_path)
    with pytest.raises(CheckpointError, match="model.safetensors does not exist"):
        read_tensors(tmp_path / "nowhere")


def test_a_tensor_in_two_shards(tmp_path: pathlib.Path) -> None:
    write(tmp_path, part("a.weight"), part("a.bias"))
    write_safetensors(tmp_path / "model-1.safetensors", ARRAYS)
    with pytest.raises(CheckpointError, match="model-1.safetensors: there are two tensors a.weight"):
        read_tensors(tmp_path)


def test_mapped_tensors_are_those_that_are_read(tmp_path: pathlib.Path) -> None:
    arrays = {"empty": np.zeros((0, 3)), "scalar": np.float32(2.5).reshape(()), "odd": np.arange(3, dtype=np.uint8),
              "flags": np.array([True, False, True]), "wide": np.arange(5.0), "half": np.ones(3, ml_dtypes.bfloat16)}
    path = tmp_path / "x.safetensors"
    write_safetensors(path, arrays, {"made by": "a test"})
    found, read = map_safetensors(path), read_safetensors(path)[0]
    assert found.keys() == read.keys() == arrays.keys()
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype and found[name].shape == x.shape and found[name].tobytes() == x.tobytes(), name
        assert found[name].flags.aligned
    path.unlink()
    assert found["wide"].tolist() == [0, 1, 2, 3, 4], "what is mapped outlives the name of the file"


def test_numbers_at_odd_places_are_moved(tmp_path: pathlib.Path) -> None:
    """A header of any length is allowed."""
    header = b'{"x":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}'
    header += b" " * (4 - len(header) % 8)
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + np.array([1.5, -2.0]).tobytes())
    x = map_safetensors(path)["x"]
    assert x.flags.aligned and x.tolist() == [1.5, -2.0]


def test_dtypes_that_no_graph_holds(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.safetensors"
    header = b'{"x":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}'.ljust(64)
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="tensor x is F8_E4M3, which is none of bool, .*f32"):
        map_safetensors(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how much is resident is asked of Linux")
def test_loading_reads_what_is_used_and_no_more(tmp_path: pathlib.Path) -> None:
    """Of 64 MiB, taking everything costs next to nothing, and using one tensor its own size."""
    write(tmp_path, {f"x{i}": np.full((1 << 20,), i, np.float32) for i in range(16)})
    code = """
import sys
import numpy as np
from nagraph.models.hugging_face import read_tensors
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
import safetensors
before = resident()
tensors = read_tensors(sys.argv[1])
held = [tensors.take(f"x{i}", (1 << 20,), np.float32) for i in range(16)]
tensors.finish()
taken = resident() - before
assert held[3].sum() == 3 << 20
print(taken, resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    taken, used = map(int, done.stdout.split())
    assert taken < 4 << 20 < used < 24 << 20, (taken, used)
