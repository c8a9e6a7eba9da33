"""What the house knows of the NumPy backend."""

from __future__ import annotations

from collections.abc import Mapping

from nagraph.backends.interface import Agreement, Backend
from nagraph.backends.numpy.executable import Executable, compile
from nagraph.ir.graph import Graph


class NumpyBackend(Backend):
    """The backend that calls each op's NumPy reference, fused regions block by block. It plans with the pass `memory`."""

    name = "numpy"
    pipeline = ("canonicalize,narrow,simplify,fold_constants,cse,dce,fold_control,prune_regions,expand,"
                "canonicalize,simplify,fold_constants,fold_control,licm,prune_regions,licm,cse,dce,prune_regions,fuse,schedule,memory")
    agreement = Agreement(reference=True)

    def compile(self, graph: Graph, donations: Mapping[int, int], threads: int | None = None) -> Executable:
        return compile(graph, donations, threads)


BACKEND = NumpyBackend()
