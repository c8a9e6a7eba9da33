"""`nagraph eval DIR`: the figures of a trained model on what was held out, beside those of the baselines."""

from __future__ import annotations

import pathlib

import click

from nagraph.cli.info import backend_option, check_backend


@click.command(short_help="Evaluate a trained model on what was held out.")
@click.argument("folder", type=click.Path(readable=False, path_type=pathlib.Path))
@click.option("--data", type=click.Path(readable=False, path_type=pathlib.Path),
              help="The data that it was trained on, or others of their kind; without it, those that every machine has.")
@backend_option
def command(folder: pathlib.Path, data: pathlib.Path | None, backend: str | None) -> None:
    """Evaluate the model in FOLDER, as `nagraph train` left it, with its averaged weights.

    On other data than it was trained on, the baselines are those of these data, and nothing was held out from the model but
    what is held out from the baselines.
    """
    from nagraph.cli.terminal import console
    from nagraph.cli.training import figures
    from nagraph.files import short
    from nagraph.models import checkpoint
    from nagraph.models.training import load_model

    check_backend(backend)
    facts = checkpoint.read_facts(folder)
    model, task = load_model(folder)
    task.read(data)
    out = console()
    out.print(f"data      {task.describe()}")
    known = facts.get("data")
    if not isinstance(known, dict) or known.get("sha256") != task.sha256:
        out.print("          other data than it was trained on" + (f" ({short(known.get('source'))})" if isinstance(known, dict) else ""))
    out.print(figures(task, task.scores(model, backend), facts["step"]))
    for note in task.notes():
        out.print(note)
