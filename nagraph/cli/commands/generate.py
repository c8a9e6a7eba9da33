"""`nagraph generate DIR --prompt TEXT`: arguments and options."""

from __future__ import annotations

from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import backend_option


@click.command(short_help="Continue a text with a trained model.")
@click.argument("folder")
@click.option("--prompt", required=True, help="The text to continue.")
@click.option("--length", type=click.IntRange(1), default=400, show_default=True, help="Symbols to write.")
@click.option("--temperature", type=click.FloatRange(0), default=0.8, show_default=True, help="0 takes the likeliest symbol each time.")
@click.option("--top-k", type=click.IntRange(1), help="Draw among this many of the likeliest only.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Draw among the likeliest that have this probability together.")
@click.option("--repetition-penalty", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="Above 1, symbols of the text so far become less likely.")
@click.option("--seed", type=int, default=0, show_default=True)
@backend_option
def command(**options: Any) -> None:
    """Continue --prompt with the model in FOLDER, as `nagraph train` left it, or a Hugging Face folder with a GPT-2 or a Llama."""
    run("generate", **options)
