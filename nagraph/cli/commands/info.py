"""`nagraph info`: no options."""

from __future__ import annotations

import click

from nagraph.cli.lazy import run


@click.command(short_help="Tell version, backends found, CPU and threads.")
def command() -> None:
    """Tell version, backends found, CPU and threads."""
    run("info")
