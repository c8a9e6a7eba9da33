"""Subjects: what is exported, made the same of functions, graphs and executables, so that writers of forms need not ask."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nagraph import arrays as kinds
from nagraph import tree
from nagraph.backends.interface import Executable
from nagraph.compiler.bound import Bound
from nagraph.compiler.jitted import Jitted, jit
from nagraph.errors import ExportError, SignatureError, SizeError
from nagraph.fusion.outline import apart
from nagraph.ir.constant import Constant, Data
from nagraph.ir.graph import Graph, Node
from nagraph.ir.named_graph import NamedGraph
from nagraph.ir.size_binding import bound
from nagraph.ir.types import TensorType
from nagraph.ir.verify import verify
from nagraph.pipeline import Pipeline
from nagraph.suggestions import suggestion

#: The passes that rewrite a graph and leave composites whole, and what loops, branches and calls are; no region is fused.
GRAPH_PASSES = ("canonicalize,narrow,simplify,fold_constants,cse,dce,fold_control,prune_regions,canonicalize,simplify,fold_constants,"
                "fold_control,licm,prune_regions,licm,cse,dce,prune_regions")
#: Those of them that work while sizes are not known.
ANY_SIZE_PASSES = "canonicalize,narrow,simplify,fold_constants,cse,dce"


class Exported:
    """The base of what was exported before and read back: it is exported again as the subject that it was."""

    subject: Subject


class Tree(NamedTuple):
    """A tree without its arrays: the structure, whose keys at the top are names of arguments for arguments, and for each leaf whether
    it is an array (True) or None."""

    structure: tree.Structure
    mask: tuple[bool, ...]


@dataclass(frozen=True)
class Subject:
    """A subject is a graph with the names that its user has for inputs and outputs, and the values of those inputs that are weights."""

    #: Typed and verified.
    graph: Graph
    #: A name for each input and output of the graph, all different: `params.blocks.0.w`.
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    #: The arrays of those inputs that were given as values, by name: they become part of what is written.
    weights: dict[str, np.ndarray[Any, Any]]
    #: The arguments that are inputs still, and the result; None where a graph was given, which has no trees.
    tree_in: Tree | None
    tree_out: Tree | None
    name: str
    #: What the user wants to be written beside it.
    metadata: dict[str, str] = field(default_factory=dict)
    #: Output number -> number of the input whose memory it may take: arguments that the function was given away.
    donations: dict[int, int] = field(default_factory=dict)
    #: The pipeline that it was to be compiled with, where that is not the backend's own.
    pipeline: str = ""

    @property
    def free(self) -> tuple[str, ...]:
        """The names of the inputs that are no weights, in order."""
        return tuple(name for name in self.inputs if name not in self.weights)

    def specialise(self, sizes: Mapping[str, int]) -> Subject:
        """The subject with numbers for dimensions, by name; others stay open. Raises SizeError."""
        return dataclasses.replace(self, graph=self.graph.specialise(sizes))

    @property
    def closed(self) -> NamedGraph:
        """The graph with its weights as constants, which share their memory: its inputs are the others."""
        graph, named = self.graph, dict(zip(self.inputs, self.graph.inputs))
        held = [Node(Constant(Data(array, copy=False)), (), (named[name],)) for name, array in self.weights.items()]
        made = Graph(graph.name, [named[name] for name in self.free], [*held, *graph.nodes], graph.outputs)
        return NamedGraph(made, self.free, self.outputs)

    @classmethod
    def of(cls, what: Any, args_or_specs: Any = None, *, optimised: bool = True, names: Mapping[str, str] | None = None,
           metadata: Mapping[str, str] | None = None) -> Subject:
        """The subject that a function, a model, a jitted function, a graph or an executable is.

        args_or_specs: the positional arguments, a tuple unless there is one. An argument of specs (`ng.spec`, whose sizes may be `ng.Dim`)
        is an input; one of arrays or numbers is a value, whose arrays become weights, as do those of a model, of what a method
        belongs to, and of arguments that are bound. An argument can't hold both. A graph's inputs are given so one by one, or not at all.
        optimised: whether the passes run that rewrite graphs; fused regions of an executable are opened in any case.
        names: other names for inputs and outputs, or for all that begin so: {"x": "pixels", "params": "weights"}.
        Raises ExportError, SignatureError, and what tracing raises.
        """
        if isinstance(what, Exported):
            found = what.subject if args_or_specs is None else _of_sizes(what.subject, args_or_specs)
        elif isinstance(what, (Graph, Executable)):
            found = _of_graph(what if isinstance(what, Graph) else what.graph, args_or_specs)
        elif callable(what):
            found = _of_function(what, args_or_specs)
        else:
            raise ExportError(f"what is exported is a function, a graph or an executable, got {type(what).__name__}: {what!r:.80}")
        graph = apart(found.graph)
        if optimised:
            graph = Pipeline.parse(ANY_SIZE_PASSES if graph.dims else GRAPH_PASSES)(graph)
        verify(graph)
        return dataclasses.replace(found._renamed(names or {}), graph=graph, metadata={**found.metadata, **(metadata or {})})

    def _renamed(self, names: Mapping[str, str]) -> Subject:
        used: set[str] = set()

        def renamed(name: str) -> str:
            begin = max((n for n in names if name == n or name.startswith((f"{n}.", f"{n}["))), key=len, default=None)
            if begin is None:
                return name
            used.add(begin)
            return names[begin] + name[len(begin):]

        inputs, outputs = tuple(map(renamed, self.inputs)), tuple(map(renamed, self.outputs))
        weights = {renamed(name): array for name, array in self.weights.items()}
        known = (*self.inputs, *self.outputs)
        for name in names:
            if name not in used:
                raise ExportError(f"names has {name!r}, which is no input or output{suggestion(name, known)}; there is {', '.join(known)}")
        if len({*inputs, *outputs}) < len(known):
            twice = next(n for n in inputs + outputs if (inputs + outputs).count(n) > 1)
            raise ExportError(f"{self.name} has two inputs or outputs called {twice!r}; give one of them another name: "
                              f"names={{{twice!r}: ...}}")
        return dataclasses.replace(self, inputs=inputs, outputs=outputs, weights=weights)


# -- graphs -----------------------------------------------------------------------------------------------


def _of_graph(graph: Graph, given: Any) -> Subject:
    inputs = getattr(graph, "input_names", None) or _distinct([v.name or f"input{i}" for i, v in enumerate(graph.inputs)])
    outputs = getattr(graph, "output_names", None) or _output_names(["output"] if len(graph.outputs) == 1 else [
        f"output{i}" for i in range(len(graph.outputs))], inputs)
    weights = {}
    for name, value, x in zip(inputs, graph.inputs, _arguments(given, graph), strict=True):
        found = x if isinstance(x, TensorType) else kinds.type_of_array(x if kinds.is_array(x) else np.asarray(x))
        if found != value.type:
            raise SignatureError(f"{graph.name}: input {name!r} is {value.type}, got {found}")
        if not isinstance(x, TensorType):
            weights[name] = kinds.row_major(kinds.read(x) if kinds.is_array(x) else np.asarray(x))
    return Subject(graph, tuple(inputs), tuple(outputs), weights, None, None, graph.name)


def _arguments(given: Any, graph: Graph) -> Sequence[Any]:
    """A type or an array for each input of a graph."""
    if given is None:
        return graph.input_types
    found = given if isinstance(given, tuple) else (given,)
    if len(found) != len(graph.inputs):
        raise SignatureError(f"{graph.name} has {len(graph.inputs)} inputs, got {len(found)} arrays or types")
    return found


def _of_sizes(subject: Subject, given: Any) -> Subject:
    """A subject for these specs of its arguments, which say how large its dimensions are."""
    name, graph = subject.name, subject.graph
    types = [t for t in tree.leaves(given) if t is not None]
    free = [v for n, v in zip(subject.inputs, graph.inputs) if n not in subject.weights]
    if not all(isinstance(t, TensorType) for t in types) or [(t.dtype, t.rank) for t in types] != [(v.dtype, v.ndim) for v in free]:
        raise ExportError(f"{name} is exported again for specs of its arguments ({', '.join(str(v.type) for v in free)}), got "
                          f"({', '.join(map(str, types))})")
    if [t.shape for t in types] != [v.shape for v in free]:
        try:
            graph = graph.specialise(bound([v.shape for v in free], [t.shape for t in types], subject.free))
        except SizeError as error:
            raise SignatureError(f"{name}: {error}") from None
    return dataclasses.replace(subject, graph=graph)


# -- functions --------------------------------------------------------------------------------------------


def _of_function(what: Callable[..., Any], given: Any) -> Subject:
    function, args, holder = _unbound(what, () if given is None else given if isinstance(given, tuple) else (given,))
    jitted = function.without_constants() if isinstance(function, Jitted) else jit(function)
    call, trace, donations = jitted.traced(*args)
    arguments, values = call.arguments_with_leaves, set()
    for root, _, leaves in arguments:
        kinds_of = {isinstance(x, TensorType) for x in leaves if x is not None}
        if len(kinds_of) > 1:
            raise ExportError(f"{trace.graph.name}: argument {root!r} holds arrays and specs; an argument is a value, all arrays, or an "
                              "input, all specs: ng.eval_shape(lambda x: x, argument) gives the specs of a tree of arrays")
        if kinds_of == {False}:
            values.add(root)
    prefix = f"{arguments[0][0]}." if holder else ""
    inputs = _distinct([n.removeprefix(prefix) if r in values else n for n, r in zip(call.input_names, call.input_roots, strict=True)])
    arrays = [x for x in call.leaves if x is not None]
    weights = {}
    for name, root, x, v in zip(inputs, call.input_roots, arrays, trace.graph.inputs, strict=True):
        if root in values:
            weights[name] = np.asarray(kinds.read(x) if kinds.is_array(x) else x, dtype=v.dtype, order="C")
    free = [(root, child, leaves) for root, child, leaves in arguments if root not in values]
    tree_in = Tree(tree.Structure(tuple, tuple(root for root, _, _ in free), tuple(child for _, child, _ in free)),
                   tuple(x is not None for _, _, leaves in free for x in leaves))
    outputs = [n for n, m in zip(_result_paths(trace.structure), trace.mask, strict=True) if m]
    graph = trace.graph.with_name(type(args[0]).__name__) if holder and function is type(args[0]).__call__ else trace.graph
    given_away = {j: i for j, i in donations.items() if inputs[i] not in weights}
    return Subject(graph, inputs, _output_names(outputs, inputs), weights, tree_in, Tree(trace.structure, tuple(trace.mask)), graph.name,
                   donations=given_away, pipeline="" if jitted.passes is None else str(jitted.passes))


def _unbound(what: Any, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], bool]:
    """A function, all of its arguments, and whether the first of them is what it belongs to: a model, or a method's object."""
    if isinstance(what, Bound):
        return _unbound(what.jitted, (*what.bound, *args))
    if isinstance(what, functools.partial):
        if what.keywords:
            raise ExportError(f"{what!r:.80} has arguments by keyword; give them by position, or make a function of it")
        inside, args, holder = _unbound(what.func, (*what.args, *args))
        return inside, args, holder
    owner = getattr(what, "__self__", None)
    if owner is not None and dataclasses.is_dataclass(owner) and not isinstance(owner, type):
        return what.__func__, (owner, *args), True
    if dataclasses.is_dataclass(what) and not isinstance(what, type):
        return type(what).__call__, (what, *args), True
    return what, args, False


def _result_paths(structure: tree.Structure) -> list[str]:
    """A name for each leaf of a result: `output` for a single array, `output0.w` in a tuple, `logits` in a dict."""
    if structure.kind in (None, tuple, list):
        return [n for label, child in zip(("output",) if structure.kind is None else (f"output{i}" for i in structure.keys),
                                          (structure,) if structure.kind is None else structure.children)
                for n in tree.paths(child, label)]
    return tree.paths(structure)


def _output_names(outputs: Sequence[str], inputs: Sequence[str]) -> tuple[str, ...]:
    """Names of outputs that no input has: all of them under `output.` where one has."""
    return _distinct([f"output.{n}" for n in outputs] if {*outputs} & {*inputs} else outputs)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with a number behind those that came before."""
    taken: set[str] = set()
    found = []
    for name in names:
        new, n = name, 0
        while new in taken or n and new in names:
            n += 1
            new = f"{name}_{n}"
        taken.add(new)
        found.append(new)
    return tuple(found)
