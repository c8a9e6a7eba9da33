"""What the house knows of the CUDA backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nagraph.backends.cuda.arrays import ARRAYS
from nagraph.backends.interface import Agreement, Backend
from nagraph.ir.graph import Graph

if TYPE_CHECKING:
    from nagraph.backends.cuda.driver import Driver
    from nagraph.backends.cuda.executable import Executable


class CUDABackend(Backend):
    """The backend of NVIDIA's GPUs. It plans by kernels, writes them as CUDA C++, and keeps programs and kernels on disk.

    aimed: the architecture that it compiles for, sm_90; "" for that of the current device.
    """

    name = "cuda"
    pipeline = ("canonicalize,narrow,simplify,fold_constants,cse,dce,fold_control,prune_regions,expand,layout,pretranspose,"
                "canonicalize,simplify,fold_constants,fold_control,licm,prune_regions,licm,cse,dce,prune_regions,"
                "split{row_sums=False},rematerialize,dce,fuse{max_nodes=128,min_nbytes=0,kernels=True},schedule")
    agreement = Agreement(reference=False)
    array_kind = ARRAYS

    def __init__(self, aimed: str = ""):
        self.aimed = aimed

    @property
    def driver(self) -> Driver:
        """The way to the devices."""
        return _loaded().DRIVER

    def missing(self) -> str:
        nvrtc = _loaded().nvrtc
        return nvrtc.missing() if self.aimed else self.driver.missing() or nvrtc.missing()

    def aimed_at(self, target: str) -> CUDABackend:
        return CUDABackend(_loaded().nvrtc.check_architecture(target))

    def about(self) -> dict[str, str]:
        nvrtc = _loaded().nvrtc
        return {**self.driver.about(), **({"NVRTC": f"{nvrtc.version()}, {nvrtc.path()}"} if nvrtc.version() else {})}

    def compile(self, graph: Graph, donations: Mapping[int, int], threads: int | None = None) -> Executable:
        return _loaded().compile(graph, donations, self.driver, self._architecture())

    def compiled(self, graph: Graph, options: str, optimise: Callable[[], Graph], donations: Mapping[int, int],
                 threads: int | None = None) -> Executable:
        return _loaded().kept(graph, options, optimise, donations, self.driver, self._architecture())

    def _architecture(self) -> str:
        return self.aimed or self.driver.device().architecture


def _loaded() -> Any:
    """What compiles and runs, which loads when something is to be compiled or the devices are asked for. CuPy loads later still."""
    from nagraph.backends.cuda import executable

    return executable


BACKEND = CUDABackend()
