"""`nagraph cache`: shows the cache of compiled programs and kernels, or clears it."""

from __future__ import annotations

import click

from nagraph.backends import cache


def run(clear: bool) -> None:
    place = cache.folder()
    if place is None:
        click.echo("nothing is kept: this user has no home folder; XDG_CACHE_HOME can name a folder instead")
        return
    if clear:
        click.echo(f"removed {cache.clear()} files from {place}")
        return
    click.echo(f"{place}{'' if cache.is_on() else ' (turned off by NAGRAPH_CACHE)'}")
    for kind in cache.KINDS:
        sizes = [f.stat().st_size for f in cache.entries(kind)]
        click.echo(f"{len(sizes):6} {kind}{'s' if len(sizes) != 1 else ''}, {sum(sizes) / 2**20:.1f} MB")
