"""`nagraph export TARGET --to FORM -o PATH`: arguments, options, and help, from the table of forms."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import TARGETS, target_argument
from nagraph.export.forms import FORMS, Option


def _help() -> str:
    rows = [f"nagraph export runs/gpt2 --to {name} -o {form.example}" for name, form in FORMS.items()]
    width = max(map(len, rows), default=0)
    examples = [f"{row:{width}}   {form.about}" for row, form in zip(rows, FORMS.values())]
    return "\n".join([
        "Write TARGET in a form that other software reads.", "",
        "Of a model, the forward pass with its weights; with --train the training step, state in and state out. Of a function, a graph or "
        "an operation: what it computes.", "",
        "\b", *examples, "",
        "\b",
        "nagraph export gpt2 --train --to program -o step.ngx                   a train step, whose state goes in and comes out",
        "nagraph export runs/gpt2 --to onnx --sizes batch=1 -o one.onnx         for one text of any length",
        "nagraph export 'net.py:loss(f32[3], f32[n,3])' --to onnx -o loss.onnx  a function of yours, for any n",
        "nagraph export model.onnx --to native -o model                         what was read is written on", "",
        "Sizes that a model leaves open (batch, time) stay open where the form has such sizes; --sizes gives numbers. A form that has none "
        "gets the largest ones, and 1 where there is no largest. What goes where, and what is lost, is told in docs/exporting.md."])


def _options(command: Any) -> Any:
    """The command with the options of all forms; those of one name are one option."""
    forms: dict[Option, list[str]] = {}
    for name, form in FORMS.items():
        for option in form.options:
            forms.setdefault(option, []).append(name)
    for option, names in reversed(forms.items()):
        flag = f"--{option.name.replace('_', '-')}"
        kind: Any = {"is_flag": True, "flag_value": True, "default": None} if option.type is bool else {"type": option.type}
        command = click.option(flag, f"form_{option.name}", help=f"{option.help}  [{', '.join(names)}]", **kind)(command)
    return command


@click.command(short_help="Write a model or a graph for other software.", help=_help(), epilog=TARGETS)
@target_argument
@click.option("--to", required=True, type=click.Choice(list(FORMS)), help="The form.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=pathlib.Path), help="The file, or the folder, to write.")
@click.option("--train", is_flag=True, help="Of a model the whole training step: forward, backward, clipping, optimiser.")
@click.option("--sizes", metavar="NAME=N,...", help="Numbers for sizes that are open, such as batch=1,time=128.")
@click.option("--generate", is_flag=True, help="Of a trained language model the step that writes text, with its cache; "
              "as wasm with a page, as native beside the function that reads a prompt.")
@click.option("--layers", type=click.IntRange(1), help="Blocks of a model without weights, whose depth is one number.")
@_options
def command(to: str, **options: Any) -> None:
    run("export", form=to, **options)
