"""`ng.export.c` writes a graph as a file of C99, with its header beside it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from nagraph.errors import ExportError
from nagraph.export.subject import Subject
from nagraph.export.to_c.context import Names
from nagraph.export.to_c.file import CFile
from nagraph.files import atomic_file

#: Where weights and constants may be.
WEIGHTS = ("source", "header")


def c(what: Any, path: str | pathlib.Path, args_or_specs: Any = None, *, names: Mapping[str, str] | None = None,
      metadata: Mapping[str, str] | None = None, sizes: Mapping[str, int] | None = None, weights: str = "source",
      function: str = "") -> pathlib.Path:
    """Write a function, graph or executable as a file of C99, PATH.c, with its header, and say where.

    names: other names for inputs and outputs. sizes: numbers in the place of dimensions (`ng.Dim`), for C has its sizes in its text.
    weights: "source", numbers in the file, or "header", in a header of their own, PATH_weights.h. function: what the function is called,
    if not as what is exported. Raises ExportError, which lists every op that only Python computes; then nothing is written.
    """
    if function and Names().new(function) != function:
        raise ExportError(f"function is a name that C lets be given, got {function!r}")
    if weights not in WEIGHTS:
        raise ExportError(f"weights is one of {', '.join(map(repr, WEIGHTS))}, got {weights!r}")
    target = pathlib.Path(path)
    if target.suffix != ".c":
        raise ExportError(f"a file of C ends in .c, got {target.name!r}")
    subject = Subject.of(what, args_or_specs, optimised=False, names=names, metadata=metadata)
    written = CFile(_of_known_sizes(subject, sizes or {}), target.stem, function)
    files = {target: written.source(weights == "header"), target.with_suffix(".h"): written.header()}
    if weights == "header":
        files[target.with_name(f"{target.stem}_weights.h")] = written.weights_header()
    _write(files)
    return target


def _write(files: Mapping[pathlib.Path, str]) -> None:
    """Write all files, or none."""
    if not files:
        return
    (path, text), *rest = files.items()
    with atomic_file(path, ExportError) as file:
        file.write(text.encode())
        _write(dict(rest))


def _of_known_sizes(subject: Subject, sizes: Mapping[str, int]) -> Subject:
    """The subject with numbers in the place of dimensions. ExportError if one is left."""
    graph = subject.graph.specialise(dict(sizes)) if sizes else subject.graph
    if graph.dims:
        left = [str(d) for d in graph.dims]
        given = ", ".join(f'"{d}": 8' for d in left)
        raise ExportError(f"{subject.name} can't be exported to C99: its sizes are in its text, and {', '.join(left)} "
                          f"{'is' if len(left) == 1 else 'are'} not known; give numbers, as in sizes={{{given}}}")
    return dataclasses.replace(subject, graph=graph)
