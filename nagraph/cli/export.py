"""`nagraph export TARGET --to FORM -o PATH`: hands what a target is to the function of a form, and says what was written."""

from __future__ import annotations

import pathlib
from typing import Any

import click

import nagraph as ng
from nagraph.cli.targets import GraphWork, resolve
from nagraph.cli.terminal import console
from nagraph.errors import DataError
from nagraph.export.forms import FORMS


def run(target: str, form: str, out: pathlib.Path, train: bool, layers: int | None, **options: Any) -> None:
    """options: those of all forms, under names that begin with `form_`; None where they were not given."""
    chosen = FORMS[form]
    given = {name.removeprefix("form_"): value for name, value in options.items() if value is not None}
    for name in given:
        if name not in [o.name for o in chosen.options]:
            raise click.UsageError(f"--{name.replace('_', '-')} is no option of --to {form}")
    if chosen.suffix and out.suffix != chosen.suffix:
        raise DataError(f"{out} would be written by --to {form}; name a file that ends in {chosen.suffix}")
    what, args = _exported(resolve(target, "train" if train else None, layers).work, train)
    getattr(ng.export, form)(what, out, args, **given)
    files = sorted(p for p in out.rglob("*") if p.is_file()) if out.is_dir() else [out]
    for file in files:
        console().print(f"{file}   {file.stat().st_size / 2**20:,.2f} MB", soft_wrap=True)


def _exported(work: Any, train: bool) -> tuple[Any, Any]:
    """What a target is, and its arguments: the weights of a model that is not trained further as they are, all else as specs."""
    if isinstance(work, GraphWork):
        return work.given, None
    arguments = tuple(x if isinstance(x, ng.nn.Module) and not train else ng.eval_shape(_itself, x) for x in work.arguments)
    return work.make(None, None), arguments


def _itself(x: Any) -> Any:
    return x
