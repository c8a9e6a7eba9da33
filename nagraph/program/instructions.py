"""Instructions of a program: what every thread does, one after another, over a table of pointers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nagraph.ir.graph import Node
from nagraph.ir.types import TensorType
from nagraph.kernel.form import Kernel
from nagraph.kernel.layout import StridedLayout
from nagraph.ops.sorting import Argsort, Sort


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


class Tell(NamedTuple):
    """A call of a function of Python with the array of this type at table[slot], on one thread; the others wait.

    What it raises ends the call.
    """

    slot: int
    type: TensorType
    function: Callable[[Any], object]


Instruction = Phase | SetPointer | Swap | Loop | End | Decide | Differ | Jump | Commit | Tell
