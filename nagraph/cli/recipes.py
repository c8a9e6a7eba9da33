"""`nagraph train MODEL`: the options of each model, which are the fields of its recipe and what all models have."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import backend_option
from nagraph.models import CLASSES
from nagraph.models.tasks import task_class

MODELS = tuple(CLASSES)


def command_of(name: str) -> click.Command:
    """The command that trains a model. DataError naming the models there are."""
    kind: Any = task_class(name)
    fields = {f.name: f for f in dataclasses.fields(kind.Recipe)}

    def train(**options: Any) -> None:
        run("train", kind=kind, recipe={name: options.pop(name) for name in fields}, **options)

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
        click.option("--patience", type=click.IntRange(1), help="Stop after this many evaluations without a better one."),
        click.option("--tensorboard", is_flag=True, help="Write events for TensorBoard (pip install 'nagraph[logs]')."),
    ]


def _option(field: dataclasses.Field[Any]) -> Any:
    """The option of a field of a recipe."""
    default = field.default
    kind: Any = {"int": int, "int | None": int, "float": float}.get(str(field.type), str)
    shown = "none" if default is None else default
    return click.option(f"--{field.name.replace('_', '-')}", type=kind, help=f"{field.metadata['help']}  [default: {shown}]")
