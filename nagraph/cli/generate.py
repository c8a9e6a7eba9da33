"""`nagraph generate DIR --prompt TEXT`: continue a text with a trained model."""

from __future__ import annotations

import pathlib

import click

from nagraph.cli.info import backend_option, check_backend
from nagraph.errors import DataError


@click.command(short_help="Continue a text with a trained model.")
@click.argument("folder", type=click.Path(readable=False, path_type=pathlib.Path))
@click.option("--prompt", required=True, help="The text to continue.")
@click.option("--length", type=click.IntRange(1), default=400, show_default=True, help="Symbols to write.")
@click.option("--temperature", type=click.FloatRange(0), default=0.8, show_default=True, help="0 takes the likeliest symbol each time.")
@click.option("--top", type=click.IntRange(1), help="Draw among the likeliest so many only.")
@click.option("--seed", type=int, default=0, show_default=True)
@backend_option
def command(folder: pathlib.Path, prompt: str, length: int, temperature: float, top: int | None, seed: int, backend: str | None) -> None:
    """Continue --prompt with the model in FOLDER, as `nagraph train` left it."""
    from nagraph.models.data.text import encode
    from nagraph.models.generation import generate
    from nagraph.models.training import load_model

    check_backend(backend)
    if not prompt:
        raise DataError("the prompt is empty; generation needs at least one symbol to begin with")
    model, symbols, _ = load_model(folder)
    ids = encode(prompt, symbols)
    click.echo(prompt, nl=False)
    for i in generate(model, ids, length, temperature=temperature, top=top, seed=seed, backend=backend):
        click.echo(symbols[i], nl=False)
    click.echo()
