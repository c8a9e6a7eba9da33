"""Functions: what launches of kernels and sorts call, CUDA C++ or a product that cuBLAS computes."""

from __future__ import annotations

from nagraph.backends.gpu.dialect import CUDA
from nagraph.backends.gpu.emit import DeviceFunction, emit, function_name
from nagraph.backends.gpu.products.library import LibraryProduct, chosen, library_product
from nagraph.backends.gpu.sorting import emit_sort
from nagraph.backends.gpu.target import GpuTarget
from nagraph.kernel.form import Kernel
from nagraph.program.instructions import SortTask
from nagraph.schedule import overrides
from nagraph.schedule.names import words_of


def function_of(work: Kernel | SortTask, target: GpuTarget, library: bool = True) -> DeviceFunction | LibraryProduct:
    """The function of a kernel or a sort, for a target; of a kernel by the schedule that was given for it, if one was.

    library: whether a library may compute it, which is told addresses.
    """
    if isinstance(work, SortTask):
        return emit_sort(work, target, CUDA)
    given = overrides.current().of(work, target)
    choice = chosen(work, target) if library and given is None else None
    if choice is not None and choice.by_library:
        product = library_product(work, function_name(words_of(work), work), target.tf32)
        assert product is not None, "what a library is to compute is a product"
        return product
    return emit(work, target, CUDA, given)
