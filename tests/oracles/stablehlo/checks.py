"""Graphs written as StableHLO and run by XLA, beside our own references: ops in every dtype, functions, programs, models."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from nagraph.export.subject import Subject
from nagraph.export.to_stablehlo import running
from nagraph.export.to_stablehlo.registry import translation_of
from nagraph.export.to_stablehlo.writing import module_text
from nagraph.ir.graph import Graph
from nagraph.ir.interpret import interpret
from nagraph.ir.size_binding import bound
from nagraph.ir.types import BOOL, DTYPES, is_float
from nagraph.ops.base import Elementwise
from tests.oracles.exported import admitted, differing
from tests.oracles.record import Outcome
from tests.oracles.sampling import Compare, compared
from tests.oracles.stablehlo import functions, models, programs, strange
from tests.oracles.tolerance import difference

Array = np.ndarray[Any, Any]
#: Kinds of cases that are no ops, each a module with names of its checks, and the samples of one.
KINDS: dict[str, Any] = {"functions": functions, "strange": strange, "programs": programs, "models": models}
#: Units in the last place of the largest element that results of one op may be off by; of elementwise ops, of each element.
UNITS = 64


class StableHlo:
    """What `ng.export.stablehlo` writes, under XLA."""

    name = "stablehlo"

    def cases(self) -> list[tuple[str, str]]:
        return [*((name, short) for name, shorts in admitted().items() for short in shorts),
                *((kind, what) for kind, module in KINDS.items() for what in module.CHECKS)]

    def cut(self) -> list[tuple[str, str]]:
        """An op of each translation in one dtype, some functions, programs and models."""
        ops = {translation_of(of(name)[0]): name for name in admitted()}
        chosen = [(name, admitted()[name][zlib.crc32(name.encode()) % len(admitted()[name])]) for name in sorted(ops.values())]
        return [*chosen, *((kind, what) for kind, module in KINDS.items() for what in module.CUT)]

    def check(self, entry: str, what: str, *, cut: bool = False, first_fault: bool = False) -> Outcome:
        module = KINDS.get(entry)
        samples = list(module.samples(what, different) if module else _of_op(entry, DTYPES[what]))
        return compared(samples[:1] if cut and module is not functions else samples, first_fault)


@functools.cache
def of(name: str) -> list[Any]:
    """The ops of a name that the tests have."""
    from tests.test_guarantees import OPS

    return [op for op in OPS.values() if op.name == name]


def _of_op(name: str, dtype: Any) -> Iterator[tuple[str, Compare]]:
    """The samples of all ops of a name in a dtype; XLA takes subnormal numbers for zeros, so samples have none."""
    from tests.gpu.cases import operands_of
    from tests.support import graph_of

    for op in of(name):
        alone = () in map(tuple, op.samples(np.random.default_rng(0)))
        op = op.with_attributes(dtype=dtype) if alone else op
        for i, operands in enumerate(([[]] if (op.name, dtype) != ("iota", BOOL) else []) if alone else operands_of(op, dtype)):
            given = [_normal(x) for x in operands]
            yield f"{op} {i}", functools.partial(_op_differs, op, graph_of(op, given), given)


def _normal(x: Array) -> Array:
    if not is_float(x.dtype):
        return x
    least = float(ml_dtypes.finfo(x.dtype).smallest_normal)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(x.astype(np.float64)) < least, np.zeros((), x.dtype) * np.sign(x), x).astype(x.dtype)


def _op_differs(op: Any, graph: Graph, operands: Sequence[Array]) -> str | None:
    with np.errstate(all="ignore"):
        expected = interpret(graph, operands)
    for got, want in zip(run(graph, operands), expected, strict=True):
        if got.dtype != want.dtype:
            return f"dtype {got.dtype}, not {want.dtype}"
        wrong = difference(got, want, elementwise=isinstance(op, Elementwise), units=UNITS, signed=False)
        if wrong is not None:
            return wrong
    return None


def run(graph: Graph, arrays: Sequence[Array] = (), optimised: bool = False) -> list[Array]:
    """What XLA computes of a graph; its sizes follow from those of the arrays."""
    subject = Subject.of(graph, optimised=optimised)
    if not subject.graph.dims:
        return running.run(module_text(subject), arrays)
    sizes = bound([v.shape for v in subject.graph.inputs], [x.shape for x in arrays], subject.inputs)
    return running.run(running.refined(module_text(subject, sizes)), arrays)


def different(graph: Graph, arrays: Sequence[Array], optimised: bool = True, what: Graph | None = None) -> str | None:
    """What is wrong with XLA's results for a graph, None if nothing is. what: the graph that is written, if it is another one."""
    return differing(graph, arrays, run(graph if what is None else what, arrays, optimised))
