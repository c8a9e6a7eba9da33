"""Jitted functions: each is traced, compiled once for each signature of its arguments, and then run."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nagraph import backends, choices, tree
from nagraph.arrays import HOST, ArrayKind
from nagraph.compiler import donation
from nagraph.compiler.any_size import MOST_KEPT
from nagraph.compiler.bound import Bound
from nagraph.compiler.compilation import check_threads, compile_graph
from nagraph.compiler.dynamic_shapes import DynamicShapes
from nagraph.compiler.fast_path import MOST as MOST_FAST_PATHS
from nagraph.compiler.fast_path import FastPath
from nagraph.compiler.places import Transfers, computing, python_floats
from nagraph.compiler.signature import Call, Form, Roles
from nagraph.errors import SignatureError
from nagraph.forks import Lock
from nagraph.ir.builder import active
from nagraph.ir.graph import Graph
from nagraph.ir.location import caller_location, user_frames_only
from nagraph.ir.sizes import described
from nagraph.tracing.tracer import check_function, function_name, signature_of, trace_leaves

#: The number of signatures after which a warning names the argument that keeps changing.
MANY_SIGNATURES = 8


class Lowered(NamedTuple):
    """A lowered function is its graph as traced, and the executable made from it."""

    graph: Graph
    executable: Any

    def __str__(self) -> str:
        return str(self.graph)


class CacheInfo(NamedTuple):
    """Cache information is how many calls a compiled signature answered, how many compiled one, and how many there are."""

    hits: int
    misses: int
    size: int


class Traced(NamedTuple):
    """A trace is the graph of a call, or of calls whose sizes vary, and what the function's result is made of."""

    graph: Graph
    structure: tree.Structure
    mask: list[bool]
    #: Those of the leaves, with dimensions where sizes vary.
    types: tuple[Any, ...]
    call: Call
    seconds: float


@dataclass
class Entry:
    """An entry is one compiled signature."""

    executable: Any
    call: Call
    #: The kind of the arrays that it takes and gives.
    array_kind: ArrayKind
    out_structure: tree.Structure
    out_mask: list[bool]
    #: Output number -> number of the input whose donated array takes it.
    donations: dict[int, int]
    trace_seconds: float
    compile_seconds: float
    reason: str
    #: What the dimensions are, by name, where it is of a trace of sizes that are known later.
    sizes: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    #: When it was last used, as a number of calls that went no fast path.
    used: int = 0
    notes: set[str] = field(default_factory=set)


def jit(fn: Callable[..., Any] | None = None, *, backend: str | None = None, threads: int | None = None,
        static_argnames: str | Sequence[str] = (), donate_argnames: str | Sequence[str] = (),
        constant_argnames: str | Sequence[str] = (), dynamic_shapes: Mapping[str, Any] | None = None, passes: Any = None,
        schedules: Any = None, tf32: bool = False) -> Any:
    """fn, compiled once for each signature (structure, shapes and dtypes of the arguments) and then run.

    It keeps the choices that are in force where `jit` is called (`nagraph.choices`).

    static_argnames: arguments that are part of the signature by value (hashable).
    donate_argnames: arguments whose arrays may be overwritten by results of the same type.
    constant_argnames: arguments bound once into the executable, until another object is passed.
    dynamic_shapes: axes whose sizes vary, by the name of their argument: {"x": {0: batch}} or {"x": (batch, None)} with
    batch = ng.Dim("batch"). The function is traced once for all such sizes, and compiled for each when it first comes; the last ones stay.
    backend, threads, passes, schedules, tf32: as for `compile`.
    """
    if fn is None:
        return functools.partial(jit, backend=backend, threads=threads, static_argnames=static_argnames,
                                 donate_argnames=donate_argnames, constant_argnames=constant_argnames,
                                 dynamic_shapes=dynamic_shapes, passes=passes, schedules=schedules, tf32=tf32)
    return Jitted(fn, backend, threads, _names(static_argnames), _names(donate_argnames), _names(constant_argnames), passes, schedules,
                  None if dynamic_shapes is None else DynamicShapes(dynamic_shapes), tf32)


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


class Jitted:
    """A jitted function compiles itself once for each signature, and runs what was compiled: what `jit` returns."""

    def __init__(self, fn: Callable[..., Any], backend: str | None, threads: int | None, static: tuple[str, ...],
                 donate: tuple[str, ...], constant: tuple[str, ...], passes: Any, schedules: Any = None,
                 dynamic: DynamicShapes | None = None, tf32: bool = False):
        check_function("jit", fn)
        functools.update_wrapper(self, fn)
        backends.check_name(backend)
        check_threads(threads)
        self.fn = fn
        self.backend, self.threads, self.passes, self.schedules = backend, threads, passes, schedules
        self.roles = Roles(static, donate, constant)
        self.dynamic, self.tf32 = dynamic, tf32
        self._traces: dict[Hashable, Traced] = {}
        self.choices = choices.current()
        self._last: Call | None = None
        self._entries: dict[Hashable, Entry] = {}
        self._forms: dict[tuple[Any, ...], Form] = {}
        #: The last used first; replaced as a whole, since other threads may be looking.
        self.fast_paths: tuple[FastPath, ...] = ()
        self._hits = self._misses = 0
        self._warned = False
        self._transfers = Transfers(function_name(fn))
        self._lock = Lock()
        self.signature = signature_of(fn)
        if self.signature is not None:
            known = self.signature.parameters
            open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
            for n in (*static, *donate, *constant):
                if n not in known and not open_ended:
                    raise SignatureError(f"jit: {function_name(fn)} has no argument {n!r}; it has {', '.join(known) or 'none'}")

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if active() is not None:
            return self.fn(*args, **kwargs)
        with user_frames_only():
            for path in self.fast_paths:
                arrays = path.arrays(args, kwargs)
                if arrays is not None and (results := path.plain(arrays)) is not None:
                    return self.hit(path, results)
            return self._run(args, kwargs)

    def bind(self, *bound: Any) -> Bound:
        """The function with its first arguments given, for many calls: they are taken apart once.

        The leaves are taken as they are now: what is put into a dict or a module afterwards is not seen, what is written
        into one of the arrays is; but for arrays that are copied to a device, which happens here, once. Bound arguments can't be donated.
        Raises SignatureError.
        """
        return Bound(self, bound)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The traced graph and the compiled executable for these arguments, without running it."""
        with user_frames_only():
            call = self._bind(args, kwargs)
            return Lowered(self._trace(call).graph, self._entry(call).executable)

    def traced(self, *args: Any) -> tuple[Call, Traced, dict[int, int]]:
        """A call with these arguments or specs, its trace, and which output takes which donated input; nothing is compiled."""
        with user_frames_only(), choices.using(self.choices):
            call = self._bind(args, {})
            trace = self._trace(call)
            return call, trace, donation.paired(call, trace.graph, trace.structure, trace.mask)

    def without_constants(self) -> Jitted:
        """The function with arguments like others in the place of those that are bound once."""
        return Jitted(self.fn, self.backend, self.threads, self.roles.static, self.roles.donate, (), self.passes, self.schedules,
                      self.dynamic)

    def tuned(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Tune the executable for these arguments, as `nagraph.tune` says, and forget it: the next call has what was found better."""
        with user_frames_only():
            call = self._bind(args, kwargs)
            entry = self._entry(call)
            found = entry.executable.tune(*self._arrays(call, call.arrays(), entry.array_kind))
            with self._lock:
                self._entries.pop(call.key, None)
                self.fast_paths = ()
            return found

    # -- one call -----------------------------------------------------------------------------------

    def hit(self, path: FastPath, results: list[Any]) -> Any:
        self._hits += 1
        path.entry.calls += 1
        paths = self.fast_paths
        if paths and paths[0] is not path:
            self.fast_paths = (path, *(p for p in paths if p is not path))
        return path.results(results)

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self._bind(args, kwargs)
        given = call.arrays()
        entry = self._entry(call)
        kind = entry.array_kind
        arrays = self._arrays(call, given, kind)
        donated = donation.donated(call, given, arrays, kind, entry.donations, entry.notes) if entry.donations else {}
        entry.calls += 1
        if FastPath.serves(call, entry) and not any(p.is_of(call, entry) for p in self.fast_paths):
            made = FastPath(call, entry, self._transfers)
            self.fast_paths = (made, *self.fast_paths[:MOST_FAST_PATHS - 1])
        found = iter(entry.executable.run(arrays, donated))
        return tree.unflatten(entry.out_structure, [next(found) if m else None for m in entry.out_mask])

    def _arrays(self, call: Call, given: list[Any], kind: ArrayKind) -> list[Any]:
        """The leaves of a call as an executable takes them, arrays of this kind."""
        return call.row_major(given) if kind is HOST and not call.elsewhere else self._transfers.gathered(call, given, kind)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        call = Call(self._form(self.backend, args, kwargs), args, kwargs)
        if self.backend is None and call.elsewhere and (backend := computing(None, call.leaves)) is not None:
            call = Call(self._form(backend, args, kwargs), args, kwargs)  # which may have other dtypes
        return call

    def _form(self, backend: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Form:
        key = (backend, len(args), *kwargs)
        form = self._forms.get(key)
        if form is None:
            form = self._forms[key] = Form(self.fn, self.signature, self.roles, len(args), tuple(kwargs), python_floats(backend))
        return form

    def _entry(self, call: Call) -> Entry:
        backend = computing(self.backend, call.leaves) if call.elsewhere else self.backend
        key = call.key if backend == self.backend else (call.key, backend)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and call.binds_as(entry.call):
                self._hits += 1
                entry.used = self._hits + self._misses
                return entry
            self._misses += 1
            made = self._compile(call, backend)
            self._entries[key], made.used = made, self._hits + self._misses
            if made.sizes:
                self._forget_sizes()
            self.fast_paths = ()  # one of them may run the entry that was replaced
            self._warn_if_many()
            return made

    def _trace(self, call: Call) -> Traced:
        """The trace of a call, of sizes that are known later where these are dynamic: then it is made once for all of them."""
        if self.dynamic is None:
            return self._traced(call, call.types)
        types = self.dynamic.types(call)
        key = call.key_of(types)
        known = self._traces.get(key)
        if known is None or not call.binds_as(known.call):
            known = self._traces[key] = self._traced(call, types)
        return known

    def _traced(self, call: Call, types: tuple[Any, ...]) -> Traced:
        start = time.perf_counter()
        graph, captured, structure, mask = trace_leaves(call.on_leaves, types, function_name(self.fn), call.leaf_names)
        assert not captured, "a trace at the outside has nothing to capture"
        return Traced(graph, structure, mask, types, call.without_arrays(), time.perf_counter() - start)

    def _forget_sizes(self) -> None:
        """Let go of the sizes that were used longest ago; those of fast paths were used last."""
        fast = {id(path.entry) for path in self.fast_paths}
        kept = [(id(e) in fast, e.used, key) for key, e in self._entries.items() if e.sizes]
        for _, _, key in sorted(kept, key=lambda row: row[:2])[:max(0, len(kept) - MOST_KEPT)]:
            del self._entries[key]

    def _compile(self, call: Call, backend: str | None) -> Entry:
        start = time.perf_counter()
        with choices.using(self.choices):
            trace = self._trace(call)
            graph, structure, mask, sizes = trace.graph, trace.structure, trace.mask, {}
            if graph.dims:
                start = time.perf_counter()
                sizes = DynamicShapes.sizes(call, trace.types)
                graph = graph.specialise(sizes)
            traced = time.perf_counter()
            donations = donation.paired(call, graph, structure, mask)
            executable = compile_graph(graph, backend, self.threads, self.passes, donations, self.schedules, tf32=self.tf32)
        reason = self._reason(call)
        self._last = call.without_arrays()
        return Entry(executable, self._last, executable.array_kind, structure, mask, donations, traced - start,
                     time.perf_counter() - traced, reason, sizes)

    # -- what was compiled, and why -------------------------------------------------------------------

    def cache_info(self) -> CacheInfo:
        return CacheInfo(self._hits, self._misses, len(self._entries))

    def cache_clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._traces.clear()
            self.fast_paths = ()
            self._hits = self._misses = 0

    def explain(self) -> str:
        """What was compiled, in order: signature, the argument that caused it, times, donations."""
        lines = [f"{function_name(self.fn)}: {len(self._entries)} signatures, {self._hits} hits, {self._misses} misses"]
        lines += [f"  traced once for all sizes of {described(t.graph.dims)}, in {t.seconds:.3f} s; "
                  f"the last {MOST_KEPT} sizes stay compiled" for t in self._traces.values() if t.graph.dims]
        for n, e in enumerate(self._entries.values(), 1):
            lines.append(f"  {n}. {e.reason}")
            shown = ", ".join(f"{name}: {t}" for name, t in zip(e.call.leaf_names, e.call.types))
            lines.append(f"     ({shown})" if len(shown) < 400 else f"     ({shown[:400]}...)")
            how = "loaded from the cache" if e.executable.loaded else "compiled"
            traced = "specialised" if e.sizes else "traced"
            lines.append(f"     {traced} in {e.trace_seconds:.3f} s, {how} in {e.compile_seconds:.3f} s, {e.calls} calls")
            lines += [f"     {line}" for line in (*e.executable.host_steps, *sorted((*e.notes, *self._donated(e))))]
        return "\n".join(lines)

    def _donated(self, entry: Entry) -> list[str]:
        """What becomes of each donated argument, in words."""
        names = entry.call.input_names
        fates = entry.executable.donated.items() if entry.donations else ()
        return [f"{names[entry.donations[j]]} is donated: it {fate}" for j, fate in fates]

    def _reason(self, call: Call) -> str:
        if self._last is None:
            return "first call"
        return call.differences(self._last) or "the arguments changed"

    def _warn_if_many(self) -> None:
        entries = [e for e in self._entries.values() if not e.sizes]
        if self._warned or len(entries) < MANY_SIGNATURES:
            return
        self._warned = True
        distinct: dict[str, dict[str, None]] = {}
        for e in entries:
            for name, shown in e.call.description.items():
                distinct.setdefault(name, {})[shown] = None
        worst = max(distinct, key=lambda n: len(distinct[n]), default="")
        kinds = list(distinct.get(worst, ()))
        what = f"argument {worst} keeps changing ({', '.join(kinds[:4])}, ...)" if len(kinds) > 1 else "their structure keeps changing"
        warnings.warn(
            f"{function_name(self.fn)} was compiled for {len(entries)} signatures: {what}; pad it to one shape, name the "
            f"axes that vary in dynamic_shapes, or pass a number as an array ({caller_location()})", stacklevel=2)
