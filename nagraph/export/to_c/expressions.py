"""Expressions of C: which of them stand in another without parentheses, and how statements are shortened as people do."""

from __future__ import annotations

import re

_ATOM = re.compile(r"[\w.]+(\[[^\[\]]*\])?")


def closes(text: str, at: int) -> int:
    """Where the parenthesis or bracket that opens at a position closes."""
    depth = 0
    for n in range(at, len(text)):
        depth += (text[n] in "([") - (text[n] in ")]")
        if not depth:
            return n
    raise AssertionError(text)


def is_atom(text: str) -> bool:
    """Whether an expression is a name, a constant, an element, a call, or in parentheses."""
    if _ATOM.fullmatch(text):
        return True
    start = re.match(r"\w*[(\[]", text)
    return start is not None and closes(text, start.end() - 1) == len(text) - 1


def inside(text: str) -> str:
    """An expression as an operand of another."""
    return text if is_atom(text) else f"({text})"


def bare(text: str) -> str:
    """An expression that stands alone, without parentheses around it."""
    return text[1:-1] if text.startswith("(") and closes(text, 0) == len(text) - 1 else text


def plain(line: str) -> str:
    """A line without parentheses around what is a whole argument of a call."""
    at = 0
    while at < len(line):
        if line[at] == "(" and (line[:at].endswith(", ") or re.search(r"\w\($", line[:at])):
            end = closes(line, at)
            if line[end + 1:end + 2] in (",", ")") and not re.search(r"\b(if|for|while)\($", line[:at]):
                line = line[:at] + line[at + 1:end] + line[end + 1:]
                continue
        at += 1
    return line


def assignment(target: str, expression: str) -> str:
    """The statement target = expression: `target += rest` where it is that."""
    for symbol in "+*":
        begin = f"{target} {symbol} "
        rest = expression.removeprefix(begin)
        if rest != expression and is_atom(rest):
            return f"{target} {symbol}= {bare(rest)};"
    return f"{target} = {bare(expression)};"
