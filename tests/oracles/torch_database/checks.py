"""What is checked of an entry: values in each dtype; in float64 gradients, second derivatives, forward mode and vmap."""

from __future__ import annotations

import functools
import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import nagraph as ng
from tests.oracles.record import Outcome
from tests.oracles.sampling import compared, directions
from tests.oracles.tolerance import FINER, difference, is_float, limits
from tests.oracles.torch_database.counterpart import Unoffered
from tests.oracles.torch_database.samples import DTYPES, Sample, array, entries, is_elementwise, samples
from tests.oracles.torch_database.table import COUNTERPARTS

DERIVATIVES = ("gradient", "second", "forward", "vmap")
CHECKS = (*DTYPES, *DERIVATIVES)


#: Units in the last place for derivatives, whose rules are not PyTorch's.
ROUTES = 64
#: Units in the last place by which no sum moves where its operands move by one.
STEP = 1000
#: Entries of single elements that are differences of nearly equal numbers, made of several functions here.
CANCEL = {"nn.functional.tanhshrink"}
#: How many samples of a check a cut takes, and how many elements each has at the most.
CUT, LARGEST = 2, 500


class TorchDatabase:
    """PyTorch's operator database, `torch.testing._internal.common_methods_invocations.op_db`."""

    name = "torch"

    def cases(self) -> list[tuple[str, str]]:
        return [(entry, what) for entry in COUNTERPARTS for what in CHECKS if _has(entries()[entry], what)]

    def cut(self) -> list[tuple[str, str]]:
        """Values in two dtypes, and a derivative."""
        narrow = ("float32", "float16", "bfloat16")
        found = []
        for entry in COUNTERPARTS:
            for group in (narrow, tuple(d for d in DTYPES if d not in narrow), DERIVATIVES):
                has = [what for what in group if _has(entries()[entry], what)]
                found += [(entry, has[zlib.crc32(entry.encode()) % len(has)])] if has else []
        return found

    def check(self, entry: str, what: str, *, cut: bool = False, first_fault: bool = False) -> Outcome:
        info, counterpart = entries()[entry], COUNTERPARTS[entry]
        compare = {"gradient": gradient, "second": second, "forward": forward, "vmap": mapped}.get(what, values)
        chosen = samples(entry, what if what in DTYPES else "float64", what in DTYPES, *((CUT, LARGEST) if cut else ()))
        elementwise = is_elementwise(info) and entry not in CANCEL

        def asked(number: int, sample: Sample) -> str | None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return compare(sample, counterpart, elementwise, (None, "numpy") if cut and number == 0 else (None,))

        return compared(((f"{entry} {what} sample {number} ({sample.shown()})", functools.partial(asked, number, sample))
                         for number, sample in enumerate(chosen)), first_fault)


def _has(entry: Any, what: str) -> bool:
    if what in DTYPES:
        return DTYPES[what] in entry.dtypes
    supported: bool = entry.supports_gradgrad if what == "second" else entry.supports_autograd
    return supported and torch.float64 in entry.dtypes


def values(sample: Sample, counterpart: Callable[..., Any], elementwise: bool, backends: Sequence[str | None]) -> str | None:
    arrays = [array(t) for t in sample.tensors]
    ways: list[tuple[str, Callable[[], list[Any]]]] = [("eager", lambda: sample.ours(counterpart, arrays))]
    for backend in backends:
        jitted = ng.jit(lambda *xs: sample.ours(counterpart, xs), backend=backend)
        ways.append((f"jit on {backend or 'llvm'}", lambda jitted=jitted: jitted(*arrays)))
    found = [(way, [np.asarray(y) for y in run()]) for way, run in ways]
    theirs = sample.theirs(sample.tensors)
    wide = _wide(sample, sample.tensors, theirs)
    floats = {t.dtype for t in sample.tensors if t.is_floating_point()}
    single = len({t.dtype for t in sample.tensors}) == 1 and len(floats) == 1
    told: list[str] = []
    for way, ours in found:
        if len(ours) != len(theirs):
            return f"{way}: {len(ours)} results, not {len(theirs)}"
        for k, (y, t, w) in enumerate(zip(ours, theirs, wide)):
            same_dtype = single and t.dtype in floats
            problem = _value(y, array(t), w, elementwise, same_dtype, sample.signed())
            if problem is not None and not elementwise and is_float(y.dtype):
                problem = _value(y, array(t), w, elementwise, same_dtype, sample.signed(), _moves(sample, sample.tensors, k, y.dtype))
            told += [] if problem is None else [f"{way}, result {k}: {problem}"]
    return "; ".join(told) or None


def _value(y: np.ndarray, t: np.ndarray, wide: Any, elementwise: bool, same_dtype: bool, signed: Any, moves: Any = 0.0) -> str | None:
    """What is wrong with y, where PyTorch has t, and `wide` in float64 (in float32, if t is float64); `moves` is an error to allow for."""
    if not is_float(t.dtype) and not is_float(y.dtype) and (t.dtype == bool) != (y.dtype == bool):
        return f"dtype {y.dtype}, not {t.dtype}"
    if same_dtype and y.dtype != t.dtype:
        return f"dtype {y.dtype}, not {t.dtype}"
    if is_float(y.dtype) and not is_float(t.dtype):
        return f"dtype {y.dtype}, not {t.dtype}"
    alike = y.dtype == t.dtype and is_float(t.dtype)
    if y.dtype == np.float64 and alike:
        with np.errstate(all="ignore"):
            own = moves if wide is None else np.maximum(FINER * np.abs(wide.astype(np.float64) - t), moves)
        return difference(y, t, own, t, elementwise, signed=signed)
    if not is_float(t.dtype):
        return difference(y, t)
    with np.errstate(all="ignore"):
        own = np.maximum(np.abs(t.astype(np.float64) - wide), moves) if alike else moves
    return difference(y, wide, own, t if alike else None, elementwise, signed=signed)


def _wide(sample: Sample, tensors: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> list[Any]:
    """The results in float64: of float64 itself those in float32, whose error tells how a sample is conditioned."""
    finest = any(t.dtype == torch.float64 for t in tensors)
    target = torch.float32 if finest else torch.float64
    if not any(t.is_floating_point() for t in theirs):
        return [array(t) for t in theirs]
    torch.set_default_dtype(target)
    try:
        for of_integers in (not any(t.is_floating_point() for t in tensors), False):
            try:
                found = sample.theirs([t.to(target) if t.is_floating_point() or of_integers else t for t in tensors])
            except Unoffered:
                continue
            if [f.shape for f in found] == [t.shape for t in theirs]:
                return [array(f) for f in found]
    finally:
        torch.set_default_dtype(torch.float32)
    return [None if finest else array(t).astype(np.float64) if t.is_floating_point() else array(t) for t in theirs]


def _moves(sample: Sample, tensors: Sequence[torch.Tensor], result: int, dtype: Any) -> Any:
    """How far a result moves, at most of three times, where all numbers move by a unit in the last place; sums that cancel move far.

    What moves beyond STEP units is a step, such as a label that is no longer 1, and tells nothing of rounding: nothing is allowed there.
    """
    rng, eps = np.random.default_rng(11), limits(np.dtype(dtype))[0]
    of_integers = not any(t.is_floating_point() for t in tensors)
    wide = [t.double() if t.is_floating_point() or of_integers else t for t in tensors]

    def moved() -> list[torch.Tensor]:
        return [t * (1 + eps * torch.tensor(rng.choice([-1.0, 1.0], t.shape))) if t.is_floating_point() else t for t in wide]

    try:
        at_rest, *others = (array(sample.theirs(ts)[result]) for ts in (wide, moved(), moved(), moved()))
    except Unoffered:
        return 0.0
    with np.errstate(all="ignore"):
        far = np.max([np.abs(y - at_rest) for y in others], axis=0)
        return np.where(far <= STEP * eps * np.maximum(1, np.abs(at_rest)), far, 0)


# -- derivatives, in float64 ---------------------------------------------------------------------------


def _moving(sample: Sample) -> list[int]:
    """The tensors by which PyTorch differentiates: all floating ones or, where it refuses some, those that it takes alone."""
    def taken(chosen: list[int]) -> bool:
        try:
            sample.theirs([t.detach().clone().requires_grad_(i in chosen) for i, t in enumerate(sample.tensors)])
        except Unoffered:
            return False
        return True

    floating = [i for i, t in enumerate(sample.tensors) if t.is_floating_point()]
    return floating if taken(floating) else [i for i in floating if taken([i])]


def _results(sample: Sample, counterpart: Callable[..., Any], arrays: Sequence[Any], moving: Sequence[int]) -> Callable[..., list[Any]]:
    """Our floating results as a function of the moving arrays alone."""
    def of(*xs: Any) -> list[Any]:
        given = list(arrays)
        for i, x in zip(moving, xs, strict=True):
            given[i] = x
        return [y for y in sample.ours(counterpart, given) if is_float(np.dtype(y.dtype))]

    return of


def _theirs(sample: Sample, dtype: torch.dtype, moving: Sequence[int]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """PyTorch's floating results in a dtype, and the leaves by which they are differentiated."""
    given = [t.detach().clone() for t in sample.tensors]
    for i in moving:
        given[i] = given[i].to(dtype).requires_grad_()
    if not any(given[i].numel() for i in moving):
        raise Unoffered("nothing moves")
    found = [y for y in sample.theirs(given) if y.is_floating_point()]
    if not found or not any(y.requires_grad for y in found):
        raise Unoffered("PyTorch has nothing to differentiate")
    return found, [given[i] for i in moving]


def _grads(ys: Sequence[torch.Tensor], xs: Sequence[torch.Tensor], cts: Sequence[np.ndarray], again: bool) -> list[torch.Tensor]:
    kept = [(y, torch.tensor(c, dtype=y.dtype)) for y, c in zip(ys, cts, strict=True) if y.requires_grad]
    found = torch.autograd.grad([y for y, _ in kept], xs, [c for _, c in kept], create_graph=again, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, xs)]


def _compare(found: Sequence[Any], theirs: Callable[[torch.dtype], list[torch.Tensor]], what: str) -> str | None:
    """Ours beside PyTorch's in float64, whose error is taken from that in float32."""
    try:
        exact = [array(t) for t in theirs(torch.float64)]
    except RuntimeError as error:
        raise Unoffered(f"PyTorch itself: {type(error).__name__}") from None
    try:
        rough = [array(t).astype(np.float64) for t in theirs(torch.float32)]
    except (Unoffered, RuntimeError):
        rough = [None] * len(exact)
    if len(found) != len(exact):
        return f"{len(found)} results, not {len(exact)}"
    for k, (y, t, r) in enumerate(zip(found, exact, rough, strict=True)):
        with np.errstate(all="ignore"):
            own = None if r is None else FINER * np.abs(r - t)
        problem = difference(np.asarray(y), t, own, t, floor=1, units=ROUTES)
        if problem is not None:
            return f"{what} {k}: {problem}"
    return None


def gradient(sample: Sample, counterpart: Callable[..., Any], elementwise: bool, backends: Sequence[str | None]) -> str | None:
    moving, arrays = _moving(sample), [array(t) for t in sample.tensors]
    of = _results(sample, counterpart, arrays, moving)
    cts = directions(_theirs(sample, torch.float64, moving)[0], 1)

    def theirs(dtype: torch.dtype) -> list[torch.Tensor]:
        ys, xs = _theirs(sample, dtype, moving)
        return _grads(ys, xs, cts, again=False)

    for backend in backends:
        found = ng.jit(lambda xs, cts: ng.vjp(of, *xs)[1](cts), backend=backend)([arrays[i] for i in moving], cts)
        if (problem := _compare(found, theirs, "gradient")) is not None:
            return problem
    return None


def second(sample: Sample, counterpart: Callable[..., Any], elementwise: bool, backends: Sequence[str | None]) -> str | None:
    moving, arrays = _moving(sample), [array(t) for t in sample.tensors]
    of = _results(sample, counterpart, arrays, moving)
    cts = directions(_theirs(sample, torch.float64, moving)[0], 1)
    again = directions([arrays[i] for i in moving], 2)

    def theirs(dtype: torch.dtype) -> list[torch.Tensor]:
        ys, xs = _theirs(sample, dtype, moving)
        first = _grads(ys, xs, cts, again=True)
        if not any(g.requires_grad for g in first):
            return [torch.zeros_like(x) for x in xs]
        return _grads(first, xs, again, again=False)

    def ours(xs: Any, cts: Any, again: Any) -> Any:
        return ng.vjp(lambda *v: ng.vjp(of, *v)[1](cts), *xs)[1](tuple(again))

    for backend in backends:
        found = ng.jit(ours, backend=backend)([arrays[i] for i in moving], cts, again)
        if (problem := _compare(found, theirs, "second derivative")) is not None:
            return problem
    return None


def forward(sample: Sample, counterpart: Callable[..., Any], elementwise: bool, backends: Sequence[str | None]) -> str | None:
    """J t, which PyTorch is asked for as the derivative of Jᵀ u by u."""
    moving, arrays = _moving(sample), [array(t) for t in sample.tensors]
    of = _results(sample, counterpart, arrays, moving)
    along = directions([arrays[i] for i in moving], 3)

    def theirs(dtype: torch.dtype) -> list[torch.Tensor]:
        ys, xs = _theirs(sample, dtype, moving)
        us = [torch.zeros_like(y, requires_grad=True) for y in ys]
        kept = [(y, u) for y, u in zip(ys, us) if y.requires_grad]
        pulled = torch.autograd.grad([y for y, _ in kept], xs, [u for _, u in kept], create_graph=True, allow_unused=True)
        moved = [(g, torch.tensor(a, dtype=dtype)) for g, a in zip(pulled, along) if g is not None and g.requires_grad]
        if not moved:
            return [torch.zeros_like(y) for y in ys]
        found = torch.autograd.grad([g for g, _ in moved], us, [a for _, a in moved], allow_unused=True)
        return [torch.zeros_like(y) if t is None else t for t, y in zip(found, ys)]

    for backend in backends:
        found = ng.jit(lambda xs, ts: ng.jvp(of, xs, ts)[1], backend=backend)([arrays[i] for i in moving], along)
        if (problem := _compare(found, theirs, "tangent")) is not None:
            return problem
    return None


def mapped(sample: Sample, counterpart: Callable[..., Any], elementwise: bool, backends: Sequence[str | None]) -> str | None:
    """The sample and itself turned round, stacked: each tensor by itself, then all together."""
    tensors = sample.tensors
    choices = [*([i] for i in range(len(tensors))), list(range(len(tensors)))]
    for chosen in choices if len(tensors) > 1 else choices[:1]:
        other = [torch.flip(t, tuple(range(t.ndim))) if i in chosen else t for i, t in enumerate(tensors)]
        expected = [sample.theirs(ts) for ts in (tensors, other)]
        rough = [_wide(sample, ts, theirs) for ts, theirs in zip((tensors, other), expected)]
        stacked = [np.stack([array(t), array(o)]) if i in chosen else array(t) for i, (t, o) in enumerate(zip(tensors, other))]
        axes = tuple(0 if i in chosen else None for i in range(len(tensors)))
        for backend in backends:
            found = ng.jit(ng.vmap(lambda *xs: sample.ours(counterpart, xs), in_axes=axes), backend=backend)(*stacked)
            for k, (y, first, last) in enumerate(zip(found, *expected, strict=True)):
                for n, t in enumerate((first, last)):
                    with np.errstate(all="ignore"):
                        own = None if rough[n][k] is None or not t.is_floating_point() else FINER * np.abs(rough[n][k] - array(t))
                    problem = difference(np.asarray(y)[n], array(t), own, array(t) if t.is_floating_point() else None)
                    if problem is not None and t.is_floating_point():
                        moves = _moves(sample, (tensors, other)[n], k, y.dtype)
                        problem = difference(np.asarray(y)[n], array(t), moves if own is None else np.maximum(own, moves), array(t))
                    if problem is not None:
                        return f"mapped {chosen}, result {k} of {n}: {problem}"
    return None
