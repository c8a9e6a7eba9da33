"""Graphs written as ONNX models, run in ONNX Runtime, beside our own references: ops in every dtype, functions, programs, models."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.errors import ExportError
from nagraph.export.to_onnx import runtime
from nagraph.ir.graph import Graph
from nagraph.ir.types import BOOL, DTYPES, FLOATS, INTEGERS
from nagraph.testing.oracle import epsilon
from tests.oracles.exported import admitted, differing
from tests.oracles.onnx_export import functions, models, programs
from tests.oracles.record import Outcome
from tests.oracles.sampling import Compare, LeftOut, compared

Array = np.ndarray[Any, Any]
#: Kinds of cases that are no ops, each a module with names of its checks, and the samples of one.
KINDS: dict[str, Any] = {"functions": functions, "programs": programs, "models": models}
#: Units in the last place of the largest element that results of one op may be off by.
UNITS = 64
#: Samples that the cut asks of an op, and of other kinds.
CUT, CUT_OF_OTHERS = 1, 3


class OnnxExport:
    """What `ng.export.onnx` writes, in ONNX Runtime."""

    name = "onnx-export"

    def cases(self) -> list[tuple[str, str]]:
        return [*((name, short) for name, shorts in admitted().items() for short in shorts),
                *((kind, what) for kind, module in KINDS.items() for what in module.CHECKS)]

    def cut(self) -> list[tuple[str, str]]:
        return [*((name, "f32" if "f32" in shorts else shorts[0]) for name, shorts in admitted().items()),
                *((kind, what) for kind, module in KINDS.items() for what in module.CUT)]

    def check(self, entry: str, what: str, *, cut: bool = False, first_fault: bool = False) -> Outcome:
        module = KINDS.get(entry)
        samples = list(module.samples(what) if module else _of_op(entry, what))
        return compared(samples[:CUT if module is None else CUT_OF_OTHERS] if cut else samples, first_fault)


@cache
def refused() -> dict[tuple[str, str], str]:
    """The reason for each op and dtype that is refused, by the table of docs/exporting.md."""
    page = (Path(__file__).parents[3] / "docs" / "exporting.md").read_text()
    groups = {"floats": FLOATS, "integers": INTEGERS, "all": frozenset(DTYPES.values()), "bool": frozenset((BOOL,))}
    rows = page[page.index("| op | dtypes | why it is refused |"):].partition("\n\n")[0].splitlines()[2:]
    found = {}
    for row in rows:
        names, dtypes, why = (cell.strip() for cell in row.strip("|").split("|"))
        for short, dtype in DTYPES.items():
            if any(dtype in groups.get(word, frozenset()) or word == short for word in dtypes.replace(",", " ").split()):
                found |= {(name.strip("` "), short): why for name in names.split(",")}
    return found


def _of_op(name: str, short: str) -> Iterator[tuple[str, Compare]]:
    """The samples of all ops of a name in a dtype."""
    from tests.gpu.cases import operands_of
    from tests.support import graph_of
    from tests.test_guarantees import OPS

    dtype, reason = DTYPES[short], refused().get((name, short))
    for text, op in OPS.items():
        if op.name == name:
            for i, operands in enumerate((*operands_of(op, dtype), *_of_all_bits(op, dtype))):
                allowed = UNITS * max(epsilon(x.dtype) for x in (*operands, np.zeros(0, dtype)))
                yield f"{text} {short} {i}", partial(_asked, graph_of(op, operands), operands, allowed, reason)


def _of_all_bits(op: Any, dtype: Any) -> Iterator[list[Array]]:
    """Operands of a sample whose operands are all integers of one dtype, with any bits: what wraps around, and the ends of the range."""
    from tests.gpu.cases import operands_of
    from tests.test_guarantees import OF_SEVERAL_KINDS

    if dtype not in INTEGERS or op.name in (*OF_SEVERAL_KINDS, "reciprocal"):  # of 1 / 0 nothing is promised
        return
    info, rng = np.iinfo(dtype), np.random.default_rng(0)
    for operands in operands_of(op, dtype):
        if all(x.dtype == dtype for x in operands):
            yield [rng.integers(info.min, info.max, x.shape, dtype, endpoint=True) for x in operands]
            ends = np.array([info.min, info.max, 0, 1, info.max - 1, info.min + 1], dtype)
            yield [np.resize(np.roll(ends, i), x.shape) for i, x in enumerate(operands)]
            return


def _asked(graph: Graph, operands: Sequence[Array], allowed: float, reason: str | None) -> str | None:
    if reason is None:
        return different(graph, operands, allowed)
    try:
        written(graph, operands)
    except ExportError:
        raise LeftOut(reason) from None
    return f"it is exported; remove it from docs/exporting.md ({reason})"


def different(graph: Graph, operands: Sequence[Array], allowed: float | None = None, what: Any = None, **options: Any) -> str | None:
    """What is wrong with the results of a model of a graph, None if nothing is. what: the graph that is written, if it is another one."""
    return differing(graph, operands, written(graph if what is None else what, operands, **options), allowed)


def written(graph: Graph, operands: Sequence[Array], **options: Any) -> list[Array]:
    """What ONNX Runtime computes of a graph that is written as a model, and valid."""
    import onnx

    with tempfile.TemporaryDirectory() as place:
        path = ng.export.onnx(graph, Path(place) / "model.onnx", verify=False, **options)
        onnx.checker.check_model(str(path), full_check=True)
        session = runtime.Session(path, threads=1)
        return session(dict(zip(session.inputs, operands, strict=True)))
