"""Reading a Hugging Face folder: config.json and safetensors, whole or in shards."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

from nagraph.errors import CheckpointError


def read_config(folder: str | pathlib.Path, kind: str) -> dict[str, Any]:
    """The configuration, after checking that it is a model of this kind."""
    path = pathlib.Path(folder) / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no config.json; a Hugging Face folder has config.json and model.safetensors") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from None
    if not isinstance(found, dict) or found.get("model_type") != kind:
        shown = found.get("model_type") if isinstance(found, dict) else type(found).__name__
        raise CheckpointError(f"{path} is for a model of type {shown!r}, not {kind!r}")
    return found


def size(config: dict[str, Any], name: str) -> int:
    """A size that the configuration has to name, at least 1."""
    value = config.get(name)
    if type(value) is not int or value < 1:
        raise CheckpointError(f"config.json must name {name}, a whole number of at least 1; it says {value!r}")
    return value


def read_tensors(folder: str | pathlib.Path, strip: str = "") -> dict[str, np.ndarray[Any, Any]]:
    """All tensors of model.safetensors or, where there is none, of the shards that its index names, without the prefix `strip`."""
    from nagraph.storage import read_safetensors

    root = pathlib.Path(folder)
    files = [root / "model.safetensors"]
    index = root / "model.safetensors.index.json"
    if not files[0].exists() and index.exists():
        try:
            files = [root / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{index} is no index of shards: {error}") from None
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for path in files:
        tensors.update(read_safetensors(path)[0])
    return {name.removeprefix(strip): array for name, array in tensors.items()}


def take(tensors: dict[str, np.ndarray[Any, Any]], folder: Any, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """One tensor of the expected shape."""
    if name not in tensors:
        raise CheckpointError(f"{folder} holds no tensor {name}; it has {', '.join(sorted(tensors)[:4])}, ... ({len(tensors)} in all)")
    array = tensors[name]
    if array.shape != shape:
        raise CheckpointError(f"{folder}: tensor {name} has shape {list(array.shape)}, the configuration asks for {list(shape)}")
    return array
