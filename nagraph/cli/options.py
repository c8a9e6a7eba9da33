"""Options that several commands have."""

from __future__ import annotations

import click

from nagraph.backends import BACKENDS
from nagraph.errors import DataError


def check_backend(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """The name itself. DataError naming the backends there are, unless it is one of them."""
    if name is not None and name not in BACKENDS:
        raise DataError(f"unknown backend {name!r}; there is {', '.join(BACKENDS)}")
    return name


#: For commands that compile.
backend_option = click.option("--backend", callback=check_backend, help=f"What runs the compiled graph.  [default: {BACKENDS[0]}]")
