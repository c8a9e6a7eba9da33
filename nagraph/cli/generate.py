"""`nagraph generate DIR --prompt TEXT`: continues a text with a trained model."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nagraph.errors import DataError
from nagraph.models.generation import generate, stream
from nagraph.models.pretrained import load_language_model


def run(folder: pathlib.Path, prompt: str, length: int, **sampling: Any) -> None:
    """sampling: what `generate` takes besides."""
    if not prompt:
        raise DataError("the prompt is empty; generation needs at least one symbol to begin with")
    model, tokenizer = load_language_model(folder)
    ids = tokenizer.encode(prompt)
    click.echo(prompt, nl=False)
    written = generate(model, ids, length, **sampling)
    for piece in stream(tokenizer.decode, written):
        click.echo(piece, nl=False)  # which flushes, so that text is seen as it is written
    click.echo()
