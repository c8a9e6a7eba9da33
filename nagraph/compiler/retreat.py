"""The retreat: where the compiler itself fails on a graph, the graph is compiled once more with what failed taken apart.

No graph that verifies may fail to compile. What goes wrong inside a pass, a plan or the writing of code is a fault of nagraph, and
the program of its user should run all the same: slower, with a warning, and with a file to report. This is the one place in which
such errors are caught. With NAGRAPH_STRICT=1 in the environment they are raised, as in all of nagraph's own tests.
"""

from __future__ import annotations

import os
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from nagraph import __version__, choices
from nagraph.errors import InternalError, NagraphError, RetreatWarning, SignatureError
from nagraph.fusion.outline import apart
from nagraph.ir.graph import Graph, Node
from nagraph.ir.location import caller_location
from nagraph.ir.nested import nested_graphs
from nagraph.ir.printer import format_graph
from nagraph.ir.verify import verify
from nagraph.pipeline import Pipeline, format_pass
from nagraph.schedule import overrides

#: Constants of more bytes are left out of a report.
MOST_REPORTED = 64 << 20


def strict() -> bool:
    return os.environ.get("NAGRAPH_STRICT", "0").lower() not in ("", "0", "no", "off")


def retreat(error: Exception, graph: Graph, passes: Any, optimised: Callable[[Any], Graph], make: Callable[[Graph], Any]) -> Any:
    """make(optimised(passes)) failed with this error: the executable that comes of it with as little as need be taken apart.

    Raises the error itself in strict runs, or if it is not nagraph's; InternalError if nothing helps.
    """
    if strict() or not _is_internal(error, graph, passes):
        raise error
    file = report(error, graph, passes)
    failed = f"nagraph failed to compile {graph.name} ({_summary(error)})"
    for what, attempt in _attempts(error, passes, optimised):
        try:
            with overrides.using(overrides.NONE):  # kernels are others now
                executable = make(attempt())
        except Exception:  # noqa: BLE001, S112 - the next attempt takes more apart
            continue
        warnings.warn(f"{failed}, and compiled it with {what}: it computes the same, but may be slow ({caller_location()}). "
                      f"This is a fault of nagraph: please report it, with the file {file}", RetreatWarning, stacklevel=2)
        return executable
    raise InternalError(f"{failed}. This is a fault of nagraph: please report it, with the file {file}") from error


def _is_internal(error: Exception, graph: Graph, passes: Any) -> bool:
    """Whether an error is nagraph's own: not the machine's, nor that of an argument, a pass, an op or a graph that was given."""
    if isinstance(error, (SignatureError, OSError, MemoryError)):
        return False
    try:
        pipeline = Pipeline.parse(passes) if isinstance(passes, str) else passes
        verify(graph)
    except NagraphError:
        return False
    index = getattr(error, "index", None)
    suspects = [*(type(n.op) for n in _nodes(graph)), *([] if index is None else [pipeline.passes[index - 1]])]
    return all(getattr(x, "__module__", "").partition(".")[0] == "nagraph" for x in suspects)


def _nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and its regions, each once."""
    return (node for g in nested_graphs(graph) for node in g.nodes)


def _attempts(error: Exception, passes: Any, optimised: Callable[[Any], Graph]) -> Iterator[tuple[str, Callable[[], Graph]]]:
    """Ways to compile, each with less that can fail than the one before, down to nothing fused and nothing optimised."""
    pipeline = Pipeline.parse(passes) if isinstance(passes, str) else passes
    index, node = getattr(error, "index", None), getattr(error, "node", None)
    if index is not None:
        name = format_pass(pipeline.passes[index - 1]).partition("{")[0]
        left = Pipeline(*(p for p in pipeline.passes if format_pass(p).partition("{")[0] != name))
        yield f"the pass {name} left out", lambda: optimised(left)
    else:
        if getattr(getattr(node, "op", None), "kind", "") == "fused":
            yield "one fused region taken apart", lambda: apart(optimised(pipeline), node)
        yield "all fused regions taken apart", lambda: apart(optimised(pipeline))
    yield "nothing fused", lambda: optimised(Pipeline.parse("dce"))
    yield "no pass", lambda: optimised(Pipeline())


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"[:300]


def report(error: Exception, graph: Graph, passes: Any) -> str:
    """The name of a new file with all that it takes to see the error again: the graph, and in comments pipeline, choices, traceback."""
    held = sum(n.op.array.nbytes for n in _nodes(graph) if n.op.name == "const")  # type: ignore[attr-defined]
    lines = [f"nagraph {__version__}: {_summary(error)}", f"pipeline: {passes}", f"choices: {choices.current() or 'profit'}",
             *overrides.current().key.splitlines(), *"".join(traceback.format_exception(error)).splitlines()]
    if held > MOST_REPORTED:
        lines.append(f"constants of {held:,} bytes are left out")
    name = graph.name if graph.name.isidentifier() else "graph"
    handle, path = tempfile.mkstemp(prefix=f"nagraph-{name}-", suffix=".ng")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("\n".join([*(f"// {line}" for line in lines), format_graph(graph, blobs=held <= MOST_REPORTED), ""]))
    return path
