"""Arrays in safetensors files: read with every damage told in one sentence, written so that a file is whole or not there."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from nagraph import tree
from nagraph.errors import CheckpointError
from nagraph.ir.types import bfloat16


def read_safetensors(path: str | pathlib.Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """The tensors by name, and the file's metadata. CheckpointError if it is missing, damaged or foreign."""
    from safetensors import SafetensorError, safe_open

    if not os.path.exists(path):
        raise CheckpointError(f"{path} does not exist")
    if os.path.isdir(path):
        raise CheckpointError(f"{path} is a folder, not a safetensors file")
    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged, or no safetensors file: {error}") from None


def write_safetensors(path: str | pathlib.Path, tensors: Mapping[str, np.ndarray[Any, Any]],
                      metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors atomically: a reader sees the old file or the new one, whatever happens."""
    from safetensors.numpy import save

    for name, array in tensors.items():
        if array.dtype == bfloat16:
            raise CheckpointError(f"tensor {name} is bfloat16, which safetensors can't take from NumPy; save it as float32")
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    write_atomically(path, save(contiguous, dict(metadata) if metadata else None))


def write_atomically(path: str | pathlib.Path, content: bytes) -> None:
    """Write a file under another name, flush it to disk, then rename it; nothing is left behind on failure."""
    target = pathlib.Path(path)
    name = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except OSError as error:
        if name:
            with contextlib.suppress(OSError):
                os.unlink(name)
        raise CheckpointError(f"{target} can't be written: {error.strerror or error}") from None


def save(path: str | pathlib.Path, arrays: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Save a pytree of arrays as safetensors, each leaf under its path: `blocks.0.attention.weight`. None leaves are left out."""
    write_safetensors(path, named_leaves(arrays), metadata)


def load(path: str | pathlib.Path, like: Any) -> Any:
    """The pytree saved at `path`, in the structure of `like`, whose leaves give the shapes and dtypes to expect.

    Raises CheckpointError for a missing, damaged or foreign file, naming the first leaf that does not fit.
    """
    return fill(like, read_safetensors(path)[0], str(path))


def named_leaves(arrays: Any, prefix: str = "") -> dict[str, np.ndarray[Any, Any]]:
    """Path and array of each leaf that is not None."""
    leaves, structure = tree.flatten(arrays)
    return {p: np.asarray(x) for p, x in zip(tree.paths(structure, prefix), leaves) if x is not None}


def fill(like: Any, tensors: Mapping[str, np.ndarray[Any, Any]], source: str, prefix: str = "") -> Any:
    """`like` with each leaf replaced by the tensor of its path; CheckpointError if one is missing or does not fit."""
    leaves, structure = tree.flatten(like)
    found = []
    for name, leaf in zip(tree.paths(structure, prefix), leaves):
        if leaf is None:
            found.append(None)
            continue
        if name not in tensors:
            raise CheckpointError(f"{source} holds no tensor {name}")
        array, wanted = tensors[name], np.asarray(leaf)
        if array.shape != wanted.shape or array.dtype != wanted.dtype:
            raise CheckpointError(f"{source}: tensor {name} is {array.dtype}{list(array.shape)}, "
                                  f"expected {wanted.dtype}{list(wanted.shape)}")
        found.append(array)
    return tree.unflatten(structure, found)
