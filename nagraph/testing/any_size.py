"""Programs of sizes that are known later: traced with dimensions for their sizes, simplified so, and then run on arrays."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import nagraph as ng
from nagraph.errors import NagraphError, SizeError
from nagraph.testing.names import our_names
from nagraph.testing.oracle import Oracle
from nagraph.testing.program import Input, Program

#: The passes that work on sizes which are known later.
PASSES = "canonicalize,narrow,simplify,fold_constants,cse,dce"


def symbolic_graph(program: Program, oracle: Oracle) -> ng.Graph:
    """The graph of a program, with a dimension for each of its named sizes that is at least 2 and need not be known for the trace.

    oracle: a run of it. Sizes that decide what is traced (a reshape to a plain number, an index beyond a bound) stay what they are:
    if not all can be left open, each is tried in turn, beside those that could before it.
    """
    every = {name: ng.Dim(name, min=2) for name, size in program.sizes.items() if size > 1}
    found = _opened(program, oracle, every)
    if found is not None:
        return found
    opened: dict[str, Any] = {}
    for name, dim in every.items():
        wider = _opened(program, oracle, {**opened, name: dim})
        if wider is not None:
            found, opened = wider, {**opened, name: dim}
    return _traced(program, oracle, opened) if found is None else found


def _opened(program: Program, oracle: Oracle, opened: Mapping[str, Any]) -> ng.Graph | None:
    """The graph with these dimensions, None if the trace needs one of them to be known."""
    try:
        return _traced(program, oracle, opened)
    except (SizeError, _Plain):
        return None


class _Plain(Exception):  # noqa: N818 - a NumPy function of its own, or a shape, wants a number
    """A size is wanted as a number where no traced value is."""


def _traced(program: Program, oracle: Oracle, opened: Mapping[str, Any]) -> ng.Graph:
    sizes = {**program.sizes, **opened}
    function = program.function({**our_names(), **sizes})
    specs: dict[str, Any] = {}
    for i in program.inputs:
        array = oracle.native[i.name]
        specs[i.name] = ng.spec(_shape(i, array.shape, sizes, specs, oracle), array.dtype)
    try:
        return ng.trace(function, *specs.values())
    except TypeError as error:
        if isinstance(error, NagraphError) or not opened:
            raise
        raise _Plain from error  # NumPy's own, which says so of what is no integer


def _shape(i: Input, known: tuple[int, ...], sizes: Mapping[str, Any], specs: Mapping[str, Any], oracle: Oracle) -> tuple[Any, ...]:
    """The shape that an input's text gives; sizes that it takes from other arrays are those of the arrays."""
    arrays = {name: SimpleNamespace(shape=a.shape, ndim=a.ndim) for name, a in oracle.native.items()}
    found = tuple(eval(i.shape, {**arrays, **specs, **sizes}))
    return found if len(found) == len(known) else known


def any_size(program: Program, oracle: Oracle) -> Any:
    """What runs the program on its arrays by way of `symbolic_graph`: a function of them."""
    graph = ng.Pipeline.parse(PASSES)(symbolic_graph(program, oracle))
    ng.verify(graph)
    if ng.parse(str(graph)) != graph:
        raise AssertionError("the text of a graph whose sizes are known later reads back as another one")
    return ng.compile(graph, backend="numpy")
