"""Neighbours: a thread that has several neighbouring points for itself loads and stores what they read and write by one access each."""

from __future__ import annotations

from nagraph.backends.gpu.context import EmissionContext
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Kernel, Load, Store


def in_packs(kernel: Kernel, x: Load | Store) -> bool:
    """Whether neighbouring points access neighbouring elements, all of them, whatever the data."""
    if (isinstance(x, Load) and x.mask is not None) or (isinstance(x, Store) and x.combine is not None):
        return False
    return all(a >= 0 for a, _ in x.index.terms) and x.index.coefficient(kernel.grid - 1) == 1


class Packs:
    """The packs of a thread's points: operands that are loaded before they are computed, and stored afterwards."""

    def __init__(self, context: EmissionContext):
        self.context = context
        kernel = context.kernel
        accesses = [x for s in kernel.stages for x in (*s.body, *s.stores) if isinstance(x, (Load, Store)) and in_packs(kernel, x)]
        #: By operand and index, the name of the pack.
        self.loaded = self._named("w", [x for x in accesses if isinstance(x, Load)])
        self.stored = self._named("r", [x for x in accesses if isinstance(x, Store)])

    @staticmethod
    def _named(letter: str, accesses: list[Load] | list[Store]) -> dict[tuple[int, Affine], str]:
        places = dict.fromkeys((x.operand, x.index) for x in accesses)
        return {place: f"{letter}{n}" for n, place in enumerate(places)}

    def _kind(self, operand: int) -> str:
        return f"ng_pack<{self.context.dialect.memory_type(self.context.kernel.operands[operand])}, {self.context.schedule.width}>"

    def _first(self, index: Affine) -> str:
        """The place of the first point's element."""
        return self.context.index(index, names={self.context.kernel.grid - 1: "first"})

    def load(self) -> None:
        """Load what the points read, and declare what they will write."""
        width, line = self.context.schedule.width, self.context.text.line
        for (operand, index), name in self.loaded.items():
            line(f"const {self._kind(operand)} {name} = ng_load<{width}>(p{operand} + {self._first(index)});")
        for (operand, _), name in self.stored.items():
            line(f"{self._kind(operand)} {name};")

    def store(self) -> None:
        """Store what the points wrote."""
        for (operand, index), name in self.stored.items():
            self.context.text.line(f"ng_store(p{operand} + {self._first(index)}, {name});")
