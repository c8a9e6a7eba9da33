"""`nagraph eval DIR`: arguments and options."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import backend_option


@click.command(short_help="Evaluate a trained model on what was held out.")
@click.argument("folder")
@click.option("--data", type=click.Path(readable=False, path_type=pathlib.Path),
              help="The data that it was trained on, or others of their kind; without it, those that every machine has.")
@backend_option
def command(**options: Any) -> None:
    """Evaluate the model in FOLDER, as `nagraph train` left it, with its averaged weights.

    On other data than it was trained on, the baselines are those of these data, and nothing was held out from the model but
    what is held out from the baselines.
    """
    run("eval", **options)
