"""Listings: what a program asks MLX for, as lines of Python, each node's with the op and the user's line that it comes from."""

from __future__ import annotations

import keyword
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.analysis.origin import label_of
from nagraph.backends.mps.arrays import library, mlx_dtype
from nagraph.backends.mps.program import Branch, Function, LongScan, Opened, Print, Program, Repetition
from nagraph.ir.graph import Node
from nagraph.ir.printer import value_names

Array = Any
#: Where comments begin, and the most elements of a constant that are shown.
COMMENTS, MOST_SHOWN = 88, 8


def listing(program: Program) -> str:
    """The text of a program."""
    names = {v: f"x{n}" if n.isdigit() else n for v, n in value_names(program.graph).items()}
    inputs = [names[v] for v in program.inputs]
    lines = _Lines()
    name = program.graph.name
    head = f"def {name if name.isidentifier() and not keyword.iskeyword(name) else 'call'}({', '.join(inputs)}):"
    lines.add(head, ", ".join(str(v.type) for v in program.inputs))
    results = lines.program(program, inputs, 1)
    lines.add(f"    return {', '.join(results)}")
    return "\n".join(lines.lines)


class _Lines:
    """Lines, and the numbers that names of arrays and constants have come to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def add(self, text: str, comment: str = "") -> None:
        self.lines.append(f"{text:{COMMENTS}}  # {comment}" if comment else text)

    def fresh(self) -> str:
        self.count += 1
        return f"v{self.count - 1}"

    def program(self, program: Program, inputs: Sequence[str], depth: int) -> list[str]:
        """The names of its results."""
        names = dict(zip(program.inputs, inputs))
        for step in program.steps:
            names.update(zip(step.outputs, self.step(step, [names[v] for v in step.inputs], depth)))
        return [names[v] for v in program.outputs]

    def step(self, step: Any, inputs: Sequence[str], depth: int) -> Sequence[str]:
        indent = "    " * depth
        if isinstance(step, Function):
            return self.function(step, inputs, depth)
        about = _about(step.node)
        if isinstance(step, Opened):
            return self.program(step.body, inputs, depth)
        if isinstance(step, Print):
            self.add(f"{indent}print({step.node.op.text!r}, {inputs[0]})", about)
            return inputs
        results = [self.fresh() for _ in step.outputs]
        if isinstance(step, Branch):
            for head, branch in ((f"if {inputs[0]}.item():", step.true), ("else:", step.false)):
                self.add(indent + head, about if branch is step.true else "")
                self.assign(results, self.program(branch, inputs[1:], depth + 1), depth + 1)
            return results
        assert isinstance(step, (LongScan, Repetition))
        op = step.op
        carries = results[:len(inputs) - op.consts] if isinstance(step, Repetition) else results[:op.carries]
        self.assign(carries, inputs[op.consts:op.consts + len(carries)], depth)
        fixed = inputs[:op.consts]
        if isinstance(step, Repetition):
            self.add(f"{indent}while True:" if op.max_steps is None else f"{indent}for _ in range({op.max_steps}):", about)
            (flag,) = self.program(step.condition, [*fixed, *carries], depth + 1)
            self.add(f"{indent}    if not {flag}.item(): break")
            self.assign(carries, self.program(step.body, [*fixed, *carries], depth + 1), depth + 1)
            return results
        self.add(f"{indent}for t in {f'reversed(range({op.length}))' if op.reverse else f'range({op.length})'}:", about)
        rows = [f"{x}[t]" for x in inputs[op.consts + op.carries:]]
        found = self.program(step.body, [*fixed, *carries, *rows], depth + 1)
        self.assign(carries, found[:op.carries], depth + 1)
        self.assign([f"{y}[t]" for y in results[op.carries:]], found[op.carries:], depth + 1)
        return results

    def assign(self, names: Sequence[str], values: Sequence[str], depth: int) -> None:
        if names and list(names) != list(values):
            self.add(f"{'    ' * depth}{', '.join(names)} = {', '.join(values)}")

    def function(self, step: Function, inputs: Sequence[str], depth: int) -> list[str]:
        calls = _CallLines(self, "    " * depth)
        arrays = [library().zeros(v.shape, dtype=mlx_dtype(v.dtype)) for v in step.inputs]
        for array, name in zip(arrays, inputs):
            calls.named(array, name)
        found = step.describe(calls, arrays)
        for verdict in found[len(step.outputs):]:
            self.add(f"{'    ' * depth}check({calls.name(verdict)})")
        return [calls.name(y) for y in found[:len(step.outputs)]]


class _CallLines:
    """What listens to the calls of a function, and writes them down."""

    def __init__(self, lines: _Lines, indent: str):
        self.lines, self.indent, self.comment = lines, indent, ""
        self._names: dict[int, tuple[str, Array]] = {}  # with the array, so that no other one takes its identity

    def named(self, array: Array, name: str) -> None:
        self._names[id(array)] = name, array

    def name(self, array: Array) -> str:
        return self._names[id(array)][0]

    def begin(self, node: Node) -> None:
        self.comment = _about(node)

    def end(self) -> None:
        pass

    def constant(self, array: Array, value: np.ndarray[Any, Any]) -> None:
        if id(array) not in self._names:
            shown = value.tolist() if value.size <= MOST_SHOWN else "..."
            self.named(array, f"mx.array({shown}, mx.{array.dtype!s})".replace("mlx.core.", ""))

    def called(self, name: str, args: tuple[Any, ...], options: dict[str, Any], result: Any) -> None:
        results = result if isinstance(result, (tuple, list)) else [result]
        targets = []
        for y in results:
            self.named(y, self.lines.fresh())
            targets.append(self.name(y))
        self.lines.add(f"{self.indent}{', '.join(targets)} = {self._call(name, args, options)}", self.comment)
        self.comment = ""

    def _call(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> str:
        shown = list(map(self._shown, args))
        if name == "part":
            return f"{shown[0]}[{', '.join(map(_index, args[1]))}]"
        if name == "put_maximum":
            return f"{shown[0]}.at[{shown[1]}].maximum({shown[2]})"
        return f"mx.{name}({', '.join([*shown, *(f'{k}={self._shown(v)}' for k, v in options.items())])})"

    def _shown(self, value: Any) -> str:
        if id(value) in self._names:
            return self.name(value)
        if isinstance(value, (list, tuple)):
            inside = ", ".join(map(self._shown, value))
            return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
        return str(value).replace("mlx.core.", "mx.") if "mlx.core" in str(type(value)) else repr(value)


def _index(part: Any) -> str:
    if part is Ellipsis:
        return "..."
    if isinstance(part, slice):
        text = f"{'' if part.start is None else part.start}:{'' if part.stop is None else part.stop}"
        return text if part.step in (None, 1) else f"{text}:{part.step}"
    return str(part)


def _about(node: Node) -> str:
    return f"{label_of(node)}, {node.location}" if node.location else label_of(node)

