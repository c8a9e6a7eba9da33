"""The work of a launch: how many operations a kernel makes and how many bytes it moves, by its form and its ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nagraph.analysis.origin import label_of, lines_of
from nagraph.ir.types import DTYPES, DType
from nagraph.kernel.traffic import traffic
from nagraph.program.instructions import Launch


class Work(NamedTuple):
    """What a launch is and does: its name, units, operations, the least bytes it moves, its widest float, the user's lines."""

    name: str
    units: int
    flops: float
    nbytes: int
    dtype: DType
    lines: tuple[str, ...]


def work_of(launch: Launch, units: int, sizes: Sequence[int | None]) -> Work:
    """The work of a launch: operations by the ops' costs, bytes by the kernel's loads and stores.

    units: into how many the backend cut the kernel. sizes: bytes behind each pointer of the program's table, None where not known.
    """
    node = launch.node
    if launch.kernel is not None:
        nbytes = sum(traffic(launch.kernel, launch.slots, sizes))
        floats = [d for d in launch.kernel.operands if d in (DTYPES["f32"], DTYPES["f64"])]
    else:
        nbytes, floats = sum(sizes[s] or 0 for s in launch.slots), []
    wide = DTYPES["f64"] if DTYPES["f64"] in floats else DTYPES["f32"]
    if node is None:
        return Work("copy", units, 0.0, nbytes, wide, ())
    results = ", ".join(str(r.type) for r in node.results[:2]) + (", ..." if len(node.results) > 2 else "")
    flops = node.op.cost(*(v.type for v in node.operands)).flops
    return Work(f"{label_of(node)} -> {results}", units, float(flops), nbytes, wide, lines_of(node))
