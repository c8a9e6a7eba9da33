"""`nagraph cache`: show the cache of compiled kernels, or clear it."""

from __future__ import annotations

import click


@click.command(short_help="Show or clear the cache of compiled kernels.")
@click.option("--clear", is_flag=True, help="Remove everything in it.")
def command(clear: bool) -> None:
    """Show where compiled kernels are kept, how many there are and how large they are; with --clear, remove them."""
    from nagraph.backends.llvm import cache

    if clear:
        click.echo(f"removed {cache.clear()} files from {cache.folder()}")
        return
    files = cache.entries()
    nbytes = sum(f.stat().st_size for f in files)
    click.echo(f"{cache.folder()}: {len(files)} kernels, {nbytes / 2**20:.1f} MB")
