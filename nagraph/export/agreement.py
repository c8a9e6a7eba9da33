"""Agreement: what other software computes of what was made, beside our references, on random arrays and for several sizes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.errors import ExportError, LabelError, SizeError
from nagraph.export.subject import Subject
from nagraph.ir.graph import Graph
from nagraph.ir.interpret import interpret
from nagraph.ir.nested import nested_graphs
from nagraph.ir.sizes import Dim
from nagraph.ir.types import BOOL, DTYPES, TensorType, is_float

Array = np.ndarray[Any, Any]
#: How far a result may be from ours, as a part of its largest element, by the bits of the narrowest floats in the graph.
TOLERANCES = {64: 1e-12, 32: 2e-5, 16: 2e-2}
#: And beside that, how many times as far as results of ours are that come of other roundings.
DOUBT = 4
#: Sizes that a dimension is tried with, within its bounds: first, and where these are no sizes of the graph.
_SIZES, _OTHERS = (1, 2, 5), (3, 4, 8, 16, 32, 6, 12, 24, 64)
#: The end of every error here.
ANYWAY = "nothing was written; verify=False writes it as it is"


def agree(subject: Subject, other: str, run: Callable[[Mapping[str, int], Mapping[str, Array]], Sequence[Array]]) -> str:
    """What was tried, and the largest error, in words. ExportError if the other software fails, or finds what rounding does not explain.

    other: what it is called. run(sizes, arrays) gives its results, for sizes of the dimensions by name, and an array for each input that is
    no weight, by name.
    """
    worst, told, allowed = 0.0, [], tolerance(subject.graph)
    for sizes in sizes_to_try(subject.graph):
        graph = subject.graph.specialise(sizes)
        given, expected = _inputs(subject, graph)
        shown = ", ".join(f"{name}={size}" for name, size in sizes.items())
        where = f" for {shown}" if shown else ""
        try:
            found = run(sizes, {name: given[name] for name in subject.free})
        except Exception as problem:  # noqa: BLE001 - other software raises what it likes
            raise ExportError(f"{subject.name}: {other} fails on what was made{where}: {str(problem)[:2000]}; {ANYWAY}") from None
        others: Sequence[Sequence[Array]] = [()] * len(expected)
        if any(apart(got, want, allowed)[1] for got, want in zip(found, expected, strict=True)):
            others = rounded_otherwise(graph, [given[name] for name in subject.inputs])
        for name, got, want, doubts in zip(subject.outputs, found, expected, others, strict=True):
            error, wrong = apart(got, want, allowed, doubts)
            if wrong:
                raise ExportError(f"{subject.name}: output {name}{where} differs in {other}: {wrong}; {ANYWAY}")
            worst = max(worst, error)
        told.append(shown)
    where = f" for {'; '.join(told)}" if any(told) else ""
    return f"agrees with {other}{where}: largest error {worst:.1e} of the largest element"


def tolerance(graph: Graph) -> float:
    """How far a result of a graph may be from ours, as a part of its largest element."""
    values = (v for g in nested_graphs(graph) for v in (*g.inputs, *(r for node in g.nodes for r in node.results)))
    return TOLERANCES[min((8 * v.dtype.itemsize for v in values if is_float(v.dtype)), default=64)]


def apart(found: Array, expected: Array, allowed: float, doubts: Sequence[Array] = ()) -> tuple[float, str]:
    """How far a result is from ours, as a part of the largest element; and what is wrong with it, in words, if something is.

    doubts: what other roundings make of ours. Elements that are others there rounding decides; floats may be off by as much, a few times.
    """
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return 0.0, f"it is {found.dtype}{list(found.shape)} in place of {expected.dtype}{list(expected.shape)}"
    if not is_float(expected.dtype):
        sure = functools.reduce(np.logical_and, (other == expected for other in doubts), True)
        count = int(((found != expected) & sure).sum())
        return 0.0, f"{count} of {found.size} elements are others" if count else ""
    a, b, *others = (x.astype(np.float64) for x in (found, expected, *doubts))
    sure = np.ones(b.shape, bool)
    for c in others:
        sure &= np.where(np.isfinite(b), np.isfinite(c), (b == c) | np.isnan(b) & np.isnan(c))
    finite = np.isfinite(b) & sure
    if not np.array_equal(np.where(finite | ~sure, 0, b), np.where((finite & np.isfinite(a)) | ~sure, 0, a), equal_nan=True):
        return 0.0, "it is not finite elsewhere"
    scale = float(np.abs(b[finite]).max(initial=0))
    error = float(np.abs(a[finite] - b[finite]).max(initial=0))
    if error == 0:
        return 0.0, ""
    relative = error / scale if scale else np.inf
    doubt = max((float(np.abs(c[finite] - b[finite]).max(initial=0)) for c in others), default=0.0)
    allowed += DOUBT * doubt / scale if scale else 0
    if relative <= allowed:
        return relative, ""
    return relative, f"it is off by {relative:.1e} of its largest element, {scale:.3g}; {allowed:.1e} is allowed"


def sizes_to_try(graph: Graph) -> Iterator[Mapping[str, int]]:
    """Three sizes for each dimension, 1 among them where it may be 1. Not all at once, so that none is taken for another."""
    if not graph.dims:
        yield {}
        return
    number, tried = 0, []
    for shift in range(len(_SIZES)):
        for sizes in _candidates(graph.dims, shift):
            try:
                graph.specialise(sizes)
            except SizeError:
                continue
            if sizes not in tried:
                tried.append(sizes)
                number += 1
                yield sizes
                break
    if not number:
        raise ExportError(f"{graph.name}: no sizes were found for which it can be verified: {', '.join(map(str, graph.dims))}; "
                          "write it with verify=False")


def _candidates(dims: tuple[Dim, ...], shift: int) -> Iterator[dict[str, int]]:
    """Sizes of all dimensions: those of the round first, then others."""
    choices = []
    for i, d in enumerate(dims):
        every = dict.fromkeys((*_SIZES, *_OTHERS, d.min, d.min + 1, d.min + 2))
        fitting = [n for n in every if n >= d.min and (d.max is None or n <= d.max)]
        turned = (i + shift) % len(fitting[:len(_SIZES)])
        choices.append([fitting[turned], *fitting[:turned], *fitting[turned + 1:]])
    return (dict(zip((d.name for d in dims), sizes)) for sizes in itertools.islice(itertools.product(*choices), 400))


def _inputs(subject: Subject, graph: Graph) -> tuple[dict[str, Array], tuple[Array, ...]]:
    """Random arrays for the inputs, beside the weights, and our results: finite ones, if simple arrays give such."""
    found: tuple[dict[str, Array], tuple[Array, ...]] | None = None
    problem: Exception | None = None
    for largest, positive in ((100, False), (2, False), (2, True)):
        rng = np.random.default_rng(0)
        given = {name: subject.weights[name] if name in subject.weights else _drawn(rng, v.type, largest, positive)
                 for name, v in zip(subject.inputs, graph.inputs)}
        try:
            with np.errstate(all="ignore"):
                results = interpret(graph, [given[name] for name in subject.inputs])
        except LabelError as error:
            problem = error
            continue
        if all(np.isfinite(y.astype(np.float64)).all() for y in results if is_float(y.dtype)):
            return given, results
        found = found or (given, results)
    if found is None:
        raise ExportError(f"{subject.name} can't be verified with random arrays: {problem}; write it with verify=False")
    return found


def _drawn(rng: np.random.Generator, type: TensorType, largest: int, positive: bool) -> Array:
    """Normal or positive numbers, small integers, random bits for keys."""
    if type.dtype == BOOL:
        return np.asarray(rng.random(type.shape) < 0.5)
    if type.dtype == DTYPES["u32"]:
        return np.asarray(rng.integers(0, 2**32, type.shape, np.uint32))
    if not is_float(type.dtype):
        return np.asarray(rng.integers(0, largest, type.shape)).astype(type.dtype)
    return np.asarray(rng.uniform(0.1, 1, type.shape) if positive else rng.normal(size=type.shape)).astype(type.dtype)


def rounded_otherwise(graph: Graph, arrays: Sequence[Array]) -> list[Sequence[Array]]:
    """For each output, what compiled code makes of the inputs, and of the inputs with floats that are off by a unit in the last place."""
    exe, rng = ng.compile(graph), np.random.default_rng(0)

    def shaken(x: Array) -> Array:
        towards = np.asarray(rng.choice((-np.inf, np.inf), x.shape))
        return np.asarray(ng.numpy.nextafter(x, towards.astype(x.dtype))) if is_float(x.dtype) else x

    rows = []
    for trial in range(3):
        try:
            found = exe(*(arrays if trial == 0 else map(shaken, arrays)))
        except LabelError:
            continue
        rows.append([np.asarray(ng.to_numpy(y)) for y in (found if isinstance(found, tuple) else (found,))])
    return list(zip(*rows, strict=True))
