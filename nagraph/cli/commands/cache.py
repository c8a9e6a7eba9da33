"""`nagraph cache`: options."""

from __future__ import annotations

from typing import Any

import click

from nagraph.cli.lazy import run


@click.command(short_help="Show or clear the cache of compiled programs and kernels.")
@click.option("--clear", is_flag=True, help="Remove everything in it.")
def command(**options: Any) -> None:
    """Show where compiled programs are kept, how many there are and how large they are; with --clear, remove them.

    NAGRAPH_CACHE=off in the environment does without the cache.
    """
    run("cache", **options)
