"""Lowering makes a kernel of a graph, usually of a fused region.

Row-local graphs become one kernel: its grid runs over rows, and what a row needs is folded, kept in tiles, and stored, stage after
stage. Movement disappears into the indices of loads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from nagraph import choices
from nagraph.analysis.row_sums import row_sums, summand, summed_rows
from nagraph.ir.graph import Graph
from nagraph.kernel.collapse import collapse
from nagraph.kernel.context import NotRowLocal, array_constants
from nagraph.kernel.form import Kernel
from nagraph.kernel.layout import StridedLayout, row_major
from nagraph.kernel.order import with_orders
from nagraph.kernel.row_axes import leading_axes
from nagraph.kernel.scatter import lower_scatter
from nagraph.kernel.stages import StagesInCircle, build_kernel
from nagraph.ops.folding import Folding
from nagraph.ops.indexing import Scatter


def lower(
    graph: Graph, layouts: Sequence[StridedLayout] | None = None, written: Sequence[StridedLayout] | None = None, least_rows: int = 1,
    check: Callable[[Kernel], None] = lambda kernel: None,
) -> Kernel:
    """The kernel of a graph. `layouts`, `written`: where the elements of its inputs and outputs are; row-major if not given.

    Its operands are the graph's inputs, its constants of more than one element, and its outputs.
    Raises NotRowLocal if no number of rows, `least_rows` or more, makes one kernel of it that passes `check`, which raises it too.
    """
    given = tuple(layouts) if layouts is not None else tuple(row_major(v.shape) for v in graph.inputs)
    if any(isinstance(n.op, Scatter) for n in graph.nodes):
        return collapse(lower_scatter(graph, given))
    if not any(v.type.size for v in graph.outputs):  # nothing to compute
        values = (*graph.inputs, *array_constants(graph), *graph.outputs)
        return Kernel((), 0, tuple(v.dtype for v in values), len(graph.outputs), (), ())
    last: NotRowLocal | None = None
    candidates = list(itertools.takewhile(lambda rows: rows >= least_rows, row_candidates(graph)))
    for rows in choices.shuffled("rows", candidates, str(graph.output_types)):
        for apart in (False, True):
            try:
                kernel = with_orders(collapse(build_kernel(graph, given, written, rows, apart)))
                check(kernel)
                return kernel
            except NotRowLocal as error:
                last = error
                if not isinstance(error, StagesInCircle):
                    break
    raise last or NotRowLocal(f"{graph.name} has no {least_rows} rows")


def row_candidates(graph: Graph) -> list[int]:
    """Numbers of rows to try: products of leading axes of the first output that all outputs share.

    First those that are leading axes of all of them, the most rows first; others cut axes in the middle, and divide for it.
    """
    sums = row_sums(graph)
    found = [1]
    product = 1
    for size in summand(graph.outputs[0], sums).shape:
        product *= size
        found.append(product)
    folds = [n for n in graph.nodes if isinstance(n.op, Folding)]
    made = [summand(v, sums) for v in (*graph.outputs, *(r for n in folds for r in n.results))]

    def fits(rows: int) -> bool:
        least = (n.op.most_rows(*(v.type for v in n.operands)) for n in folds  # type: ignore[attr-defined]
                 if n.result not in sums or summed_rows(n) != rows)
        return 0 < rows <= min(least, default=product) and all(v.type.size % rows == 0 for v in made)

    fitting = [r for r in dict.fromkeys(reversed(found)) if fits(r)]
    return sorted(fitting, key=lambda rows: any(leading_axes(summand(v, sums).shape, rows) is None for v in graph.outputs))
