"""`nagraph generate DIR --prompt TEXT`: continues a text with a trained model."""

from __future__ import annotations

from typing import Any

import click

from nagraph.cli.targets import trained
from nagraph.errors import DataError
from nagraph.models.generation import generate, stream
from nagraph.models.pretrained import load_language_model


def run(folder: str, prompt: str, length: int, **sampling: Any) -> None:
    """sampling: what `generate` takes besides."""
    if not prompt:
        raise DataError("the prompt is empty; generation needs at least one symbol to begin with")
    model, tokenizer = load_language_model(trained(folder))
    ids = tokenizer.encode(prompt)
    click.echo(prompt, nl=False)
    written = generate(model, ids, length, **sampling)
    for piece in stream(tokenizer.decode, written):
        click.echo(piece, nl=False)  # which flushes, so that text is seen as it is written
    click.echo()
