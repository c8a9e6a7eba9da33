"""A pipeline is a readable tuple of passes, each a pure function Graph -> Graph.

A pass is a function marked `@graph_pass`, or a frozen dataclass marked `@graph_pass` whose fields
are its options. A pipeline prints as, and parses from, text: "simplify,cse,dce,fuse{max_nodes=64}".
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import pkgutil
import re
import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import nagraph.passes
from nagraph.errors import NagraphError, PassError, SizeError
from nagraph.ir.attributes import fits
from nagraph.ir.graph import Graph
from nagraph.ir.nested import nested_graphs
from nagraph.ir.sizes import described
from nagraph.ir.verify import verify
from nagraph.suggestions import suggestion

Pass = Callable[[Graph], Graph]

P = TypeVar("P")


def graph_pass(made: P) -> P:
    """Mark a function or a frozen dataclass as a pass, named like it: it is applied to regions first, then to the graph.

    Not to regions if its attribute `on_regions` is False: then they are the affair of the graph that holds them.
    """
    if isinstance(made, type):
        made.pass_name = _snake(made.__name__)  # type: ignore[attr-defined]
    else:
        made.pass_name = made.__name__  # type: ignore[attr-defined]
    return made


def any_sizes(made: P) -> P:
    """Mark a pass that works on graphs whose sizes are known later as well; others are given graphs of known sizes alone."""
    made.any_sizes = True  # type: ignore[attr-defined]
    return made


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def apply(step: Pass, graph: Graph, done: dict[int, Graph] | None = None) -> Graph:
    """The graph after the pass was applied to every region, innermost first, and then to itself; fused regions stay as they were made.

    done: what became of regions so far, by their identity. Each is visited once, however many graphs hold it.
    SizeError for a graph whose sizes are known later, unless the pass is marked `any_sizes`.
    """
    if graph.dims and not getattr(step, "any_sizes", False):
        raise SizeError(f"it runs once all sizes are known, and here {described(graph.dims)}; graph.specialise({{...}}) makes a graph of "
                        "given sizes, which ng.compile and ng.jit do at a call")
    if not getattr(step, "on_regions", True):
        return step(graph)
    done = {} if done is None else done
    if id(graph) not in done:
        done[id(graph)] = step(graph.map_regions(
            lambda region: apply(step, region, done), skip=lambda op: getattr(op, "kind", "") == "fused"))
    return done[id(graph)]


@dataclass(frozen=True)
class Observation:
    """An observation is what one step of a pipeline did: pass number and text, graph before and after, seconds."""

    index: int
    step: str
    before: Graph
    after: Graph
    seconds: float


Observer = Callable[[Observation], None]


class Pipeline:
    """A pipeline is passes in order. Calling it on a graph gives the rewritten graph."""

    def __init__(self, *passes: Pass, verify: bool = False, observers: Sequence[Observer] = ()):
        for p in passes:
            if isinstance(p, type) or not callable(p):
                cure = f"write {p.__name__}()" if isinstance(p, type) else f"write Pipeline.parse({p!r})" if isinstance(p, str) else ""
                raise PassError(f"a pass is a function from a graph to a graph, got {p!r:.80}{cure and '; ' + cure}")
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
            except Exception as error:  # noqa: BLE001 - whatever went wrong, people want to know where
                what = str(error) if isinstance(error, NagraphError) else f"{type(error).__name__}: {error}"
                failure = PassError(f"pass {format_pass(step)} (number {index}) failed on graph {graph.name}: {what}"
                                    f"\n{neighbourhood(graph, error)}")
                failure.index = index  # type: ignore[attr-defined]
                raise failure from error
            if not isinstance(after, Graph):
                raise PassError(f"pass {format_pass(step)} (number {index}) returned {type(after).__name__}, not a graph")
            seconds = time.perf_counter() - start
            self._check(after, step, graph)
            for observer in self.observers:
                observer(Observation(index, format_pass(step), graph, after, seconds))
            graph = after
        return graph

    def _check(self, graph: Graph, step: Pass | None, before: Graph | None) -> None:
        if not self.verify:
            return
        try:
            verify(graph)
            if before is not None:
                _check_signature(before, graph)
        except NagraphError as error:
            culprit = f"pass {format_pass(step)} made a wrong graph" if step else "the graph is wrong before any pass"
            raise PassError(f"{culprit}: {error}\n{neighbourhood(graph, error)}") from error

    def __str__(self) -> str:
        return ",".join(map(format_pass, self.passes))


def _check_signature(before: Graph, after: Graph) -> None:
    for what, old, new in (("inputs", before.input_types, after.input_types), ("outputs", before.output_types, after.output_types)):
        if old != new:
            shown = (", ".join(map(str, types)) for types in (old, new))
            raise PassError("its {} are no longer of types ({}) but ({})".format(what, *shown))


def neighbourhood(graph: Graph, error: Exception, around: int = 3) -> str:
    """The lines of the graph, or region, around the node that an error is about; its first lines if it names none."""
    node = getattr(error, "node", None)
    holder = getattr(error, "graph", None) or _holder(graph, node) or graph
    at = holder.nodes.index(node) if node in holder.nodes else None
    first = max(0, (at or 0) - around)
    try:
        lines = str(holder).splitlines()[1:]
        kept = lines[first:(at or 0) + around + 1]
    except Exception:  # noqa: BLE001 - the graph is broken; the printer may be unable to show it
        kept = [f"  {_rough(n)}" for n in holder.nodes[first:(at or 0) + around + 1]]
    marks = (">" if first + i == at else " " for i in range(len(kept)))
    return "\n".join([f"in graph @{holder.name}:", *(f"{mark} {line}" for mark, line in zip(marks, kept))])


def _holder(graph: Graph, node: Any) -> Graph | None:
    """The graph or region that holds a node."""
    return next((g for g in nested_graphs(graph) if node in g.nodes), None)


def _rough(node: Any) -> str:
    """A node of a graph that can't be printed: types in place of names."""
    operands, results = (", ".join(str(getattr(v, "type", v)) for v in values) for values in (node.operands, node.results))
    where = f"   // {node.location}" if node.location else ""
    return f"{results} = {node.op.name}({operands}){where}"


@functools.cache
def pass_names() -> tuple[str, ...]:
    """The names of all passes: those of the modules in `nagraph.passes`, each of which defines the pass of its name."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(nagraph.passes.__path__)))


def load(name: str) -> Any:
    """The pass of this name."""
    known = pass_names()
    if name not in known:
        raise PassError(f"unknown pass {name!r}{suggestion(name, known)}; there is {', '.join(known)}")
    for found in vars(importlib.import_module(f"nagraph.passes.{name}")).values():
        if getattr(found, "pass_name", None) == name:
            return found
    raise PassError(f"nagraph.passes.{name} defines no pass {name!r}")


def format_pass(step: Pass) -> str:
    """The text of a pass, `fuse{max_nodes=64}`: its name, and the options that are not at their defaults."""
    name = getattr(step, "pass_name", getattr(step, "__name__", type(step).__name__))
    if not dataclasses.is_dataclass(step):
        return str(name)
    changed = [f"{f.name}={getattr(step, f.name)!r}" for f in dataclasses.fields(step) if getattr(step, f.name) != f.default]
    return f"{name}{{{','.join(changed)}}}" if changed else str(name)


def _split(text: str) -> list[str]:
    parts = re.findall(r"[^,{}\s]+(?:\{[^}]*\})?", text)
    if re.sub(r"\s", "", ",".join(parts)) != re.sub(r"\s", "", text).strip(","):
        raise PassError(f"can't read the pipeline {text!r}; it reads like \"simplify,cse,fuse{{max_nodes=64}}\"")
    return parts


def _parse_pass(text: str) -> Pass:
    name, _, rest = text.partition("{")
    found = load(name)
    if not isinstance(found, type):
        if rest:
            raise PassError(f"pass {name} has no options, got {{{rest}")
        return found  # type: ignore[no-any-return]
    return found(**_parse_options(name, found, rest.removesuffix("}")))  # type: ignore[no-any-return]


def _parse_options(name: str, made: type, text: str) -> dict[str, Any]:
    """The options that a text gives, written as the arguments of a call: `max_nodes=64, other=(1, 2)`."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
    except SyntaxError:
        call = None
    if not isinstance(call, ast.Call) or call.args or len({k.arg for k in call.keywords}) < len(call.keywords):
        raise PassError(f"pass {name}: can't read the options {{{text}}}; they read like {{max_nodes=64}}")
    hints = typing.get_type_hints(made)
    known = [f.name for f in dataclasses.fields(made)]
    options: dict[str, Any] = {}
    for item in call.keywords:
        key, shown = item.arg or "**", ast.unparse(item.value)
        if key not in known:
            raise PassError(f"pass {name} has no option {key!r}{suggestion(key, known)}; it has {', '.join(known) or 'none'}")
        try:
            value = ast.literal_eval(item.value)
        except ValueError:
            raise PassError(f"pass {name}: option {key} has value {shown!r}, which is no number, bool, string or tuple") from None
        value = float(value) if hints[key] is float and type(value) is int else value
        if not fits(value, hints[key]):
            hint = hints[key].__name__ if isinstance(hints[key], type) and not typing.get_args(hints[key]) else hints[key]
            raise PassError(f"pass {name}: option {key} has the type {hint}, got {shown}")
        options[key] = value
    return options
