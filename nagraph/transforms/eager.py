"""Transforms outside of traces: a function is traced at every call, and compiled once for each graph.

What a Python function reads can't be known from outside: globals that a helper names, attributes, entries of dicts, arrays that are
written in place. Its graph holds what was read, so the graph is the key. Captured arrays of more than one element are operands of
the executable and no part of the key: new numbers in them compile nothing. Who wants the speed of a call without a trace has `jit`.
"""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph import arrays, choices, tree
from nagraph.compiler.places import Transfers, computing, python_floats
from nagraph.compiler.signature import F64, Call, Form, Roles
from nagraph.errors import LabelError
from nagraph.forks import Lock
from nagraph.ir.builder import active, current
from nagraph.ir.cached import cached_property
from nagraph.ir.graph import Graph, Value
from nagraph.ir.location import user_frames_only
from nagraph.ir.types import DType
from nagraph.ops.labels import failure
from nagraph.tracing.tracer import Trace, as_value, function_name, recorded, signature_of

Fn = Callable[..., Any]
#: The part of a call's arguments that the transformed function takes: (args, kwargs) -> (args, kwargs); leaves may be types.
Inner = Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
#: Executables that are kept: those used last, and the bytes that they work in.
MOST, MOST_NBYTES = 256, 1 << 30


class Traced:
    """A function as it was when it was traced: fn(*args, **kwargs), which `arguments` makes of leaves.

    lifted: the arrays that it captured, which are the last inputs of the graph. structure, mask: how its outputs make the result.
    """

    def __init__(self, fn: Fn, leaves: Sequence[Any], arguments: Callable[[Sequence[Any]], tuple[tuple[Any, ...], dict[str, Any]]]):
        self.fn = fn
        self.lifted: list[Any] = []

        def on_leaves(*xs: Any) -> Any:
            args, kwargs = arguments(xs)
            return fn(*args, **kwargs)

        self._record, self.structure, self.mask = recorded(on_leaves, leaves, lifted=self.lifted)

    @classmethod
    def on(cls, fn: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
        """fn(*args, **kwargs)."""
        leaves, structure = tree.flatten((args, kwargs))
        return cls(fn, leaves, lambda xs: tree.unflatten(structure, xs))

    @cached_property
    def graph(self) -> Graph:
        """Made when it is asked for, since calls like one before need the key alone."""
        return self._record.graph(function_name(self.fn))

    @property
    def graph_key(self) -> Hashable:
        """What the outputs follow from, beside arguments and the captured arrays' numbers."""
        return self._record.structure

    @property
    def result_key(self) -> Hashable:
        """How the outputs make the result."""
        return self.structure, tuple(self.mask)

    def again(self, like: Fn, lifted: list[Any]) -> Fn:
        """The function inside a trace, as it was: it emits the graph. `lifted`: values for the captured arrays, or these arrays."""

        @functools.wraps(like, updated=())
        def fn(*args: Any, **kwargs: Any) -> Any:
            operands = [as_value(x) for x in tree.leaves((args, kwargs)) if x is not None]
            found = iter(current().inline(self.graph, [*operands, *map(as_value, lifted)]))
            return tree.unflatten(self.structure, [next(found) if m else None for m in self.mask])

        return fn


class Entry(NamedTuple):
    """What is kept for a key: the executable, and how its outputs make the result."""

    key: Hashable
    executable: Any
    structure: tree.Structure
    mask: list[bool]

    def outputs(self, arrays: list[Any]) -> Sequence[Any]:
        """The executable's results, by its fast path if it has one for these arrays."""
        found: Sequence[Any] | None = self.executable.plain(arrays)
        return self.executable.run(arrays, {}) if found is None else found  # type: ignore[no-any-return]


class _Key:
    """A key whose hash is computed once, of what tells most keys apart; all parts are compared."""

    __slots__ = ("parts", "hash")

    def __init__(self, telling: Hashable, *others: Any):
        self.parts, self.hash = (telling, *others), hash(telling)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.hash == other.hash and self.parts == other.parts


class _Kept:
    """The entries used last, by key. Threads may ask at once; two that miss the same key both compile it."""

    def __init__(self) -> None:
        self.entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self.lock = Lock()

    def find(self, key: Hashable) -> Entry | None:
        with self.lock:
            entry = self.entries.get(key)
            if entry is not None:
                self.entries.move_to_end(entry.key)
            return entry

    def keep(self, entry: Entry) -> None:
        with self.lock:
            self.entries.pop(entry.key, None)  # with the key of another thread's entry
            self.entries[entry.key] = entry
            while len(self.entries) > MOST or len(self.entries) > 1 and self._nbytes() > MOST_NBYTES:
                self.entries.popitem(last=False)

    def _nbytes(self) -> int:
        return sum(e.executable.arena_nbytes for e in self.entries.values())


KEPT = _Kept()


class Eager:
    """A transform of `fn` for calls outside of traces: the executable of `emitted(fn, *args, **kwargs)`.

    key: what the transform is, beside fn. inner: which of the arguments fn takes, if it is not all of them. mirrors: whether the
    transform has the arguments of fn, so that errors name them. Without fn it is the executable of `emitted(*args, **kwargs)`.
    """

    def __init__(self, key: Hashable, emitted: Fn, fn: Fn | None = None, inner: Inner | None = None, mirrors: bool = True):
        self.key, self.emitted, self.fn, self.inner = key, emitted, fn, inner
        self._named = fn if fn is not None and mirrors else emitted
        self._transfers = Transfers(function_name(self._named))
        self._forms: dict[tuple[Any, ...], Form] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with user_frames_only():
            call = Call(self._form(args, kwargs), args, kwargs)
            if call.elsewhere and (floats := python_floats(computing(None, call.leaves))) != F64:
                call = Call(self._form(args, kwargs, floats), args, kwargs)
            given = call.arrays()
            traced = self._traced(call)
            elsewhere = call.elsewhere or any(map(arrays.is_elsewhere, traced.lifted))
            backend = computing(None, [*given, *traced.lifted]) if elsewhere else None
            key = _Key(traced.graph_key, traced.result_key, self.key, call.key, choices.current(), backend)
            entry = KEPT.find(key)
            if entry is None:
                entry = self._compiled(key, call, traced, backend)
                KEPT.keep(entry)
            if elsewhere:
                ready = self._transfers.gathered(call, given, entry.executable.array_kind, traced.lifted)
            else:
                ready = [*call.row_major(given), *traced.lifted]
            try:
                found = iter(entry.outputs(ready))
            except LabelError:  # the executable may have been made for another function, whose lines it would name
                raise failure(self._finished(call, traced)[0], list(map(arrays.read, ready))) from None
            return tree.unflatten(entry.structure, [next(found) if m else None for m in entry.mask])

    def _form(self, args: tuple[Any, ...], kwargs: dict[str, Any], floats: DType = F64) -> Form:
        key = (floats, len(args), *kwargs)
        if key not in self._forms:
            signature = signature_of(self._named) if self.fn is None or self._named is self.fn else None
            self._forms[key] = Form(self._named, signature, Roles((), (), ()), len(args), tuple(kwargs), floats)
        return self._forms[key]

    def _traced(self, call: Call) -> Traced:
        """What the key follows from: fn on what it takes, or all of it."""
        fn = self.emitted if self.fn is None else self.fn
        if self.inner is None:
            return Traced(fn, call.types, call.arguments)
        return Traced.on(fn, *self.inner(*call.arguments(call.leaves)))

    def _compiled(self, key: Hashable, call: Call, traced: Traced, backend: str | None) -> Entry:
        from nagraph.compiler.compilation import compile as compiled

        graph, structure, mask = self._finished(call, traced)
        return Entry(key, compiled(graph, backend=backend), structure, mask)

    def _finished(self, call: Call, traced: Traced) -> tuple[Graph, tree.Structure, list[bool]]:
        """The graph of the transform, whose inputs are the call's leaves and what fn has captured."""
        fn = self.fn
        if fn is None:
            return traced.graph, traced.structure, traced.mask
        types = [None if t is None else getattr(t, "type", t) for t in call.types]
        with Trace() as trace:
            leaves: list[Value | None] = []
            for name, t, given in zip(call.leaf_names, types, call.types):
                leaves.append(None if t is None else trace.input(t, name))
                if t is not given:
                    leaves[-1].weak = True  # type: ignore[union-attr, misc]
            again = traced.again(fn, [trace.input(v.type) for v in traced.graph.inputs[len(traced.graph.inputs) - len(traced.lifted):]])
            args, kwargs = call.arguments(leaves)
            found, structure = tree.flatten(self.emitted(again, *args, **kwargs))
            graph, _ = trace.finish(function_name(fn), [as_value(x) for x in found if x is not None])
        return graph, structure, [x is not None for x in found]


def frozen(fn: Fn, args: tuple[Any, ...]) -> tuple[Fn, tuple[Any, ...]]:
    """fn as it is now, as a function for traces, and its arguments as they are now: neither changes with what they were made from."""
    with user_frames_only():
        traced = Traced.on(fn, args, {})
    kept = tree.map(lambda x: _copy(x) if isinstance(x, np.ndarray) else arrays.copy(x), args)
    return traced.again(fn, traced.lifted), kept


def where_arrays_are(fn: Fn, *args: Any) -> Any:
    """fn(*args), a function of the library's own: outside of traces with NumPy, or where the arrays are if these are not NumPy's."""
    if active() is None and any(map(arrays.is_elsewhere, tree.leaves(args))):
        return Eager((), fn)(*args)
    return fn(*args)


def _copy(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    made = copy.copy(array)
    made.flags.writeable = False
    return made
