"""What the house knows of the LLVM backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nagraph.backends.interface import Agreement, Backend
from nagraph.ir.graph import Graph

if TYPE_CHECKING:
    from nagraph.backends.llvm.executable import Executable
    from nagraph.schedule.target import Target


class LLVMBackend(Backend):
    """The backend that writes native kernels for this CPU. It plans by kernels, and keeps programs and kernels on disk."""

    name = "llvm"
    pipeline = ("canonicalize,narrow,simplify,fold_constants,cse,dce,fold_control,prune_regions,expand,layout,pretranspose,"
                "canonicalize,simplify,fold_constants,fold_control,licm,prune_regions,licm,cse,dce,prune_regions,"
                "split,rematerialize,dce,fuse{max_nodes=128,min_nbytes=0,kernels=True},schedule")
    agreement = Agreement(reference=False)

    def target(self) -> Target:
        from nagraph.backends.llvm.text.target import host

        return host()

    def compile(self, graph: Graph, donations: Mapping[int, int], threads: int | None = None) -> Executable:
        return _loaded().compile(graph, donations, threads)

    def compiled(self, graph: Graph, options: str, optimise: Callable[[], Graph], donations: Mapping[int, int],
                 threads: int | None = None) -> Executable:
        return _loaded().kept(graph, options, optimise, donations, threads)


def _loaded() -> Any:
    """What compiles and runs, with which LLVM loads."""
    from nagraph.backends.llvm import executable

    return executable


BACKEND = LLVMBackend()
