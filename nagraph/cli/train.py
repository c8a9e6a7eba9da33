"""`nagraph train MODEL`: begins a run or goes on with one, and trains."""

from __future__ import annotations

import pathlib
from typing import Any

from nagraph.cli.training import Plan, train
from nagraph.errors import CheckpointError
from nagraph.files import locked
from nagraph.models import checkpoint
from nagraph.models.training import Run
from nagraph.models.training.recipe import read_recipe


def run(kind: Any, recipe: dict[str, Any], data: pathlib.Path | None, steps: int, out: pathlib.Path | None, resume: bool,
        backend: str | None, keep: int, evaluate_every: int | None, patience: int | None, tensorboard: bool) -> None:
    """kind: the task; recipe: values for its fields, None for those that were not given."""
    folder = out or pathlib.Path("runs") / kind.name
    with locked(folder, CheckpointError):
        opened = open_run(kind, folder, data, resume, backend, {k: v for k, v in recipe.items() if v is not None}, steps)
        train(opened, Plan(folder, steps, keep, evaluate_every, patience, tensorboard, data, backend))


def open_run(kind: Any, folder: pathlib.Path, data: pathlib.Path | None, resume: bool, backend: str | None, changes: dict[str, Any],
             steps: int) -> Any:
    """The run that a folder holds, or a new one."""
    if resume:
        facts = checkpoint.read_facts(folder, kind.name)
        recipe = read_recipe(kind.Recipe, facts.get("recipe"), folder)
        for name, value in changes.items():
            if getattr(recipe, name) != value:
                raise CheckpointError(f"{folder} was trained with {name} {getattr(recipe, name)}, so it can't go on with {value}; "
                                      f"leave --{name.replace('_', '-')} out, or begin anew in another --out")
        if facts["step"] > steps:
            raise CheckpointError(f"{folder} is at step {facts['step']} already, beyond --steps {steps}")
        return Run.resume(folder, data, backend)
    if checkpoint.exists(folder):
        raise CheckpointError(f"{folder} holds a checkpoint already; add --resume to go on from it, or name another folder with --out")
    return Run(kind.begin(kind.Recipe(**changes), data), backend)
