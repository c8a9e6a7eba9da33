"""Compilation: a graph goes through passes to a backend, which makes of it something that runs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from nagraph import choices
from nagraph.backends import usable
from nagraph.compiler.any_size import AnySize
from nagraph.errors import SignatureError
from nagraph.ir.graph import Graph
from nagraph.ir.nested import nested_graphs
from nagraph.ir.types import DTYPES, SHORT_NAMES

if TYPE_CHECKING:  # what backends are made of loads when something is compiled
    from nagraph.backends.interface import Backend, Executable

#: Backends that have these dtypes need not be asked.
ALL = frozenset(DTYPES.values())
#: The most threads that a call can be given.
MOST_THREADS = 1024


def check_threads(threads: Any) -> None:
    """SignatureError unless it is a number of threads, or None: as many as there are cores."""
    if threads is None:
        return
    if not isinstance(threads, (int, np.integer)) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS:
        raise SignatureError(f"threads is a whole number from 1 to {MOST_THREADS}, or None for as many as there are cores; "
                             f"got {threads!r}")


def compile(graph: Graph, *, backend: str | None = None, threads: int | None = None, passes: Any = None,
            schedules: Any = None, target: str | None = None, tf32: bool = False) -> Executable:
    """An executable of `graph`: passes, plan, backend. exe(*arrays) gives the tuple of outputs.

    A graph whose sizes are known later (`ng.Dim`) is compiled for the sizes of each call when they first come
    (`nagraph.compiler.any_size`); `exe.at({"batch": 8})` is the executable for given ones.

    passes: a pipeline, or its text such as "simplify,fold_constants,cse,dce,fuse,schedule"; None is the backend's own.
    schedules: schedules by the names of kernels (`exe.schedules`), or the name of a file of them (`exe.source("schedule")`);
    kernels that are not named have those that the backend chooses. ScheduleError if one is not legal, or names no kernel.
    target: the machine to compile for if it is not this one, such as "sm_90" for backend "cuda", which needs no such device; calls do.
    tf32: whether products of float32 may round what they multiply to 11 bits, for tensor cores; backend "cuda" can.
    """
    with choices.using(None):
        return compile_graph(graph, backend, threads, passes, {}, schedules, target, tf32)


def compile_graph(graph: Graph, backend: str | None, threads: int | None, passes: Any, donations: dict[int, int],
                  schedules: Any = None, target: str | None = None, tf32: bool = False) -> Executable:
    """An executable of `graph`, as `compile`; donations: output number -> number of the input whose array it may take."""
    maker = usable(backend, target)
    maker = maker.with_tf32() if tf32 else maker
    if graph.dims:
        check_threads(threads)
        inside = choices.current()

        def of_known_sizes(known: Graph) -> Executable:
            with choices.using(inside):
                return compile_graph(known, backend, threads, passes, donations, schedules, target, tf32)

        return AnySize(graph, maker.array_kind, of_known_sizes)
    made = _compiled_with(graph, maker, threads, passes, donations, schedules)
    if made.array_kind is not maker.array_kind:
        raise SignatureError(f"backend {maker.name!r} has arrays of {maker.array_kind.name}, and executables on arrays of "
                             f"{made.array_kind.name}: array_kind must be one object on both")
    return made


def _compiled_with(graph: Graph, maker: Backend, threads: int | None, passes: Any, donations: dict[int, int], schedules: Any) -> Executable:
    """The executable, with these schedules in force."""
    if schedules is None:
        return _compiled(graph, maker, threads, passes, donations)
    from nagraph.schedule import overrides  # what reads schedules loads when there are some

    form = maker.schedule_form()
    if form is None and maker.target() is None:
        raise SignatureError(f"backend {maker.name!r} has no schedules")
    with overrides.using(overrides.read(schedules, form or overrides.OWN)):
        return _compiled(graph, maker, threads, passes, donations)


def _compiled(graph: Graph, maker: Backend, threads: int | None, passes: Any, donations: dict[int, int]) -> Executable:
    check_threads(threads)
    check_dtypes(graph, maker)
    passes = maker.pipeline if passes is None else passes
    optimise = functools.partial(_optimised, graph, passes, donations)
    try:
        if isinstance(passes, str):
            return maker.compiled(graph, passes, optimise, donations, threads)
        return maker.compile(optimise(), donations, threads)
    except Exception as error:  # noqa: BLE001 - this is where nagraph's own faults are caught
        from nagraph.compiler.retreat import retreat

        made: Executable = retreat(error, graph, passes, lambda plainer: _optimised(graph, plainer, donations),
                                   lambda optimised: maker.compile(optimised, donations, threads))
        return made


def check_dtypes(graph: Graph, backend: Backend) -> None:
    """SignatureError for the first value of a dtype that the backend has not."""
    if backend.dtypes == ALL:
        return
    for g in nested_graphs(graph):
        for values, where in ((g.inputs, ""), *((n.results, f" ({n.op.name}, {n.location})") for n in g.nodes)):
            for v in values:
                if v.dtype not in backend.dtypes:
                    known = ", ".join(SHORT_NAMES[d] for d in SHORT_NAMES if d in backend.dtypes)
                    cure = f"; write {v.name or 'x'}.astype('float32')" if v.dtype == DTYPES["f64"] else ""
                    raise SignatureError(f"backend {backend.name!r} has no {v.dtype}: {v.name or 'a value'} is {v.type}{where}; "
                                         f"it has {known}{cure}")


def _optimised(graph: Graph, passes: Any, donations: dict[int, int]) -> Graph:
    from nagraph.compiler.optimisation import optimised  # a program from the cache loads no pass

    return optimised(graph, passes, donations)
