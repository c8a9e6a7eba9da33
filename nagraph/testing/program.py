"""A program in NumPy style as data: steps that can be run one by one, printed as Python, and taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nagraph.testing.draw import Array, draw


@dataclass(frozen=True)
class Input:
    """An input is an argument of the program: random numbers of a shape, which an expression over sizes and earlier names gives."""

    name: str
    shape: str
    dtype: str
    order: str = "C"
    seed: int = 0
    plain: bool = False

    def draw(self, scope: Mapping[str, Any]) -> Array:
        """The array, where `scope` has the names that the shape mentions."""
        shape = tuple(int(n) for n in eval(self.shape, dict(scope)))
        return draw(shape, self.dtype, self.order, self.seed, self.plain)


@dataclass(frozen=True)
class Statement:
    """A statement is name = text, where {0}, {1}, ... in the text stand for the operands."""

    name: str
    text: str
    operands: tuple[str, ...]

    @property
    def expression(self) -> str:
        return substituted(self.text, self.operands)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value, where `scope` has the operands and what np, ng and the names of dtypes mean."""
        return eval(self.expression, dict(scope))


def substituted(text: str, operands: Iterable[str]) -> str:
    """The text with names in place of {0}, {1}, ...: plain replacement, for the text may hold braces of its own."""
    for number, name in enumerate(operands):
        text = text.replace(hole(number), name)
    return text


def hole(number: int) -> str:
    """How a text writes the operand of this number."""
    return f"{{{number}}}"


Step = Input | Statement


@dataclass(frozen=True)
class Program:
    """A program is steps in order, over named sizes; `outputs` are names of steps.

    The function that it stands for takes the inputs in their order and returns a tuple of the outputs.
    """

    sizes: Mapping[str, int]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    seed: int = 0

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(s for s in self.steps if isinstance(s, Input))

    @property
    def statements(self) -> tuple[Statement, ...]:
        return tuple(s for s in self.steps if isinstance(s, Statement))

    def body(self) -> str:
        """The function as Python text."""
        lines = [f"def f({', '.join(i.name for i in self.inputs)}):"]
        lines += [f"    {s.name} = {s.expression}" for s in self.statements]
        return "\n".join([*lines, f"    return ({', '.join(self.outputs)},)"])

    def function(self, names: Mapping[str, Any]) -> Callable[..., Any]:
        """The function, where `names` says what np, ng and the names of dtypes mean."""
        scope = dict(names)
        exec(compile(self.body(), f"<program {self.seed}>", "exec"), scope)
        made: Callable[..., Any] = scope["f"]
        return made

    def source(self, arrays: Mapping[str, Array]) -> str:
        """A script that runs the program on the same arrays: what a report of a fault holds."""
        lines = ["import numpy as np", "import nagraph as ng", "from nagraph.testing import draw", "from nagraph.testing.names import *"]
        lines += ["", *(f"{name} = {size}" for name, size in self.sizes.items() if name in self.body())]
        for i in self.inputs:
            extra = ", plain=True" if i.plain else f", {i.seed}"
            lines.append(f"{i.name} = draw({arrays[i.name].shape}, {i.dtype!r}, {i.order!r}{extra})")
        call = ", ".join(i.name for i in self.inputs)
        return "\n".join([*lines, "", self.body(), "", f"print(*f({call}), *ng.jit(f)({call}), sep=\"\\n\")"])

    def needed(self) -> Program:
        """The program without the steps that no output depends on."""
        wanted, kept = set(self.outputs), []
        for step in reversed(self.steps):
            if step.name in wanted:
                kept.append(step)
                wanted |= set(step.operands) if isinstance(step, Statement) else {
                    s.name for s in self.steps if s.name in step.shape}
        return replace(self, steps=tuple(reversed(kept)))

    def renamed(self, old: str, new: str) -> Program:
        """The program in which what reads `old` reads `new`."""
        steps = [replace(s, operands=tuple(new if o == old else o for o in s.operands)) if isinstance(s, Statement) else s
                 for s in self.steps]
        return replace(self, steps=tuple(steps), outputs=tuple(new if o == old else o for o in self.outputs))

    def with_step(self, old: Step, new: Step | None) -> Program:
        """The program with one step replaced, or taken away."""
        steps = [new if s is old else s for s in self.steps]
        return replace(self, steps=tuple(s for s in steps if s is not None))
