"""Support: of the functions in `support.c`, those that a file calls."""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Iterable
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z_]\w*")
_DEFINED = re.compile(r"^static [\w ]+?\**(\w+)\(", re.MULTILINE)


class Part(NamedTuple):
    """A part of the support file: its text, the functions that it defines, and the names that it mentions."""

    text: str
    defines: tuple[str, ...]
    mentions: frozenset[str]


@functools.cache
def parts() -> tuple[Part, ...]:
    """The parts of the support file, in its order: what stands between empty lines that are in no `#if`."""
    text = pathlib.Path(__file__).with_name("support.c").read_text(encoding="utf-8")
    found, lines, depth = list[str](), list[str](), 0
    for line in [*text.split("\n"), ""]:
        depth += line.startswith("#if")
        depth -= line.startswith("#endif")
        if line or depth:
            lines.append(line)
        elif lines:
            found.append("\n".join(lines))
            lines = []
    return tuple(Part(t, tuple(_DEFINED.findall(t)), frozenset(_NAME.findall(t))) for t in found[1:])  # the first is what the file is


def needed(text: str) -> list[str]:
    """The texts of the parts that a text calls, and that these call, in their order."""
    wanted, found = set(_NAME.findall(text)), set[int]()
    for n in reversed(range(len(parts()))):  # no part calls a later one
        part = parts()[n]
        if wanted & {*part.defines}:
            found.add(n)
            wanted |= part.mentions
    return [parts()[n].text for n in sorted(found)]


def names() -> Iterable[str]:
    """The names of all that the support file defines."""
    return (name for part in parts() for name in part.defines)
