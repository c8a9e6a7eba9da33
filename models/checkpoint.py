"""Checkpoints: a folder with the tensors of one step and a small JSON that names them.

The tensors go into a file of their own for each step; checkpoint.json, replaced last and at
once, is what makes them the current ones. Whatever happens, the folder holds a whole checkpoint.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from nagraph.errors import CheckpointError
from nagraph.storage import read_safetensors, write_atomically, write_safetensors

FORMAT = "nagraph checkpoint 1"
NAME = "checkpoint.json"


def exists(folder: str | pathlib.Path) -> bool:
    return (pathlib.Path(folder) / NAME).exists()


def write(folder: str | pathlib.Path, step: int, facts: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Make this the folder's checkpoint. `facts` is what the JSON says beside format, step and the tensors' file."""
    root = pathlib.Path(folder)
    name = f"step-{step:08d}.safetensors"
    write_safetensors(root / name, tensors)
    digest = hashlib.sha256((root / name).read_bytes()).hexdigest()
    text = json.dumps({"format": FORMAT, "step": step, "tensors": name, "sha256": digest, **facts}, indent=1, sort_keys=True)
    write_atomically(root / NAME, f"{text}\n".encode())
    for old in root.glob("step-*.safetensors"):
        if old.name != name:
            with contextlib.suppress(OSError):
                old.unlink()


def read(folder: str | pathlib.Path, kind: str | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """The facts and the tensors. CheckpointError says in one sentence what is missing, damaged or foreign."""
    root = pathlib.Path(folder)
    path = root / NAME
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no checkpoint: there is no {NAME}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this program (it would say {FORMAT!r})")
    if kind is not None and facts.get("model") != kind:
        raise CheckpointError(f"{path} is a checkpoint of {facts.get('model')!r}, not of {kind!r}")
    name = facts.get("tensors")
    if not isinstance(name, str) or pathlib.PurePath(name).name != name or not isinstance(facts.get("step"), int):
        raise CheckpointError(f"{path} is damaged: it names no tensors or no step")
    tensors, _ = read_safetensors(root / name)
    if hashlib.sha256((root / name).read_bytes()).hexdigest() != facts.get("sha256"):
        raise CheckpointError(f"{root / name} is damaged: its contents are not those that {NAME} names")
    return facts, tensors
