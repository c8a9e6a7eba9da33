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
from nagraph.files import is_plain_name, read_bytes, read_json, short, write_atomically
from nagraph.storage import read_safetensors, safetensors_bytes
from nagraph.suggestions import RENAMED

FORMAT = "nagraph checkpoint 1"
NAME = "checkpoint.json"


def exists(folder: str | pathlib.Path) -> bool:
    return (pathlib.Path(folder) / NAME).exists()


def write(folder: str | pathlib.Path, step: int, facts: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]],
          keep: int = 1, best: int | None = None) -> None:
    """Make this the folder's checkpoint. `facts` is what the JSON says beside format, step and the tensors' file.

    The last `keep` checkpoints stay, this one included, and that of the step `best`, if it is there. CheckpointError if what
    is there is damaged: nothing is written over it.
    """
    root = pathlib.Path(folder)
    content = safetensors_bytes(tensors)
    digest = hashlib.sha256(content).hexdigest()
    name = f"step-{step:08d}-{digest[:8]}.safetensors"  # the digest, so that another run's file of this step stays until the end
    own = {"step": step, "tensors": name, "sha256": digest}
    earlier = _kept(root, step, keep - 1, best)
    text = json.dumps({"format": FORMAT, **own, "earlier": earlier, **facts}, indent=1, sort_keys=True)
    try:
        write_atomically(root / name, content, CheckpointError)
        write_atomically(root / NAME, f"{text}\n".encode(), CheckpointError)
    except BaseException:
        if not _is_current(root, name):
            with contextlib.suppress(OSError):
                (root / name).unlink()
        raise
    kept = {name, *(x["tensors"] for x in earlier)}
    with contextlib.suppress(OSError):
        for pattern in ("step-*.safetensors", ".step-*", f".{NAME}.*"):  # older steps, and drafts of a process that was killed
            for old in root.glob(pattern):
                if old.name not in kept:
                    old.unlink()


def _kept(root: pathlib.Path, step: int, count: int, best: int | None) -> list[dict[str, Any]]:
    """Of the checkpoints before this step, those that stay: the last `count`, and the best one."""
    if not exists(root):
        return []
    facts = read_facts(root)
    known = [*facts.get("earlier", ()), {k: facts.get(k) for k in ("step", "tensors", "sha256")}]
    before = [x for x in known if x["step"] < step and (root / x["tensors"]).exists()]
    last = before[max(0, len(before) - count):]
    return [x for x in before if x in last or x["step"] == best]


def _is_current(root: pathlib.Path, name: str) -> bool:
    """Whether checkpoint.json names these tensors, as it does when only what comes after its rename failed."""
    try:
        return bool(read_facts(root)["tensors"] == name)
    except CheckpointError:
        return False


def read_facts(folder: str | pathlib.Path, kind: str | None = None) -> dict[str, Any]:
    """What checkpoint.json says, with the name that the model has now.

    CheckpointError if it is missing, damaged, or another program's or model's.
    """
    path = pathlib.Path(folder) / NAME
    facts = read_json(path, CheckpointError, f"{folder} holds no checkpoint: there is no {NAME}")
    if facts.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this program (it would say {FORMAT!r})")
    model = facts.get("model")
    if isinstance(model, str):
        facts["model"] = RENAMED.get(model, model)
    if kind is not None and facts.get("model") != kind:
        raise CheckpointError(f"{path} is a checkpoint of {short(facts.get('model'))!r}, not of {kind!r}")
    earlier = facts.get("earlier", [])
    if not isinstance(earlier, list) or not all(map(_is_entry, (facts, *earlier))):
        raise CheckpointError(f"{path} is damaged: it names no tensors or no step")
    return facts


def _is_entry(found: Any) -> bool:
    """Whether it says which step is kept in which file of the folder."""
    return (isinstance(found, dict) and is_plain_name(found.get("tensors"))
            and type(found.get("step")) is int and 0 <= found["step"] < 2**63)


def read(folder: str | pathlib.Path, kind: str | None = None, step: int | None = None
         ) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """The facts and the tensors, of the last step or of another that was kept.

    CheckpointError says in one sentence what is missing, damaged or foreign.
    """
    facts = read_facts(folder, kind)
    if step is not None and step != facts["step"]:
        found = [x for x in facts.get("earlier", ()) if x["step"] == step]
        if not found:
            there = ", ".join(str(x["step"]) for x in (*facts.get("earlier", ()), facts))
            raise CheckpointError(f"{folder} keeps no checkpoint of step {step}; it has {there}")
        facts = {**facts, **found[0]}
    path = pathlib.Path(folder) / facts["tensors"]
    tensors, _ = read_safetensors(path)
    if hashlib.sha256(read_bytes(path)).hexdigest() != facts.get("sha256"):
        raise CheckpointError(f"{path} is damaged: its contents are not those that {NAME} names")
    return facts, tensors
