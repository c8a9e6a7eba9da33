"""Instructions of a program: what every thread does, one after another, over a table of pointers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph.errors import NagraphError, TypeRuleError
from nagraph.ir.graph import Node
from nagraph.ir.location import located
from nagraph.ir.types import TensorType, type_of
from nagraph.kernel.form import Kernel
from nagraph.kernel.layout import StridedLayout
from nagraph.ops.sorting import Argsort, Sort

Array = np.ndarray[Any, Any]


class SortTask(NamedTuple):
    """A sort of rows, which is no kernel: the operand, of this type and layout, goes sorted into its result, or its order does."""

    op: Sort | Argsort
    type: TensorType
    layout: StridedLayout


class Launch(NamedTuple):
    """A call of what the backend made of a kernel.

    slots: the numbers of its operands in the table, of which it writes the last `outputs`. kernel: its kernel form; None for
    a sort. node: what of the graph it computes; None for a copy.
    """

    function: Any
    slots: tuple[int, ...]
    outputs: int
    kernel: Kernel | None
    node: Node | None


class Phase(NamedTuple):
    """A set of launches that don't depend on one another; the next instruction waits for all of them."""

    launches: tuple[Launch, ...]


class SetPointer(NamedTuple):
    """The assignment table[target] = table[source] + offset + step * iteration of the loop `loop`, counted from the end if `reverse`."""

    target: int
    source: int
    offset: int = 0
    step: int = 0
    loop: int = -1
    length: int = 0
    reverse: bool = False


class Swap(NamedTuple):
    """An exchange of two pointers."""

    a: int
    b: int


class Loop(NamedTuple):
    """The beginning of loop number `loop`: `iterations` of what follows up to its `End`."""

    loop: int
    iterations: int


class End(NamedTuple):
    """The end of loop number `loop`."""

    loop: int


class Decide(NamedTuple):
    """A branch: go on if the bool at table[slot] is true, else at instruction `otherwise`."""

    slot: int
    otherwise: int


class Differ(NamedTuple):
    """A branch: go on if table[a] and table[b] are different addresses, else at instruction `otherwise`."""

    a: int
    b: int
    otherwise: int


class Jump(NamedTuple):
    """A jump to instruction `target`."""

    target: int


class Commit(NamedTuple):
    """The point from which on donated arrays are written: the call may not be abandoned any more."""


class HostStep(NamedTuple):
    """A call of the reference of a node's op, on one thread, while the others wait; what it raises ends the call.

    slots: the numbers of the row-major operands in the table, then those of the results. The reference gets copies, which it may keep and
    write to: memory of the program is another value's soon. Its results are copied to their places.
    """

    slots: tuple[int, ...]
    node: Node

    def compute(self, operands: Sequence[Array]) -> list[Array]:
        """The results, row-major, of the types that the graph says. What the op raises is passed on, with the line that asked for it."""
        op, results, location = self.node.op, self.node.results, self.node.location
        try:
            found = op.evaluate(*operands)
        except NagraphError as error:
            raise located(error, location) from None
        except Exception as error:
            note = f"computing {op.name} for {location}"
            if location is not None and note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise
        arrays = [np.asarray(y, order="C") for y in (found if isinstance(found, tuple) else (found,))]
        if [(y.dtype, y.shape) for y in arrays] != [(r.dtype, r.shape) for r in results]:
            wanted, got = (", ".join(map(str, types)) for types in ([r.type for r in results], map(type_of, arrays)))
            raise located(TypeRuleError(f"{op.name}: by its type rule the results are ({wanted}), its reference gave ({got})"), location)
        return arrays

    def __str__(self) -> str:
        """What it computes for which line, and how many bytes are copied for that."""
        there, back = (sum(v.type.nbytes for v in values) for values in (self.node.operands, self.node.results))
        line = f" ({self.node.location})" if self.node.location else ""
        return f"{self.node.op.name} is computed by Python{line}: {there:,} bytes are copied for it, {back:,} bytes back"


Instruction = Phase | SetPointer | Swap | Loop | End | Decide | Differ | Jump | Commit | HostStep
