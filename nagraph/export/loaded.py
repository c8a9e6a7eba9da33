"""Loaded programs: what was exported as a program, callable as it was, without the code that defined it."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Mapping
from typing import Any

from nagraph import tree
from nagraph.compiler.bound import Bound
from nagraph.compiler.jitted import Jitted, Lowered, jit
from nagraph.errors import SignatureError
from nagraph.export.subject import Exported, Subject
from nagraph.export.trees import Matching
from nagraph.ir.cached import cached_property
from nagraph.ir.emitter import current
from nagraph.ir.graph import Graph, Value
from nagraph.ir.size_binding import bound
from nagraph.ir.sizes import Dim
from nagraph.ir.types import is_float
from nagraph.ops.base import cast
from nagraph.tracing.tracer import as_value

_VARIADIC = re.compile(r"(\w+)\[\d+\]")


class LoadedProgram(Exported):
    """A loaded program is called as the function was that it was made of, and compiled when it is first called.

    Its arguments are those that were specs: by position or by name, trees as they were, of any classes with the same fields. It may be
    differentiated, batched, and called in other functions that are traced. A graph's inputs are arguments one by one; of one output it
    gives the array, else a tuple.
    """

    def __init__(self, subject: Subject, donated: tuple[str, ...], backend: str | None, threads: int | None):
        self.subject, self.__name__, self._donated = subject, subject.name, donated
        self._labels = labels(subject)
        self.__signature__ = signature(self._labels)
        weights = next(n for n in itertools.chain(["weights"], map("weights{}".format, itertools.count())) if n not in self._labels)
        #: The function of weights and arguments under `jit`.
        self.jitted: Jitted = jit(self._function(weights), backend=backend, threads=threads, donate_argnames=donated,
                                  passes=subject.pipeline or None, dynamic_shapes=self._dynamic() or None)
        self._weights = tuple(subject.weights.values())

    def specialise(self, sizes: Mapping[str, int]) -> LoadedProgram:
        """The program with numbers for dimensions, by name; others stay open. Raises SizeError."""
        return LoadedProgram(self.subject.specialise(sizes), self._donated, self.jitted.backend, self.jitted.threads)

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The dimensions of sizes that are known at a call."""
        return self.graph.dims

    @property
    def graph(self) -> Graph:
        """The graph as it was written; its first inputs need not be the weights, see `inputs`."""
        return self.subject.graph

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the graph's inputs, of which those in `weights` are no arguments."""
        return self.subject.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.subject.outputs

    @property
    def weights(self) -> dict[str, Any]:
        """The arrays that were given as values, by name, mapped from the file."""
        return self.subject.weights

    @property
    def metadata(self) -> dict[str, str]:
        return self.subject.metadata

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, as trees of types: `ng.tree.map(lambda t: t and np.zeros(t.shape, t.dtype), step.arguments["state"])`."""
        types = dict(zip(self.inputs, self.graph.input_types))
        each = (types[name] for name in self.subject.free)
        made = self.subject.tree_in
        if made is None:
            return dict(zip(self._labels, each))
        found = tree.unflatten(made.structure, [next(each) if m else None for m in made.mask])
        return dict(zip(self._labels, found))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._bound(*args, **kwargs)
        except SignatureError as error:
            told = error
        self._check(args, kwargs)  # where trees differ, it says where
        raise told

    @cached_property
    def _bound(self) -> Bound:
        """The function with the weights, which are where it computes from the first call on."""
        return self.jitted.bind(self._weights)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The graph and the executable for these arguments, or specs of them, whose first inputs are the weights."""
        return self.jitted.lower(self._weights, *args, **kwargs)

    def explain(self) -> str:
        """What was compiled, in order."""
        return self.jitted.explain()

    def __repr__(self) -> str:
        graph = self.graph
        types = dict(zip(self.inputs, graph.inputs))
        shown = ", ".join(f"{n}: {types[n].type}" for n in self.subject.free)
        return f"<program {self.subject.name}({shown}) -> ({', '.join(map(str, graph.output_types))}), {len(self.weights)} weights>"

    # -- what jit is given ----------------------------------------------------------------------------------------

    def _function(self, weights: str) -> Any:
        def function(weights: Any, *args: Any, **kwargs: Any) -> Any:
            return self._traced(weights, self._ordered(args, kwargs))

        own = inspect.Parameter(weights, inspect.Parameter.POSITIONAL_ONLY)
        function.__signature__ = self.__signature__.replace(parameters=[own, *self.__signature__.parameters.values()])  # type: ignore[attr-defined]
        function.__name__ = function.__qualname__ = self.subject.name
        return function

    def _dynamic(self) -> dict[str, dict[int, Any]]:
        """The axes whose sizes are known at a call, by the names of leaves."""
        types = dict(zip(self.subject.inputs, self.graph.inputs))
        return {leaf: {axis: n for axis, n in enumerate(types[name].shape) if not isinstance(n, int)}
                for leaf, name in zip(self._leaves(), self.subject.free, strict=True) if types[name].type.symbolic}

    def _leaves(self) -> list[str]:
        """How arguments name the inputs that are no weights."""
        made = self.subject.tree_in
        if made is None:
            return list(self._labels)
        paths = [n for label, child in zip(self._labels, made.structure.children) for n in tree.paths(child, label)]
        return [n for n, m in zip(paths, made.mask, strict=True) if m]

    def _ordered(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments in order. SignatureError if they are not those of the program."""
        try:
            found = self.__signature__.bind(*args, **kwargs).args
        except TypeError as error:
            raise SignatureError(f"{self.subject.name}: {error}") from None
        if len(found) != len(self._labels):  # of those that a star takes
            raise SignatureError(f"{self.subject.name} takes {len(self._labels)} arguments ({', '.join(self._labels)}), got {len(found)}")
        return found

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Matching:
        """The trees of a call held against those of the program. SignatureError, naming the argument and its place, where they differ."""
        made = self.subject.tree_in
        found = self._ordered(args, kwargs)
        structures = (tree.LEAF,) * len(found) if made is None else made.structure.children
        matching = Matching()
        names: list[str] = []
        leaves: list[Any] = []
        for label, expected, arg in zip(self._labels, structures, found):
            given, structure = tree.flatten(arg)
            matching.match(expected, structure, f"{self.subject.name}: {label}")
            names += tree.paths(structure, label)
            leaves += given
        for name, leaf, wanted in zip(names, leaves, itertools.repeat(True) if made is None else made.mask):
            if (leaf is not None) != wanted:
                raise SignatureError(f"{self.subject.name}: {name} is {'None' if wanted else 'an array'}, and "
                                     f"{'an array' if wanted else 'None'} in the program")
        return matching

    def _traced(self, weights: Any, args: tuple[Any, ...]) -> Any:
        """The result of the program as a part of what is traced."""
        subject, matching = self.subject, self._check(args, {})
        given = iter([as_value(x) for x in tree.leaves(args) if x is not None])
        held = iter(map(as_value, weights))
        operands = [next(held) if name in subject.weights else next(given) for name in subject.inputs]
        results = current().inline(*self._fitting(operands))
        if subject.tree_out is None:
            return results[0] if len(results) == 1 else tuple(results)
        each = iter(results)
        return tree.unflatten(matching.applied(subject.tree_out.structure), [next(each) if m else None for m in subject.tree_out.mask])

    def _fitting(self, operands: list[Value]) -> tuple[Graph, list[Value]]:
        """The graph of the sizes of these operands, and the operands, which then have the types of its inputs. Raises SignatureError."""
        graph = self.graph
        for i, (name, value, x) in enumerate(zip(self.inputs, graph.inputs, operands, strict=True)):
            if x.weak and not value.ndim and is_float(value.dtype):  # Python's numbers
                operands[i] = x = cast(x, value.dtype)
            if x.dtype != value.dtype or x.ndim != value.ndim:
                raise SignatureError(f"{graph.name}: {name} is {value.type}, got {x.type}")
        if [v.type for v in graph.inputs] != [x.type for x in operands]:
            shapes = [x.shape for x in operands]
            if graph.dims and all(isinstance(n, int) for shape in shapes for n in shape):
                graph = graph.specialise(bound([v.shape for v in graph.inputs], shapes, self.inputs))
            for name, value, x in zip(self.inputs, graph.inputs, operands):
                if value.type != x.type:
                    raise SignatureError(f"{graph.name}: {name} is {value.type}, got {x.type}")
        return graph, operands


def labels(subject: Subject) -> tuple[str, ...]:
    """The names of the arguments: those that they had, or those of a graph's inputs, as far as Python takes them."""
    if subject.tree_in is not None:
        return _renumbered(subject.tree_in.structure.keys)
    found: list[str] = []
    for name in subject.free:
        plain = re.sub(r"\W", "_", name)
        plain = plain if plain.isidentifier() else f"_{plain}"
        while plain in found:
            plain += "_"
        found.append(plain)
    return tuple(found)


def _renumbered(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same names, those of `*xs` counted from xs[0], for some of them may have been weights."""
    counts = {match[1]: itertools.count() for label in names if (match := _VARIADIC.fullmatch(label))}
    return tuple(f"{root}[{next(counts[root])}]" if (root := label.partition("[")[0]) in counts else label for label in names)


def signature(names: tuple[str, ...]) -> inspect.Signature:
    """Parameters of these names; `xs[0]` and those after it are `*xs`. ValueError for what can be no arguments."""
    parameters: list[inspect.Parameter] = []
    for label in names:
        match = _VARIADIC.fullmatch(label)
        if match is None:
            parameters.append(inspect.Parameter(label, inspect.Parameter.POSITIONAL_OR_KEYWORD))
        elif not parameters or parameters[-1].name != match[1]:
            parameters.append(inspect.Parameter(match[1], inspect.Parameter.VAR_POSITIONAL))
    return inspect.Signature(parameters)
