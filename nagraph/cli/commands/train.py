"""`nagraph train MODEL`: a command for each model, made when it is used."""

from __future__ import annotations

import click

from nagraph.cli.lazy import module


class Models(click.Group):
    """A group with a command for each model."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(module("recipes").MODELS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found: click.Command = module("recipes").command_of(cmd_name)
        return found


@click.group(cls=Models, no_args_is_help=False, short_help="Train a model on real data.")
def command() -> None:
    """Train a model, compare it with baselines on the same data, leave a checkpoint, curves and pictures.

    nagraph train MODEL --help tells the options of a model. Ctrl-C stops after the step in hand and saves; --resume goes on
    from there. A step whose loss is not finite ends the run: it says which operation was the first to give such a value.
    """
