"""The body of a stage at one point: its instructions as variables, each made when it is first asked for."""

from __future__ import annotations

from nagraph.backends.gpu.products.block_form import Dims
from nagraph.backends.gpu.products.emission.unit import Unit, atom_text
from nagraph.c_text.words import Literal
from nagraph.ir.scalar import I64, Scalar
from nagraph.ir.types import BOOL, DType
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Apply, Load, Number, Position, Read, Within


class Body:
    """The values of a stage at a point, whose flat places along the stage's rows, columns and reduced axes are given as text."""

    def __init__(self, unit: Unit, number: int, rows: str, columns: str, reduced: str = "0"):
        self.unit, self.number, self.stage = unit, number, unit.kernel.stages[number]
        self.flat = {"rows": rows, "columns": columns, "reduced": reduced}
        self._place = dict(unit.at)
        self._values: dict[int, Scalar] = {}

    @classmethod
    def at_every_point(cls, unit: Unit, number: int, dims: Dims, rows: str, columns: str) -> Body:
        """The body where something is written at every point: `dims` are the axes of that (`block_form.space`)."""
        own = unit.form.dims[number]
        if len(dims.columns) == len(own.columns):
            return cls(unit, number, rows, columns)
        if not own.columns:
            return cls(unit, number, rows, "0", columns)
        terms = unit.extent(own.reduced)
        return cls(unit, number, rows, f"{atom_text(columns)} / {terms}", f"{atom_text(columns)} % {terms}")

    def place(self, axis: int) -> str:
        """Where the point is along an axis."""
        if axis not in self._place:
            dims = self.unit.form.dims[self.number]
            name = next(n for n in Dims._fields if axis in getattr(dims, n))
            axes, text = getattr(dims, name), atom_text(self.flat[name])
            at = axes.index(axis)
            inner = self.unit.extent(axes[at + 1:])
            if inner > 1:
                text = f"{text} / {inner}"
            if at:
                text = f"{text} % {self.unit.kernel.axes[axis]}"
            self._place[axis] = self._int(text) if len(axes) > 1 else text
        return self._place[axis]

    def _int(self, text: str) -> str:
        name = self.unit.text.fresh()
        self.unit.text.line(f"const int {name} = {text};")
        return name

    def index(self, x: Affine) -> str:
        """The text of an affine expression."""
        place = {a: self.place(a) if a >= 0 else self.value(-1 - a).raw for a, _ in x.terms}
        return self.unit.index(x, place)

    def value(self, n: int) -> Scalar:
        """The value of an instruction."""
        if n not in self._values:
            self._values[n] = self._instruction(n)
        return self._values[n]

    def _instruction(self, n: int) -> Scalar:
        i, s = self.stage.body[n], self.unit.s
        match i:
            case Number():
                return s.constant(i.value, i.dtype)
            case Position(index=index):
                return s.define(I64, self.index(index))
            case Within():
                return self._within(i)
            case Load(operand=operand, index=index, mask=mask):
                return self._element(i.dtype, f"p{operand}[{self.index(index)}]", mask)
            case Read(mask=mask):
                return self._element(i.dtype, self.address(i), mask)
            case Apply(op=op, arguments=arguments):
                text = self.unit.functions.apply(op, [self.value(a) for a in arguments], i.dtype)
                return Scalar(s, i.dtype, text) if isinstance(text, Literal) or text.isidentifier() else s.define(i.dtype, text)
        raise AssertionError(i)

    def _within(self, i: Within) -> Scalar:
        place = self.index(i.index)
        name = self.unit.text.fresh()
        self.unit.text.line(f"const i64 {name} = {place};")
        text = f"{name} >= 0 && {name} < {i.size}"
        if i.step > 1:
            text += f" && {name} % {i.step} == 0"
        if i.also is not None:
            text = f"{self.value(i.also).raw} && {text}"
        return self.unit.s.define(BOOL, text)

    def address(self, i: Read) -> str:
        """The element of shared memory that is read."""
        unit = self.unit
        storage, found = unit.storages[i.tile], unit.form.match(self.number, i.index, i.tile)
        row = self.flat["rows"] if unit.form.rows else "0"
        if found is None:
            return storage.at(row, self.index(i.index))
        row = self.flat[found["rows"]] if "rows" in found else row
        return storage.at(row, self.flat[found["columns"]] if "columns" in found else "0")

    def _element(self, dtype: DType, element: str, mask: int | None) -> Scalar:
        s = self.unit.s
        text = f"{element} != 0" if dtype == BOOL else element
        if mask is not None:
            text = f"{self.value(mask).raw} ? {text} : {s.constant(0, dtype).raw}"
        return s.define(dtype, text)
