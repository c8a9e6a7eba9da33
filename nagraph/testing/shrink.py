"""Shrinking: from a program with a fault to the smallest one found that has the same fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from nagraph.ir.types import SHORT_NAMES
from nagraph.testing.oracle import Oracle, Undetermined, run
from nagraph.testing.program import Input, Program, Statement


def shrink(program: Program, fails: Callable[[Program], bool], most: int = 600) -> Program:
    """The smallest program found for which `fails` is true, after at most `most` trials; it is true for `program`.

    Steps, each as long as it helps: one output; an earlier value as the output; smaller sizes; a statement replaced by one of
    its operands, or by an argument of its type; plainer arguments.
    """
    left = most
    improved = True
    while improved and left > 0:
        improved = False
        for candidate in _smaller(program):
            candidate = candidate.needed()
            if left <= 0 or _measure(candidate) >= _measure(program):
                continue
            left -= 1
            try:
                if fails(candidate):
                    program, improved = candidate, True
                    break
            except Undetermined:
                continue
    return program


def _measure(program: Program) -> tuple[int, ...]:
    """What shrinking makes smaller, the most important first."""
    text = sum(len(s.text) for s in program.statements)
    inputs = program.inputs
    odd = sum(i.order != "C" for i in inputs) + sum(not i.plain for i in inputs) + sum(i.dtype not in ("f32", "f64") for i in inputs)
    return (len(program.statements), len(program.outputs), len(inputs), sum(program.sizes.values()), _numbers(program), odd, text)


def _numbers(program: Program) -> int:
    """The sizes that shapes of arguments name, added up."""
    return sum(int(number) for i in program.inputs for number in re.findall(r"\d+", i.shape))


def _smaller(program: Program) -> Iterator[Program]:
    """Candidates, the boldest first."""
    for name in program.outputs:
        if len(program.outputs) > 1:
            yield replace(program, outputs=(name,))
    statements = program.statements
    for s in statements[:-1]:
        yield replace(program, outputs=(s.name,))
    for name, size in program.sizes.items():
        for less in (1, 2, 3, 7, size // 2, size - 1):
            if 0 < less < size:
                yield replace(program, sizes={**program.sizes, name: less})
    try:
        oracle = run(program)
    except Undetermined:
        return
    for s in reversed(statements):
        yield from _without(program, s, oracle)
    for i in program.inputs:
        yield from _plainer(program, i, oracle)
    for s in statements:
        for inner in _simpler_texts(s.text):
            yield program.with_step(s, replace(s, text=inner))


def _without(program: Program, statement: Statement, oracle: Oracle) -> Iterator[Program]:
    """The program in which readers of a statement read one of its operands, or a new argument of its type."""
    for operand in dict.fromkeys(statement.operands):
        yield program.with_step(statement, None).renamed(statement.name, operand)
    value = oracle.native[statement.name]
    if value.size <= 1 << 20:
        fresh = Input(statement.name, str(value.shape), SHORT_NAMES[value.dtype])
        yield program.with_step(statement, fresh)


def _plainer(program: Program, i: Input, oracle: Oracle) -> Iterator[Program]:
    if i.order != "C":
        yield program.with_step(i, replace(i, order="C"))
    if not i.plain:
        yield program.with_step(i, replace(i, plain=True))
    for dtype in ("f64", "f32"):
        if i.dtype not in ("f64", "f32"):
            yield program.with_step(i, replace(i, dtype=dtype))
    shape = oracle.native[i.name].shape
    literal = str(shape)
    if i.shape != literal:
        yield program.with_step(i, replace(i, shape=literal))
    for axis, size in enumerate(shape):
        for less in dict.fromkeys((1, 2, 3, size // 2, size - 1)):
            if 0 < less < size:
                yield program.with_step(i, replace(i, shape=str((*shape[:axis], less, *shape[axis + 1:]))))


def _simpler_texts(text: str) -> Iterator[str]:
    """The text with a body of a function replaced by a part of it in brackets."""
    for start in (n for n, c in enumerate(text) if c == "("):
        depth = 0
        for end in range(start, len(text)):
            depth += (text[end] == "(") - (text[end] == ")")
            if depth == 0:
                inner = text[start:end + 1]
                if text[:start].endswith(("lambda u: ", "lambda v: ")):
                    break
                head = max(text.rfind(": ", 0, start), text.rfind("(", 0, start)) + 1
                if head and len(inner) > 4 and text[start - 1:start] != " ":
                    yield text[:head] + " " * (text[head - 1] == ":") + inner + text[end + 1:]
                break
