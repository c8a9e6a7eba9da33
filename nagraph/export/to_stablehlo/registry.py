"""The registry of translations: each a function that writes what a node computes.

    @translates(slicing.Slice)
    def slice(m, node, x): ...

It gets the body that is being written (`nagraph.export.to_stablehlo.body`), the node, and what its operands became; it gives what its
results are, one or several. An elementwise op without a translation is written by its scalar rule, op by op.
"""

from __future__ import annotations

import functools
import importlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from nagraph.ir.op import Op
from nagraph.ops.base import Elementwise


class Translation(NamedTuple):
    """How nodes of an op are written. narrow: its 16-bit operands come as they are, else in float32 if the op computes in it."""

    write: Callable[..., Any]
    narrow: bool = False


_TRANSLATIONS: dict[type[Op], Translation] = {}


def translates(*ops: type[Op], narrow: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function for nodes of these ops."""

    def registered(write: Callable[..., Any]) -> Callable[..., Any]:
        for op in ops:
            assert op not in _TRANSLATIONS, f"{op.name} has a translation"
            _TRANSLATIONS[op] = Translation(write, narrow)
        return write

    return registered


def translation_of(op: Op) -> Translation | None:
    """The translation of an op; None if there is none."""
    _load()
    found = _TRANSLATIONS.get(type(op))
    if found is None and isinstance(op, Elementwise) and type(op).scalar is not Op.scalar:
        return _TRANSLATIONS[Elementwise]
    return found


@functools.cache
def _load() -> None:
    for path in sorted((pathlib.Path(__file__).parent / "operators").glob("[!_]*.py")):
        importlib.import_module(f"nagraph.export.to_stablehlo.operators.{path.stem}")
