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
@click.option("--top-k", type=click.IntRange(1), help="Draw among the likeliest so many only.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Draw among the likeliest that have this probability together.")
@click.option("--repetition-penalty", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="Above 1, symbols of the text so far become less likely.")
@click.option("--seed", type=int, default=0, show_default=True)
@backend_option
def command(folder: pathlib.Path, prompt: str, length: int, temperature: float, top_k: int | None, top_p: float | None,
            repetition_penalty: float, seed: int, backend: str | None) -> None:
    """Continue --prompt with the model in FOLDER, as `nagraph train` left it, or a Hugging Face folder with a GPT-2 or a Llama."""
    from nagraph.models.generation import generate, stream
    from nagraph.models.pretrained import load_language_model

    check_backend(backend)
    if not prompt:
        raise DataError("the prompt is empty; generation needs at least one symbol to begin with")
    model, tokenizer = load_language_model(folder)
    ids = tokenizer.encode(prompt)
    click.echo(prompt, nl=False)
    written = generate(model, ids, length, temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty,
                       seed=seed, backend=backend)
    for piece in stream(tokenizer.decode, written):
        click.echo(piece, nl=False)  # which flushes, so that text is seen as it is written
    click.echo()
