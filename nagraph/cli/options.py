"""Options that several commands have."""

from __future__ import annotations

import click

from nagraph import backends
from nagraph.errors import DataError, SignatureError


def check_backend(ctx: click.Context, param: click.Parameter, name: str) -> str:
    """The name itself. DataError unless there is a backend of this name that can be used here."""
    try:
        backends.usable(name)
    except SignatureError as error:
        raise DataError(str(error)) from None
    return name


#: For commands that compile.
backend_option = click.option("--backend", default=backends.DEFAULT, show_default=True, callback=check_backend,
                              help="What runs compiled graphs.")
