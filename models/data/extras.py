"""The packages that only data and baselines use, and what to say where one is missing."""

from __future__ import annotations

from nagraph.errors import DataError


def missing(package: str, purpose: str) -> DataError:
    """The error for a package that is not installed, with the command that installs it."""
    return DataError(f"{purpose} needs {package}, which is not installed: pip install 'nagraph[data]'")
