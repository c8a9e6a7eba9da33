"""What the house knows of the CUDA backend."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nagraph.backends.cuda.arrays import ARRAYS
from nagraph.backends.interface import Agreement, Backend
from nagraph.ir.graph import Graph

if TYPE_CHECKING:
    from nagraph.backends.cuda.driver import Driver
    from nagraph.backends.cuda.executable import Executable
    from nagraph.backends.gpu.target import GpuTarget
    from nagraph.schedule.overrides import ScheduleForm


class CUDABackend(Backend):
    """The backend of NVIDIA's GPUs. It plans by kernels, writes them as CUDA C++, and keeps programs and kernels on disk.

    aimed: the architecture that it compiles for, sm_90; "" for that of the current device. tf32: whether float32 may be rounded to it.
    """

    name = "cuda"
    pipeline = ("canonicalize,narrow,simplify,fold_constants,cse,dce,fold_control,prune_regions,expand,layout,pretranspose,"
                "canonicalize,simplify,fold_constants,fold_control,licm,prune_regions,licm,cse,dce,prune_regions,"
                "split{row_sums=False},rematerialize,dce,fuse{max_nodes=128,min_nbytes=0,kernels=True},schedule")
    agreement = Agreement(reference=False)
    array_kind = ARRAYS

    def __init__(self, aimed: str = "", tf32: bool = False):
        self.aimed, self.tf32 = aimed, tf32

    @property
    def driver(self) -> Driver:
        """The way to the devices."""
        return _loaded().DRIVER

    def missing(self) -> str:
        nvrtc = _loaded().nvrtc
        return nvrtc.missing() if self.aimed else self.driver.missing() or nvrtc.missing()

    def aimed_at(self, target: str) -> CUDABackend:
        return self._as(aimed=_loaded().nvrtc.check_architecture(target))

    def with_tf32(self) -> CUDABackend:
        return self._as(tf32=True)

    def _as(self, **changed: Any) -> CUDABackend:
        made = copy.copy(self)
        made.__dict__.update(changed)
        return made

    def schedule_form(self) -> ScheduleForm:
        form: ScheduleForm = _loaded().FORM
        return form

    def about(self) -> dict[str, str]:
        nvrtc = _loaded().nvrtc
        return {**self.driver.about(), **({"NVRTC": f"{nvrtc.version()}, {nvrtc.path()}"} if nvrtc.version() else {})}

    def compile(self, graph: Graph, donations: Mapping[int, int], threads: int | None = None) -> Executable:
        return _loaded().compile(graph, donations, self.driver, self._target())

    def compiled(self, graph: Graph, options: str, optimise: Callable[[], Graph], donations: Mapping[int, int],
                 threads: int | None = None) -> Executable:
        return _loaded().kept(graph, options, optimise, donations, self.driver, self._target())

    def _target(self) -> GpuTarget:
        target: GpuTarget = _loaded().target_of(self.aimed or self.driver.device().architecture, self.tf32)
        return target


def _loaded() -> Any:
    """What compiles and runs, which loads when something is to be compiled or the devices are asked for. CuPy loads later still."""
    from nagraph.backends.cuda import executable

    return executable


BACKEND = CUDABackend()
