"""The context of a kernel's text: what its stages share while they are written."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nagraph.backends.gpu.dialect import Dialect
from nagraph.backends.gpu.schedule import REGISTERS, GpuSchedule
from nagraph.c_text.functions import Functions
from nagraph.c_text.places import INT, index_text
from nagraph.c_text.scalars import CScalars
from nagraph.c_text.text import Text
from nagraph.ir.scalar import Scalar
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Kernel

#: An element of an operand, ("p", number, index), or of a tile, ("t", number, index).
Place = tuple[str, int, Affine]


class EmissionContext:
    """The emission context of one kernel.

    partial: whether the last block may have groups without a point: what they compute is not stored.
    """

    def __init__(self, kernel: Kernel, schedule: GpuSchedule, dialect: Dialect, partial: bool):
        self.kernel, self.schedule, self.dialect, self.partial = kernel, schedule, dialect, partial
        self.text, self.functions = Text(indent=1), Functions(dialect)
        self.scalars = CScalars(self.text, dialect)
        #: Where in the block's shared memory warps leave what their folds have, in bytes.
        self.slots = 0
        #: Elements that are loaded already, and that are stored later, by place: what they are called.
        self.loaded: Mapping[Place, str] = {}
        self.stored: Mapping[Place, str] = {}

    def is_variable(self, tile: int) -> bool:
        """Whether a tile is a variable of each thread."""
        return self.schedule.tiles[tile] == REGISTERS and self.kernel.tiles[tile].size == 1

    def kind(self, axis: int) -> str:
        """The type of a place along an axis."""
        return "int" if self.kernel.axes[axis] < INT else "i64"

    def index(self, index: Affine, values: Mapping[int, Scalar] = MappingProxyType({}),
              names: Mapping[int, str] = MappingProxyType({})) -> str:
        """An affine expression in C: an int where it is one for all places of its axes.

        values: those of instructions that are atoms of it. names: of axes that are not called a0, a1, ...
        """
        return index_text(index, self.kernel.axes, lambda a: names.get(a, f"a{a}") if a >= 0 else str(values[-1 - a].raw), "(i64)")

    def barrier(self) -> None:
        """Let the threads of a group wait for one another, and see what the others wrote."""
        self.text.line("ng_warp_barrier();" if self.schedule.threads <= 32 and not self.schedule.apart else "ng_block_barrier();")
