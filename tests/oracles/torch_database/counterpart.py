"""What a counterpart says of arguments that we do not offer."""

from __future__ import annotations

from typing import NoReturn


class Unoffered(Exception):
    """These arguments of an entry ask for what we do not have; the text says what that is."""


def unoffered(what: str) -> NoReturn:
    """Leave this sample out."""
    raise Unoffered(what)
