"""Reading a Hugging Face folder: config.json, and the tensors of safetensors files, which stay on disk until they are used."""

from __future__ import annotations

import fnmatch
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from nagraph.errors import CheckpointError
from nagraph.files import is_plain_name, read_json
from nagraph.storage import map_safetensors

Array = np.ndarray[Any, Any]
#: Names of tensors that one message shows of each kind.
SHOWN = 8


def read_type(folder: str | pathlib.Path) -> str:
    """The type of model that the configuration names."""
    return str(_config(folder).get("model_type"))


def read_config(folder: str | pathlib.Path, kind: str) -> dict[str, Any]:
    """The configuration, after checking that it is a model of this kind."""
    found = _config(folder)
    if found.get("model_type") != kind:
        raise CheckpointError(f"{pathlib.Path(folder) / 'config.json'} is for a model of type {found.get('model_type')!r}, not {kind!r}")
    return found


def _config(folder: str | pathlib.Path) -> dict[str, Any]:
    return read_json(pathlib.Path(folder) / "config.json", CheckpointError,
                     f"{folder} holds no config.json; a Hugging Face folder has config.json and model.safetensors")


def size(config: dict[str, Any], name: str) -> int:
    """A size that the configuration has to name, at least 1."""
    value = config.get(name)
    if type(value) is not int or value < 1:
        raise CheckpointError(f"config.json must name {name}, a whole number of at least 1; it says {value!r}")
    return value


def check_options(folder: str | pathlib.Path, config: dict[str, Any], allowed: Mapping[str, tuple[Any, ...]], model: str) -> None:
    """CheckpointError unless each option has one of the values allowed; one that is missing has the first."""
    for name, values in allowed.items():
        if config.get(name, values[0]) not in values:
            raise CheckpointError(f"{folder}: {name} {config[name]!r} is not what {model} has, {values[0]!r}")


class Tensors(Mapping[str, Array]):
    """Tensors of a folder, by name: read-only and mapped from disk, with a memory of which were used.

    `take` goes on where a tensor is missing or does not fit, with zeros in its place, so that `finish` can name all of them.
    """

    def __init__(self, source: Any, arrays: Mapping[str, Array]):
        self.source, self._arrays = source, dict(arrays)
        self._used: set[str] = set()
        self._missing: list[str] = []
        self._unfit: list[str] = []

    def __getitem__(self, name: str) -> Array:
        found = self._arrays[name]
        self._used.add(name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def take(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """One tensor: a view of the file where it has this dtype (or none is asked for), otherwise cast."""
        wanted = None if dtype is None else np.dtype(dtype)
        if name not in self:
            self._missing.append(name)
        else:
            array = self[name]
            problem = misfit(name, array, shape)
            if not problem and wanted is not None and _integral(array.dtype) and not _integral(wanted):
                problem = f"tensor {name} is {array.dtype}, the model computes in {wanted}"
            if not problem:
                return array if wanted is None else array.astype(wanted, copy=False)
            self._unfit.append(problem)
        return np.broadcast_to(np.zeros((), wanted), shape)

    def finish(self, ignored: Collection[str] = ()) -> None:
        """CheckpointError naming all that was missing or did not fit, and all that nobody took, unless it is like a pattern here."""
        extra = [n for n in sorted(self._arrays.keys() - self._used) if not any(fnmatch.fnmatchcase(n, p) for p in ignored)]
        parts = [f"holds no tensor {_some(self._missing)}"] * bool(self._missing)
        parts += [_some(self._unfit, "; ")] * bool(self._unfit)
        parts += [f"the model has no place for {_some(extra)}"] * bool(extra)
        if parts:
            raise CheckpointError(f"{self.source}: {'; '.join(parts)}")


def misfit(name: str, array: Array, shape: tuple[int, ...]) -> str:
    """What is wrong with the shape of a tensor; "" if nothing."""
    if array.shape == shape:
        return ""
    return f"tensor {name} has shape {list(array.shape)}, the configuration asks for {list(shape)}"


def _integral(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biu"


def _some(names: list[str], separator: str = ", ") -> str:
    """The first of the names, and how many there are where there are more."""
    return separator.join(names[:SHOWN]) + f"{separator}... ({len(names)} in all)" * (len(names) > SHOWN)


def read_tensors(folder: str | pathlib.Path, strip: str = "") -> Tensors:
    """All tensors of model.safetensors or, where there is none, of the shards that its index names, without the prefix `strip`."""
    root = pathlib.Path(folder)
    files = [root / "model.safetensors"]
    index = root / "model.safetensors.index.json"
    if not files[0].exists() and index.exists():
        shards = read_json(index, CheckpointError).get("weight_map")
        if not isinstance(shards, dict):
            raise CheckpointError(f"{index} is no index of shards: it has no weight_map")
        names = set(map(str, shards.values()))
        if odd := sorted(n for n in names if not is_plain_name(n)):
            raise CheckpointError(f"{index} names the shard {odd[0]!r}; a shard is a file in the folder of its index")
        files = [root / name for name in sorted(names)]
    tensors: dict[str, Array] = {}
    for path in files:
        for name, array in map_safetensors(path).items():
            short = name.removeprefix(strip)
            if short in tensors:
                raise CheckpointError(f"{path}: there are two tensors {short}")
            tensors[short] = array
    return Tensors(folder, tensors)
