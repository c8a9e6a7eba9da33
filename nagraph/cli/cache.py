"""`nagraph cache`: show the cache of compiled programs and kernels, or clear it."""

from __future__ import annotations

import click


@click.command(short_help="Show or clear the cache of compiled programs and kernels.")
@click.option("--clear", is_flag=True, help="Remove everything in it.")
def command(clear: bool) -> None:
    """Show where compiled programs are kept, how many there are and how large they are; with --clear, remove them.

    NAGRAPH_CACHE=off in the environment does without the cache.
    """
    from nagraph.backends.llvm import cache

    if clear:
        click.echo(f"removed {cache.clear()} files from {cache.folder()}")
        return
    click.echo(f"{cache.folder()}{'' if cache.is_on() else ' (turned off by NAGRAPH_CACHE)'}")
    for kind in cache.KINDS:
        files = cache.entries(kind)
        nbytes = sum(f.stat().st_size for f in files)
        click.echo(f"{len(files):6} {kind}{'s' if len(files) != 1 else ''}, {nbytes / 2**20:.1f} MB")
