"""Functions: what launches of kernels and sorts call, as CUDA C++."""

from __future__ import annotations

from nagraph.backends.cuda.target import target_of
from nagraph.backends.gpu.dialect import CUDA
from nagraph.backends.gpu.emit import DeviceFunction, emit
from nagraph.backends.gpu.sorting import emit_sort
from nagraph.kernel.form import Kernel
from nagraph.program.instructions import SortTask


def function_of(work: Kernel | SortTask, architecture: str) -> DeviceFunction:
    """The function of a kernel or a sort, for an architecture."""
    target = target_of(architecture)
    return emit_sort(work, target, CUDA) if isinstance(work, SortTask) else emit(work, target, CUDA)
