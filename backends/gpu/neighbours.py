"""Neighbours: a thread that takes several neighbouring points loads what they read, and stores what they write, by one access each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from nagraph.backends.gpu.context import EmissionContext, Place
from nagraph.ir.scalar import Scalar
from nagraph.kernel.form import Load, Read, Store, Write

Access = Load | Read | Store | Write


def side_by_side(x: object, axis: int, fixed: Collection[int] = ()) -> bool:
    """Whether neighbouring points along an axis access neighbouring elements, all of them. fixed: instructions that do not vary there."""
    if not isinstance(x, (Load, Read, Store, Write)) or (isinstance(x, Store) and x.combine is not None):
        return False
    if isinstance(x, (Load, Read)) and x.mask is not None:
        return False
    return all(a >= 0 or -1 - a in fixed for a, _ in x.index.terms) and x.index.coefficient(axis) == 1


class Packs:
    """The packs of `width` neighbouring points along an axis, of which the first is at `first`.

    What they read is loaded before they are computed, and what they write is stored afterwards. values: of instructions that do not vary
    along the axis, which are computed already.
    """

    def __init__(self, context: EmissionContext, accesses: Iterable[object], axis: int, width: int,
                 values: Mapping[int, Scalar] = MappingProxyType({})):
        self.context, self.axis, self.width, self.values = context, axis, width, values
        found = [x for x in accesses if side_by_side(x, axis, values)]
        #: By place, the name of the pack.
        self.loaded = self._named("w", [x for x in found if isinstance(x, (Load, Read))])
        self.stored = self._named("r", [x for x in found if isinstance(x, (Store, Write))])

    def _named(self, letter: str, accesses: list[Access]) -> dict[Place, str]:
        places = dict.fromkeys(place for x in accesses if (place := place_of(x)) and not self._is_variable(place))
        return {place: f"{letter}{n}" for n, place in enumerate(places)}

    def _is_variable(self, place: Place) -> bool:
        return place[0] == "t" and self.context.is_variable(place[1])

    def _kind(self, place: Place) -> str:
        kernel = self.context.kernel
        dtype = kernel.operands[place[1]] if place[0] == "p" else kernel.tiles[place[1]].dtype
        return f"ng_pack<{self.context.dialect.memory_type(dtype)}, {self.width}>"

    def _address(self, place: Place) -> str:
        """The address of the first point's element."""
        return f"{place[0]}{place[1]} + {self.context.index(place[2], self.values, {self.axis: 'first'})}"

    @contextmanager
    def loop(self) -> Iterator[None]:
        """Load what the points read, then the loop over them; what they write is in packs after it."""
        context, line = self.context, self.context.text.line
        for place, name in self.loaded.items():
            kind, loaded = self._kind(place), f"ng_load<{self.width}>({self._address(place)})"
            line(f"const {kind} {name} = {f'active ? {loaded} : {kind}{{}}' if context.partial and place[0] == 'p' else loaded};")
        for place, name in self.stored.items():
            line(f"{self._kind(place)} {name};")
        before = context.loaded, context.stored
        context.loaded, context.stored = ({place: f"{name}.at[k]" for place, name in x.items()} for x in (self.loaded, self.stored))
        line(context.dialect.unrolled)
        with context.text.block(f"for (int k = 0; k < {self.width}; ++k)"):
            line(f"const {context.kind(self.axis)} a{self.axis} = first + k;")
            yield
        context.loaded, context.stored = before

    def store(self, letter: str) -> None:
        """Store what the points wrote into operands, "p", or into tiles, "t"."""
        for place, name in self.stored.items():
            if place[0] == letter:
                self.context.text.line(f"ng_store({self._address(place)}, {name});")

    def letters(self) -> set[str]:
        """What the points write into: operands, "p", and tiles, "t"."""
        return {place[0] for place in self.stored}


def place_of(x: Access) -> Place:
    """Which element of what an access reaches."""
    return ("p", x.operand, x.index) if isinstance(x, (Load, Store)) else ("t", x.tile, x.index)
