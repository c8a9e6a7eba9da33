"""`nagraph train MODEL`: one command for each model, its options those of the model's recipe."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import click

from nagraph.cli.info import backend_option, check_backend
from nagraph.errors import CheckpointError
from nagraph.files import locked


class _Models(click.Group):
    """A command for each task, made when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from nagraph.models import CLASSES

        return list(CLASSES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from nagraph.models.tasks import task_class

        return _command(task_class(cmd_name))


@click.group(cls=_Models, no_args_is_help=False, short_help="Train a model on real data.")
def command() -> None:
    """Train a model, compare it with baselines on the same data, leave a checkpoint, curves and pictures.

    nagraph train MODEL --help tells the options of a model. Ctrl-C stops after the step in hand and saves; --resume goes on
    from there. A step whose loss is not finite ends the run: it says which operation was the first to give such a value.
    """


def _command(kind: Any) -> click.Command:
    """The command that trains one model."""
    fields = {f.name: f for f in dataclasses.fields(kind.Recipe)}

    def train(data: pathlib.Path | None, steps: int, out: pathlib.Path | None, resume: bool, backend: str | None, keep: int,
              evaluate_every: int | None, patience: int | None, tensorboard: bool, **recipe: Any) -> None:
        from nagraph.cli.training import Plan, train

        check_backend(backend)
        folder = out or pathlib.Path("runs") / kind.name
        with locked(folder, CheckpointError):
            run = open_run(kind, folder, data, resume, backend, {k: v for k, v in recipe.items() if v is not None}, steps)
            train(run, Plan(folder, steps, keep, evaluate_every, patience, tensorboard, data, backend))

    made = click.command(kind.name, short_help=f"{kind.about[0].upper()}{kind.about[1:].split(' (')[0]}.")(train)
    made.help = (f"Train {kind.name}: {kind.about}. The figure that counts is {kind.metric}.\n\nCtrl-C stops after the step in hand and "
                 "saves; --resume goes on from there.")
    for option in (*_common(kind), *(_option(f) for f in fields.values())):
        made = option(made)
    return made


def _common(kind: Any) -> list[Any]:
    """The options that are the same for all models."""
    return [
        click.option("--data", type=click.Path(readable=False, path_type=pathlib.Path), help="Your own data; see above."),
        click.option("--steps", type=click.IntRange(1), default=kind.steps, show_default=True,
                     help="Steps in all, those before a resume included."),
        click.option("--out", type=click.Path(path_type=pathlib.Path), help=f"Folder of the run.  [default: runs/{kind.name}]"),
        click.option("--resume", is_flag=True, help="Go on from the checkpoint in the folder, bit for bit as if never stopped."),
        backend_option,
        click.option("--keep", type=click.IntRange(1), default=1, show_default=True, help="Checkpoints that stay, beside the best one."),
        click.option("--evaluate-every", type=click.IntRange(1), help="Steps between evaluations.  [default: a fifth of all]"),
        click.option("--patience", type=click.IntRange(1), help="Stop after so many evaluations without a better one."),
        click.option("--tensorboard", is_flag=True, help="Write events for TensorBoard (pip install 'nagraph[logs]')."),
    ]


def _option(field: dataclasses.Field[Any]) -> Any:
    """The option of a field of a recipe."""
    default = field.default
    kind: Any = {"int": int, "int | None": int, "float": float}.get(str(field.type), str)
    shown = "none" if default is None else default
    return click.option(f"--{field.name.replace('_', '-')}", type=kind, help=f"{field.metadata['help']}  [default: {shown}]")


def open_run(kind: Any, folder: pathlib.Path, data: pathlib.Path | None, resume: bool, backend: str | None, changes: dict[str, Any],
             steps: int) -> Any:
    """The run that a folder holds, or a new one."""
    from nagraph.models import checkpoint
    from nagraph.models.training import Run
    from nagraph.models.training.recipe import read_recipe

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
