"""`nagraph eval DIR`: shows the figures of a trained model on what was held out, beside those of the baselines."""

from __future__ import annotations

import pathlib

from nagraph.cli.targets import trained
from nagraph.cli.terminal import console
from nagraph.cli.training import figures
from nagraph.files import short
from nagraph.models import checkpoint
from nagraph.models.training import load_model


def run(folder: str, data: pathlib.Path | None, backend: str | None) -> None:
    place = trained(folder)
    facts = checkpoint.read_facts(place)
    model, task = load_model(place)
    task.read(data)
    out = console()
    out.print(f"data      {task.describe()}")
    known = facts.get("data")
    if not isinstance(known, dict) or known.get("sha256") != task.sha256:
        out.print("          other data than it was trained on" + (f" ({short(known.get('source'))})" if isinstance(known, dict) else ""))
    out.print(figures(task, task.scores(model, backend), facts["step"]))
    for note in task.notes():
        out.print(note)
