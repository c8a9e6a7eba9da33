"""The pipeline: a readable tuple of passes, each a pure function Graph -> Graph.

A pass is a function marked `@graph_pass`, or a frozen dataclass marked `@graph_pass` whose fields
are its options. A pipeline prints as, and parses from, text: "simplify,cse,dce,fuse{max_nodes=64}".
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nagraph.errors import NagraphError, PassError
from nagraph.ir.graph import Graph

Pass = Callable[[Graph], Graph]

#: The passes by name, in the order in which a reader should meet them, and the module of each.
MODULES = {
    "canonicalize": "canonicalize", "simplify": "simplify", "fold": "fold", "cse": "cse", "dce": "dce",
    "expand": "expand", "fuse": "fuse", "schedule": "schedule", "memory": "memory",
}
#: Passes for which regions are the affair of the graph that holds them.
WHOLE = frozenset(("memory",))
#: What `compile` runs when nothing else is asked for.
DEFAULT = "canonicalize,simplify,fold,cse,dce,expand,canonicalize,simplify,fold,cse,dce,fuse,schedule,memory"

P = TypeVar("P")


def graph_pass(made: P) -> P:
    """Mark a function or a frozen dataclass as a pass: it is applied to regions first, then to the graph."""
    if isinstance(made, type):
        made.pass_name = _snake(made.__name__)  # type: ignore[attr-defined]
    else:
        made.pass_name = made.__name__  # type: ignore[attr-defined]
    return made


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def apply(step: Pass, graph: Graph) -> Graph:
    """The pass on every region, innermost first, then on the graph itself; fused regions stay as they were made."""
    if getattr(step, "pass_name", "") in WHOLE:
        return step(graph)
    return step(graph.map_regions(lambda region: apply(step, region), skip=lambda op: getattr(op, "kind", "") == "fused"))


@dataclass(frozen=True)
class Observation:
    """What happened at one step: pass number and text, graph before and after, seconds."""

    index: int
    step: str
    before: Graph
    after: Graph
    seconds: float


Observer = Callable[[Observation], None]


class Pipeline:
    """Passes in order. Calling it on a graph gives the rewritten graph."""

    def __init__(self, *passes: Pass, verify: bool = False, observers: Sequence[Observer] = ()):
        self.passes = passes
        self.verify = verify
        self.observers = tuple(observers)

    @classmethod
    def parse(cls, text: str, **options: Any) -> Pipeline:
        """The pipeline that a text names; an unknown pass or option is an error that lists the known ones."""
        return cls(*(_parse_pass(t) for t in _split(text)), **options)

    def with_observers(self, *observers: Observer, verify: bool | None = None) -> Pipeline:
        return Pipeline(*self.passes, verify=self.verify if verify is None else verify,
                        observers=(*self.observers, *observers))

    def replace(self, name: str, **options: Any) -> Pipeline:
        """The pipeline with other options for the passes of this name."""
        changed = (dataclasses.replace(p, **options) if getattr(p, "pass_name", "") == name else p  # type: ignore[type-var]
                   for p in self.passes)
        return Pipeline(*changed, verify=self.verify, observers=self.observers)

    def __call__(self, graph: Graph) -> Graph:
        self._check(graph, None, None)
        for index, step in enumerate(self.passes, 1):
            start = time.perf_counter()
            try:
                after = apply(step, graph)
            except NagraphError as error:
                raise PassError(f"pass {format_pass(step)} (number {index}) failed on graph {graph.name}: {error}") from error
            seconds = time.perf_counter() - start
            self._check(after, step, graph)
            for observer in self.observers:
                observer(Observation(index, format_pass(step), graph, after, seconds))
            graph = after
        return graph

    def _check(self, graph: Graph, step: Pass | None, before: Graph | None) -> None:
        if not self.verify:
            return
        from nagraph.ir.verify import verify

        try:
            verify(graph)
            if before is not None and (before.input_types, before.output_types) != (graph.input_types, graph.output_types):
                raise PassError(f"the graph's signature changed from {before.output_types} to {graph.output_types}")
        except NagraphError as error:
            culprit = f"pass {format_pass(step)} made a wrong graph" if step else "the graph is wrong before any pass"
            raise PassError(f"{culprit}: {error}\n{neighbourhood(graph, error)}") from error

    def __str__(self) -> str:
        return ",".join(map(format_pass, self.passes))


def neighbourhood(graph: Graph, error: Exception, around: int = 3) -> str:
    """The lines of the graph around the one that an error is about, or its first lines."""
    node = getattr(error, "node", None)
    try:
        lines = str(graph).splitlines()
    except Exception:  # noqa: BLE001 - the graph is broken; the printer may be unable to show it
        return "(the graph is too broken to print)"
    at = graph.nodes.index(node) + 1 if node in graph.nodes else 0
    return "\n".join(lines[max(0, at - around):at + around + 1])


def load(name: str) -> Any:
    """The pass of this name."""
    if name not in MODULES:
        raise PassError(f"unknown pass {name!r}; there is {', '.join(MODULES)}")
    module = importlib.import_module(f"nagraph.passes.{MODULES[name]}")
    for found in vars(module).values():
        if getattr(found, "pass_name", None) == name:
            return found
    raise PassError(f"nagraph.passes.{MODULES[name]} defines no pass {name!r}")


def default(**options: Any) -> Pipeline:
    return Pipeline.parse(DEFAULT, **options)


def format_pass(step: Pass) -> str:
    """`fuse{max_nodes=64}`: the name, and the options that are not at their defaults."""
    name = getattr(step, "pass_name", getattr(step, "__name__", type(step).__name__))
    if not dataclasses.is_dataclass(step):
        return str(name)
    changed = [f"{f.name}={getattr(step, f.name)!r}" for f in dataclasses.fields(step) if getattr(step, f.name) != f.default]
    return f"{name}{{{','.join(changed)}}}" if changed else str(name)


def _split(text: str) -> list[str]:
    parts = re.findall(r"[^,{}\s]+(?:\{[^}]*\})?", text)
    if ",".join(parts).replace(" ", "") != re.sub(r"\s", "", text).strip(","):
        raise PassError(f"can't read the pipeline {text!r}; it reads like \"simplify,cse,fuse{{max_nodes=64}}\"")
    return parts


def _parse_pass(text: str) -> Pass:
    name, _, rest = text.partition("{")
    found = load(name)
    if not isinstance(found, type):
        if rest:
            raise PassError(f"pass {name} has no options, got {{{rest}")
        return found  # type: ignore[no-any-return]
    options: dict[str, Any] = {}
    known = [f.name for f in dataclasses.fields(found)]
    for item in filter(None, (x.strip() for x in rest.rstrip("}").split(","))):
        key, equals, value = item.partition("=")
        if key not in known or not equals:
            raise PassError(f"pass {name} has no option {key!r}; it has {', '.join(known) or 'none'}")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise PassError(f"pass {name}: option {key} has value {value!r}, which is no number, bool or string") from None
    return found(**options)  # type: ignore[no-any-return]


# -- observers ----------------------------------------------------------------------------------------


class Timings:
    """Collects the seconds of each pass and the number of nodes after it."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, int]] = []

    def __call__(self, seen: Observation) -> None:
        self.rows.append((seen.step, seen.seconds, len(seen.after.nodes)))

    def __str__(self) -> str:
        return "\n".join(f"{step:<24} {seconds * 1e3:9.2f} ms {nodes:7d} nodes" for step, seconds, nodes in self.rows)


class Dump:
    """Writes 00_traced.ng, 01_canonicalize.ng, ... into a folder."""

    def __init__(self, folder: str | pathlib.Path):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, seen: Observation) -> None:
        if seen.index == 1:
            (self.folder / "00_traced.ng").write_text(f"{seen.before}\n")
        name = seen.step.partition("{")[0]
        (self.folder / f"{seen.index:02d}_{name}.ng").write_text(f"{seen.after}\n")


class Diffs:
    """Collects the difference in the text form for each pass that changed something."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def __call__(self, seen: Observation) -> None:
        if seen.before is seen.after:
            return
        from nagraph.ir.difference import difference

        self.texts.append((seen.step, difference(seen.before, seen.after, f"after {seen.step}")))


class Differential:
    """Runs the graph before and after each pass on the same inputs; a changed result names the pass.

    rtol: relative tolerance for floating outputs, since exact rules may still reorder nothing but rounding.
    """

    def __init__(self, *arrays: Any, rtol: float = 1e-5):
        self.arrays = arrays
        self.rtol = rtol

    def __call__(self, seen: Observation) -> None:
        import numpy as np

        from nagraph.ops.region import interpret

        if seen.before is seen.after:
            return
        expected, got = (interpret(g, self.arrays) for g in (seen.before, seen.after))
        for i, (a, b) in enumerate(zip(expected, got, strict=True)):
            x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
            if not np.allclose(x, y, rtol=self.rtol, atol=self.rtol * max(1.0, float(np.abs(x[np.isfinite(x)]).max(initial=0))),
                               equal_nan=True):
                worst = float(np.nanmax(np.abs(x - y)))
                raise PassError(f"pass {seen.step} changed output {i} of {seen.before.name} by up to {worst:.3g}")


def passes() -> Iterator[tuple[str, Any]]:
    """Every pass with its name."""
    for name in MODULES:
        yield name, load(name)
