"""The values of a stage as C: a variable each, or, what is wanted once, an expression inside of another."""

from __future__ import annotations

from collections import defaultdict

from nagraph.c_text.places import within_text
from nagraph.c_text.words import Literal
from nagraph.export.to_c.context import KernelContext
from nagraph.export.to_c.expressions import bare, inside, is_atom
from nagraph.ir.scalar import Scalar
from nagraph.ir.types import BOOL, DType
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Apply, Instruction, Load, Number, Position, Read, Running, Stage, Within
from nagraph.kernel.levels import levels, waiting

#: Characters of an expression that stands inside of another.
LONGEST = 60


class StageValues:
    """The values of a stage, by the numbers of its instructions."""

    def __init__(self, context: KernelContext, stage: Stage):
        self.context, self.stage, self.s = context, stage, context.scalars
        depth = {a: 1 if a in stage.kept else 2 for a in stage.loops}
        self.levels, self.waits = levels(stage, depth, 2), waiting(stage)
        self.values: dict[int, Scalar] = {}
        #: How many loops are open at each level.
        self._open = (0, len(stage.kept), len(stage.loops))
        self._uses = self._count_uses()

    def compute(self, level: int) -> None:
        """Write the instructions of a level: 0 outside of the stage's loops, 1 where results are kept apart, 2 where they are folded."""
        for n, i in enumerate(self.stage.body):
            if self.levels[n] == level and not self.waits[n]:
                self._write(n, i)

    def compute_running(self, states: list[tuple[Scalar, ...]]) -> None:
        """Write the instructions that need the states of running folds."""
        for n, i in enumerate(self.stage.body):
            if self.waits[n] and isinstance(i, Running):
                self.values[n] = states[i.fold][0]
            elif self.waits[n]:
                self._write(n, i)

    def index(self, index: Affine) -> str:
        """An affine expression in C."""
        return self.context.index(index, self.values)

    def element(self, pointer: str, index: Affine, dtype: DType) -> str:
        """An element of memory, as a value."""
        element = f"{pointer}[{self.index(index)}]"
        return f"{element} != 0" if dtype == BOOL else element

    def variable(self, n: int) -> Scalar:
        """A value as a variable or a constant, made now if it is an expression."""
        x = self.values[n]
        if not isinstance(x.raw, Literal) and not x.raw.isidentifier():
            self.values[n] = x = self._named(n, x.dtype, bare(x.raw))
        return x

    # -- one instruction --------------------------------------------------------------------------------------

    def _count_uses(self) -> dict[int, list[int]]:
        """For each instruction, in how many loops it is wanted, once for each time."""
        stage, found = self.stage, defaultdict(list)
        for n, i in enumerate(stage.body):
            for m in _wanted(i):
                found[m].append(self._open[self.levels[n]])
        for f in stage.folds:
            for m in (*f.values, *(-1 - a for a, _ in f.index.terms if a < 0)):
                found[m].append(len(stage.loops))
        for r in (*stage.writes, *stage.stores):
            for m in (r.value, *(-1 - a for a, _ in r.index.terms if a < 0)):
                found[m].append(len(stage.loops))
        return found

    def _write(self, n: int, i: Instruction) -> None:
        if isinstance(i, Number):
            self.values[n] = self.s.constant(i.value, i.dtype)
            return
        expression = self._expression(i)
        if isinstance(expression, Literal) or (expression.isidentifier() and not isinstance(i, Position)):
            self.values[n] = Scalar(self.s, i.dtype, expression)
        elif self._may_stand_inside(n, i, expression):
            self.values[n] = Scalar(self.s, i.dtype, inside(expression))
        elif self._uses[n]:
            self.values[n] = self._named(n, i.dtype, expression)

    def _named(self, n: int, dtype: DType, expression: str) -> Scalar:
        name = self.context.fresh()
        self.context.text.line(f"const {self.s.words.type(dtype)} {name} = {expression};")
        return Scalar(self.s, dtype, name)

    def _may_stand_inside(self, n: int, i: Instruction, expression: str) -> bool:
        """Whether an expression is wanted once, where it is written; and whether C does not compute it in a wider type there."""
        once = self._uses[n] == [self._open[self.levels[n]]] and len(expression) <= LONGEST
        if i.dtype == BOOL:
            return once and "(" not in expression
        return once and (i.dtype.itemsize >= 4 or is_atom(expression))

    def _expression(self, i: Instruction) -> str:
        match i:
            case Position(index=index):
                return self.index(index)
            case Within(index=index):
                also = str(self.values[i.also].raw) if i.also is not None else ""
                return within_text(i, self.index(index), self.context.kernel.axes, also)
            case Load(operand=operand, index=index):
                return self._masked(i.mask, i.dtype, self.element(self.context.operands[operand], index, i.dtype))
            case Read(tile=tile, index=index):
                name = self.context.tiles[tile]
                return self._masked(i.mask, i.dtype, name if self.context.is_variable(tile) else self.element(name, index, i.dtype))
            case Apply():
                return self._applied(i)
        raise AssertionError(i)

    def _applied(self, i: Apply) -> str:
        """What an op is of its arguments. An argument that it wants more than once is a variable."""
        text = self.context.functions.apply(i.op, [self.values[a] for a in i.arguments], i.dtype)
        again = False
        for a in i.arguments:
            x = self.values[a].raw
            if not isinstance(x, Literal) and not x.isidentifier() and text.count(x) != 1:
                self.variable(a)
                again = True
        return self.context.functions.apply(i.op, [self.values[a] for a in i.arguments], i.dtype) if again else text

    def _masked(self, mask: int | None, dtype: DType, element: str) -> str:
        if mask is None:
            return element
        return f"{self.values[mask].raw} ? {element} : {self.s.constant(0, dtype).raw}"


def _wanted(i: Instruction) -> list[int]:
    """The instructions whose values an instruction wants, as often as it does."""
    if isinstance(i, Apply):
        return list(i.arguments)
    found = [-1 - a for a, _ in i.index.terms if a < 0] if not isinstance(i, (Number, Running)) else []
    return found + [m for m in (getattr(i, "mask", None), getattr(i, "also", None)) if m is not None]
