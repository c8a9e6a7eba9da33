"""Compilation: a graph goes through passes to a backend, which makes of it something that runs."""

from __future__ import annotations

import functools
import importlib
from typing import Any, Protocol

import numpy as np

from nagraph import choices
from nagraph.backends import BACKENDS
from nagraph.errors import SignatureError
from nagraph.ir.graph import Graph, Value
from nagraph.pipeline import DEFAULT, KERNELS, Pipeline

#: The most threads that a call can be given.
MOST_THREADS = 1024


class Executable(Protocol):
    """An executable is what a backend makes of a graph: it is called with the graph's inputs, in order. `graph` is the optimised one."""

    inputs: tuple[Value, ...]
    arena_nbytes: int

    @property
    def graph(self) -> Graph: ...

    def __call__(self, *arrays: Any) -> tuple[Any, ...]: ...


def backend_module(name: str | None) -> Any:
    """The backend of this name; None is the default one."""
    chosen = name or BACKENDS[0]
    if chosen not in BACKENDS:
        raise SignatureError(f"unknown backend {chosen!r}; there is {', '.join(BACKENDS)}")
    return importlib.import_module(f"nagraph.backends.{chosen}")


def check_threads(threads: Any) -> None:
    """SignatureError unless it is a number of threads, or None: as many as there are cores."""
    if threads is None:
        return
    if not isinstance(threads, (int, np.integer)) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS:
        raise SignatureError(f"threads is a whole number from 1 to {MOST_THREADS}, or None for as many as there are cores; "
                             f"got {threads!r}")


def compile(graph: Graph, *, backend: str | None = None, threads: int | None = None, passes: Any = None) -> Any:
    """An executable of `graph`: passes, plan, backend. exe(*arrays) gives the tuple of outputs.

    passes: a pipeline, or its text such as "simplify,fold,cse,dce,fuse,schedule"; None is the default.
    """
    with choices.using(None):
        return compile_graph(graph, backend, threads, passes, {})


def compile_graph(graph: Graph, backend: str | None, threads: int | None, passes: Any, donations: dict[int, int]) -> Any:
    """An executable of `graph`, as `compile`; donations: output number -> number of the input whose array it may take."""
    module = backend_module(backend)
    check_threads(threads)
    if passes is None:
        passes = KERNELS if (backend or BACKENDS[0]) == "llvm" else DEFAULT
    optimise = functools.partial(_optimised, graph, passes, donations)
    try:
        if isinstance(passes, str) and hasattr(module, "kept"):
            return module.kept(graph, passes, optimise, donations, threads)
        return module.compile(optimise(), donations, threads)
    except Exception as error:  # noqa: BLE001 - this is where nagraph's own faults are caught
        from nagraph.compiler.retreat import retreat

        return retreat(error, graph, passes, lambda plainer: _optimised(graph, plainer, donations),
                       lambda optimised: module.compile(optimised, donations, threads))


def _optimised(graph: Graph, passes: Any, donations: dict[int, int]) -> Graph:
    from nagraph.ir.verify import verify  # what a program from the cache does without

    pipeline = Pipeline.parse(passes) if isinstance(passes, str) else passes
    planned = pipeline.replace("memory", donations=tuple(sorted(donations.items()))) if donations else pipeline
    optimised = planned(graph)
    verify(optimised)  # once, at the end: whatever a pass did wrong must not reach the backend
    return optimised
