"""Arrays in safetensors files: read with every damage told in one sentence, written so that a file is whole or not there."""

from __future__ import annotations

import contextlib
import json
import mmap
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nagraph import arrays as kinds
from nagraph import tree
from nagraph.errors import CheckpointError
from nagraph.files import SETTINGS_NBYTES, open_regular, short, write_atomically
from nagraph.ir.types import DTYPES, SHORT_NAMES, TensorType


def read_safetensors(path: str | pathlib.Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """The tensors by name, and the file's metadata. CheckpointError if it is missing, damaged or foreign."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})


def map_safetensors(path: str | pathlib.Path) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors by name, as read-only views of the file in memory: the system reads a page of it when it is first used.

    The file must not be written to while they live; it may be renamed, replaced or deleted. CheckpointError as `read_safetensors`.
    """
    with _opened(path), open_regular(path) as raw:  # which has checked what the header says
        memory = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(memory[:8], "little")
        header = json.loads(memory[8:start])
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = DTYPES.get(entry["dtype"].lower())
        if dtype is None:
            raise CheckpointError(f"{path}: tensor {name} is {entry['dtype']}, which is none of {', '.join(DTYPES)}")
        view = np.ndarray(tuple(entry["shape"]), dtype, memory, start + entry["data_offsets"][0])
        found[name] = view if view.flags.aligned else view.copy()
    return found


def tensor_header(tensors: Mapping[str, np.ndarray[Any, Any]]) -> tuple[bytes, list[np.ndarray[Any, Any]]]:
    """The beginning of a safetensors file that holds these tensors, and the arrays whose bytes follow, in order: all of them aligned."""
    entries: dict[str, Any] = {}
    end = 0
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
    for name, array in ordered.items():
        entries[name] = {"dtype": SHORT_NAMES[array.dtype.newbyteorder("=")].upper(), "shape": list(array.shape),
                         "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(entries).encode()
    padded = text + b" " * (-(len(text) + 8) % 64)  # so that the first tensor is aligned
    return len(padded).to_bytes(8, "little") + padded, list(ordered.values())


def tensors_within(memory: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a safetensors file whose bytes are these, as views of them. CheckpointError for anything that the format has not.

    They lie one behind the other, in whatever order, and fill the file: what each is said to be is held against the bytes that it has.
    """
    length = int.from_bytes(bytes(memory[:8]), "little")
    if memory.size < 8 or length > min(memory.size - 8, SETTINGS_NBYTES):
        raise CheckpointError(f"a header of {length:,} bytes in a file of {memory.size:,}")
    try:
        header = json.loads(bytes(memory[8:8 + length]))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its header is no JSON: {short(str(error))}") from None
    if not isinstance(header, dict):
        raise CheckpointError("its header is no object with names")
    header.pop("__metadata__", None)
    data = memory[8 + length:]
    found, places = {}, []
    for name, entry in header.items():
        type, begin, end = _entry(name, entry)
        places.append((begin, end, name))
        if end - begin != type.nbytes or end > data.size:
            raise CheckpointError(f"tensor {short(name)} is {type}, of {type.nbytes:,} bytes, and has bytes {begin:,} to {end:,} of "
                                  f"{data.size:,}")
        if type.dtype == DTYPES["bool"] and (data[begin:end] > 1).any():
            raise CheckpointError(f"tensor {short(name)} has a bool that is neither 0 nor 1")
        found[name] = data[begin:end].view(type.dtype).reshape(type.shape)
    last = 0
    for begin, end, name in sorted(places):
        if begin != last:
            raise CheckpointError(f"tensor {short(name)} begins at byte {begin:,}, and the one before ends at {last:,}")
        last = end
    if last != data.size:
        raise CheckpointError(f"its tensors end at byte {last:,} of {data.size:,}")
    return {name: x if x.flags.aligned else x.copy() for name, x in found.items()}


def _entry(name: str, entry: Any) -> tuple[TensorType, int, int]:
    """The type of a tensor by its entry in the header, and where its bytes begin and end."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"} or not (
            _are_sizes(entry["shape"]) and _are_sizes(entry["data_offsets"]) and len(entry["data_offsets"]) == 2):
        raise CheckpointError(f"tensor {short(name)} has the entry {short(entry)}")
    dtype = DTYPES.get(str(entry["dtype"]).lower())
    if dtype is None:
        raise CheckpointError(f"tensor {short(name)} is {short(entry['dtype'])}, which is none of {', '.join(DTYPES)}")
    found = TensorType(dtype, tuple(entry["shape"]))
    if not found.possible:
        raise CheckpointError(f"tensor {short(name)} has the shape {short(entry['shape'])}, which no array has")
    begin, end = entry["data_offsets"]
    return found, begin, end


def _are_sizes(found: Any) -> bool:
    return isinstance(found, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in found)


@contextlib.contextmanager
def _opened(path: str | pathlib.Path) -> Iterator[Any]:
    """A safetensors file, open; whatever is wrong with it is a CheckpointError."""
    from safetensors import SafetensorError, safe_open

    try:
        open_regular(path).close()  # the library would wait for a pipe
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path} is a folder, not a safetensors file") from None
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from None
    try:
        with safe_open(str(path), framework="numpy") as file:
            yield file
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged, or no safetensors file: {error}") from None


def write_safetensors(path: str | pathlib.Path, tensors: Mapping[str, np.ndarray[Any, Any]],
                      metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors atomically: a reader sees the old file or the new one, whatever happens."""
    write_atomically(path, safetensors_bytes(tensors, metadata), CheckpointError)


def safetensors_bytes(tensors: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str] | None = None) -> bytes:
    """The contents of a safetensors file. CheckpointError names a tensor whose dtype the format has no name for."""
    from safetensors.numpy import save

    for name, array in tensors.items():
        if array.dtype.newbyteorder("=") not in DTYPES.values():
            raise CheckpointError(f"tensor {name} is {array.dtype}, which can't be saved; there is {', '.join(map(str, DTYPES.values()))}")
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    made: bytes = save(contiguous, dict(metadata) if metadata else None)
    return made


def save(path: str | pathlib.Path, arrays: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Save a pytree of arrays as safetensors, each leaf under its path: `blocks.0.attention.weight`. None leaves are left out."""
    write_safetensors(path, named_leaves(arrays), metadata)


def load(path: str | pathlib.Path, like: Any) -> Any:
    """The pytree saved at `path`, in the structure of `like`, whose leaves give the shapes, dtypes and devices to expect.

    Raises CheckpointError for a missing, damaged or foreign file, naming the first leaf that does not fit.
    """
    return fill(like, read_safetensors(path)[0], str(path))


def named_leaves(arrays: Any, prefix: str = "") -> dict[str, np.ndarray[Any, Any]]:
    """Path and array of each leaf that is not None. CheckpointError if two leaves have the same path."""
    leaves, structure = tree.flatten(arrays)
    named: dict[str, np.ndarray[Any, Any]] = {}
    for path, leaf in zip(tree.paths(structure, prefix), leaves):
        if path in named:
            raise CheckpointError(f"two leaves have the path {path!r}; rename the key with a dot in it")
        if leaf is not None:
            try:
                named[path] = kinds.read(leaf)
            except TypeError as error:
                raise CheckpointError(f"{path} can't be saved: {error}") from None
    return named


def fill(like: Any, tensors: Mapping[str, np.ndarray[Any, Any]], source: str, prefix: str = "") -> Any:
    """`like` with each leaf replaced by the tensor of its path, on its device; CheckpointError if one is missing or does not fit."""
    leaves, structure = tree.flatten(like)
    found: list[Any] = []
    for name, leaf in zip(tree.paths(structure, prefix), leaves):
        if leaf is None:
            found.append(None)
            continue
        if name not in tensors:
            raise CheckpointError(f"{source} holds no tensor {name}")
        array, wanted = tensors[name], kinds.type_of_array(leaf if kinds.is_array(leaf) else np.asarray(leaf))
        if array.shape != wanted.shape or array.dtype != wanted.dtype:
            raise CheckpointError(f"{source}: tensor {name} is {array.dtype}{list(array.shape)}, "
                                  f"expected {wanted.dtype}{list(wanted.shape)}")
        owned = array if array.flags.owndata else array.copy()  # an array of its own can be donated
        found.append(kinds.beside(owned, leaf))
    return tree.unflatten(structure, found)
