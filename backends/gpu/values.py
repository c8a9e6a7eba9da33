"""The values of a stage: what each of its instructions is as C, where the loops allow it first."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.backends.gpu.context import EmissionContext
from nagraph.backends.gpu.neighbours import place_of
from nagraph.c_text.places import within_text
from nagraph.c_text.words import Literal
from nagraph.ir.scalar import U32, Scalar
from nagraph.ir.types import BOOL, INTEGERS, DType
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Apply, Instruction, Load, Number, Position, Read, Running, Stage, Within
from nagraph.kernel.index_ranges import IndexRanges
from nagraph.kernel.levels import levels, waiting
from nagraph.ops.elementwise import FloorDivide, Remainder


class StageValues:
    """The values of a stage, by the numbers of its instructions: v0, v1, ... in the text as in the kernel's."""

    def __init__(self, context: EmissionContext, stage: Stage, neighbours: int | None = None):
        """neighbours: the axis of the grid along which a loop goes through neighbouring points, if one does."""
        self.context, self.stage = context, stage
        self.s = context.scalars
        depth = {a: 1 if a in stage.kept else 2 for a in stage.loops} | ({} if neighbours is None else {neighbours: 1})
        self.ranges = IndexRanges(context.kernel, stage)
        self.levels, self.waits = levels(stage, depth, 2), waiting(stage)
        self.values: dict[int, Scalar] = {}
        #: What must hold where memory is read, beside a load's own mask: whoever has no point or no result reads nothing, since others may
        #: be writing there.
        self.conditions: list[str] = []
        #: Instructions that were written before their turn.
        self.early: set[int] = set()

    def compute(self, level: int) -> None:
        """Write the instructions that stand at a level: 0 outside of the stage's loops, 1 where results are kept apart, 2 where they are
        folded.
        """
        for n, i in enumerate(self.stage.body):
            if self.levels[n] == level and not self.waits[n] and n not in self.early:
                self._write(n, i)

    def before(self, level: int) -> dict[int, Scalar]:
        """The values that do not vary in the loops of a level."""
        return {n: x for n, x in self.values.items() if self.levels[n] < level}

    def compute_for(self, place: Affine) -> None:
        """Write the instructions in the loops that a place follows from; `compute` then passes over them."""
        wanted, found = [-1 - a for a, _ in place.terms if a < 0], set[int]()
        while wanted:
            n = wanted.pop()
            if n in found:
                continue
            found.add(n)
            i = self.stage.body[n]
            wanted += [] if not isinstance(i, Apply) else i.arguments
            wanted += [m for m in (getattr(i, "mask", None), getattr(i, "also", None)) if m is not None]
            wanted += [-1 - a for a, _ in getattr(i, "index", place).terms if a < 0] if not isinstance(i, (Apply, Number)) else []
        for n in sorted(found):
            if self.levels[n]:
                self._write(n, self.stage.body[n])
                self.early.add(n)

    def compute_running(self, states: list[tuple[Scalar, ...]]) -> None:
        """Write the instructions that need the states of running folds."""
        for n, i in enumerate(self.stage.body):
            if self.waits[n] and isinstance(i, Running):
                self.values[n] = states[i.fold][0]
            elif self.waits[n]:
                self._write(n, i)

    def _write(self, n: int, i: Instruction) -> None:
        if isinstance(i, Number):
            self.values[n] = self.s.constant(i.value, i.dtype)
            return
        expression = self._expression(i)
        if isinstance(expression, Literal) or (isinstance(i, (Apply, Read)) and expression.isidentifier()):
            self.values[n] = Scalar(self.s, i.dtype, expression)
            return
        self.context.text.line(f"const {self.context.dialect.type(i.dtype)} v{n} = {expression};")
        self.values[n] = Scalar(self.s, i.dtype, f"v{n}")

    def _expression(self, i: Instruction) -> str:
        match i:
            case Position(index=index):
                return self.index(index)
            case Within():
                return self._within(i)
            case Load() | Read() if i.mask is None and (loaded := self.context.loaded.get(place_of(i))):
                return self._from_memory(loaded, i.dtype)
            case Load(operand=operand, index=index):
                asked = [*["active"] * self.context.partial, *self.conditions]
                return self._masked(i.mask, i.dtype, self.element(f"p{operand}", index, i.dtype), asked)
            case Read(tile=tile, index=index):
                return self._masked(i.mask, i.dtype, self.of_tile(tile, index))
            case Apply(op=FloorDivide() | Remainder()) if (short := self._short_division(i)):
                return short
            case Apply(op=op, arguments=arguments):
                return self.context.functions.apply(op, [self.values[a] for a in arguments], i.dtype)
        raise AssertionError(i)

    def _short_division(self, i: Apply) -> str:
        """The quotient or rest of integers that 32 bits hold, neither of them negative: which a GPU divides much sooner; "" of others."""
        (low, high), (least, most) = (self.ranges.value(a) for a in i.arguments)
        if i.dtype not in INTEGERS or low < 0 or high >= 1 << 32 or least < 1 or most >= 1 << 32:
            return ""
        x, y = (self.values[a].raw for a in i.arguments)
        divisor = self.s.constant(y.value, U32).raw if isinstance(y, Literal) else f"(u32){y}"
        return f"(u32){x} {'/' if isinstance(i.op, FloorDivide) else '%'} {divisor}"

    def _within(self, i: Within) -> str:
        also = str(self.values[i.also].raw) if i.also is not None else ""
        return within_text(i, self.index(i.index), self.context.kernel.axes, also)

    def _masked(self, mask: int | None, dtype: DType, element: str, asked: Sequence[str] = ()) -> str:
        conditions = [*asked, *([str(self.values[mask].raw)] if mask is not None else [])]
        return f"{' && '.join(conditions)} ? {element} : {self.s.constant(0, dtype).raw}" if conditions else element

    # -- places ---------------------------------------------------------------------------------------------------

    def element(self, pointer: str, index: Affine, dtype: DType) -> str:
        """An element of memory, as a value."""
        return self._from_memory(f"{pointer}[{self.index(index)}]", dtype)

    @staticmethod
    def _from_memory(element: str, dtype: DType) -> str:
        return f"{element} != 0" if dtype == BOOL else element

    def of_tile(self, tile: int, index: Affine) -> str:
        """An element of a tile, as a value."""
        dtype = self.context.kernel.tiles[tile].dtype
        if self.context.is_variable(tile):
            return f"t{tile}"
        return self.element(f"t{tile}", index, dtype)

    def index(self, index: Affine) -> str:
        """An affine expression in C."""
        return self.context.index(index, self.values)
