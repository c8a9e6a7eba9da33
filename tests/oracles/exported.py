"""What oracles of exports share: the ops in their dtypes, what is wrong with results, functions with arguments, programs of any size."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph.export.agreement import apart, rounded_otherwise, tolerance
from nagraph.ir.graph import Graph
from nagraph.ir.interpret import interpret
from nagraph.ir.types import DTYPES
from nagraph.testing import Undetermined, random_program
from nagraph.testing.any_size import symbolic_graph
from nagraph.testing.oracle import run
from tests.oracles.sampling import LeftOut

Array = np.ndarray[Any, Any]


@functools.cache
def admitted() -> dict[str, list[str]]:
    """The dtypes that each op admits, by the table of docs/guarantees.md; ops that hold graphs, and prints, have none."""
    from tests.test_guarantees import KINDS, OPS, TABLE

    names = dict.fromkeys(op.name for op in OPS.values())
    return {name: [short for short, dtype in DTYPES.items() if dtype in KINDS[TABLE[name][0]]] for name in sorted(names)}


def differing(graph: Graph, arrays: Sequence[Array], found: Sequence[Array], allowed: float | None = None) -> str | None:
    """What is wrong with the results that other software found for a graph, None if nothing is. allowed: of the largest element."""
    with np.errstate(all="ignore"):
        expected = interpret(graph, tuple(arrays))
    far = tolerance(graph) if allowed is None else allowed
    others: Sequence[Any] = [()] * len(expected)
    if any(apart(a, b, far)[1] for a, b in zip(found, expected, strict=True)):
        others = rounded_otherwise(graph, arrays)
    for i, (a, b, c) in enumerate(zip(found, expected, others, strict=True)):
        if why := apart(a, b, far, c)[1]:
            return f"output {i}: {why}"
    return None


class Function(NamedTuple):
    """A function with arguments, of which some axes may be of a size that is known later: (argument, axis) -> dimension."""

    make: Callable[..., Any]
    arguments: tuple[Any, ...]
    open: dict[tuple[int, int], Any] = {}


def of_any_size(seed: int, different: Callable[..., str | None]) -> str | None:
    """A random program whose sizes are known later. different(graph, arrays, what=...): the oracle's."""
    program = random_program(seed=seed)
    try:
        oracle = run(program)
    except Undetermined as why:
        raise LeftOut("rounding decides about it") from why
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = symbolic_graph(program, oracle)
    if not graph.dims:
        raise LeftOut("its trace needs all sizes")
    arrays = [np.asarray(oracle.native[i.name], order="C") for i in program.inputs]
    return different(graph.specialise({d.name: program.sizes[d.name] for d in graph.dims}), arrays, what=graph)


