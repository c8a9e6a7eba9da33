"""The text of schedules, read back: `parse(str(schedule)) == schedule`; and of several, each under the name of its kernel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nagraph.errors import ParseError
from nagraph.schedule.form import How, Lanes, Loops, Points, Product, Rows, Schedule, Split, Stored, Tiles, Units

#: For each field of a schedule, what its lines say, and what each makes of the numbers in it.
_UNITS = {
    r"(\d+) points in lanes": lambda n: Lanes(n),
    r"tiles of (\d+) along a(\d+), transposed": lambda n, a: Tiles(a, n),
    r"points": lambda: Points(),
    r"points, (\d+) rows at a time": lambda n: Points(n),
    r"blocks of (\d+) rows( of a triangle)?": lambda n, held: Rows(n, 0, bool(held)),
    r"blocks of (\d+) rows and (\d+) columns( of a triangle)?": lambda n, m, held: Rows(n, m, bool(held)),
}
_HOW = {
    r"element by element": lambda: Loops(),
    r"(\d+) lanes along a(\d+)(?:, cut at (\d+(?:, \d+)*))?": lambda n, a, cuts: Loops(a, n, _numbers(cuts)),
    r"product, register tiles of (\d+) rows by (\d+) vectors, blocks of (\d+) rows(, unpacked)?":
        lambda r, v, b, unpacked: Product(r, v, b, not unpacked),
    r"stored by its product": lambda: Stored(),
}
_SPLIT = {
    r"a(\d+) in parts of (\d+)(, one row)?": lambda a, n, row: Split(a, n, bool(row)),
    r"one row": lambda: Split(0, 0, True),
}
_PREFETCH = {r"(p\d+(?:, p\d+)*)(?: during stage (\d+))?": lambda operands, stage: (_numbers(operands), stage)}
_CHUNK = {r"(\d+)": lambda n: n}
#: No number of a schedule is longer than this: it fits 64 bits.
_DIGITS = 18
_LINE = re.compile(r"\s*(?P<key>split|units|chunk|prefetch|stage (?P<stage>\d+))\s*:\s*(?P<rest>.*?)\s*")


def parse(text: str) -> Schedule:
    """The schedule of a text; ParseError if it is none."""
    found = _blocks(text)
    if [name for name, _ in found] != [""]:
        raise ParseError("one schedule is wanted, with a line for each of its fields, as in:\nschedule {\n  units: points\n  chunk: 4\n}")
    return found[0][1]


def parse_all(text: str) -> dict[str, Schedule]:
    """The schedules of a text by the names of kernels, each of which stands before its schedule; ParseError if that is not what it says."""
    found: dict[str, Schedule] = {}
    for name, schedule in _blocks(text):
        if not name or name in found:
            raise ParseError(f"the kernel {name} has two schedules" if name else "the name of a kernel stands before its schedule")
        found[name] = schedule
    return found


def format_all(schedules: Mapping[str, Any]) -> str:
    """Schedules by the names of kernels, as `parse_all` reads them."""
    return "\n\n".join(f"{name} {schedule}" for name, schedule in schedules.items())


def _blocks(text: str) -> list[tuple[str, Schedule]]:
    found: list[tuple[str, Schedule]] = []
    name, fields = "", None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("//")[0].strip()
        if not line:
            continue
        if fields is None:
            start = re.fullmatch(r"(?:(\S+)\s+)?schedule\s*\{", line)
            if start is None:
                raise ParseError(f"line {number}: expected the name of a kernel and 'schedule {{', found {line!r}")
            name, fields = start[1] or "", {}
        elif line == "}":
            found.append((name, _made(fields, number)))
            fields = None
        else:
            _read(fields, line, number)
    if fields is not None:
        raise ParseError("the text ends before its last '}'")
    return found


def _read(fields: dict[Any, Any], line: str, number: int) -> None:
    """Add what one line says."""
    if re.search(rf"\d{{{_DIGITS + 1}}}", line):
        raise ParseError(f"line {number}: a number has at most {_DIGITS} digits, found {line!r:.80}")
    match = _LINE.fullmatch(line)
    if match is None:
        raise ParseError(f"line {number}: expected split, units, chunk, prefetch or a stage, found {line!r}")
    key: Any = int(match["stage"]) if match["stage"] else match["key"]
    if key in fields:
        raise ParseError(f"line {number}: {match['key']} is said twice")
    forms: dict[str, Any] = _HOW if match["stage"] else {"units": _UNITS, "chunk": _CHUNK, "split": _SPLIT, "prefetch": _PREFETCH}[key]
    for pattern, make in forms.items():
        said = re.fullmatch(pattern, match["rest"])
        if said is not None:
            fields[key] = make(*(int(g) if g and g.isdigit() else g for g in said.groups()))
            return
    shown = ", or ".join(repr(re.sub(r"\(\\d\+\)", "8", p)) for p in forms)
    raise ParseError(f"line {number}: {match['key']} reads like {shown}; found {match['rest']!r}")


def _made(fields: dict[Any, Any], number: int) -> Schedule:
    units: Units | None = fields.pop("units", None)
    if units is None or "chunk" not in fields:
        raise ParseError(f"line {number}: a schedule says its units and its chunk")
    chunk, split = fields.pop("chunk"), fields.pop("split", None)
    prefetch, during = fields.pop("prefetch", ((), None))
    if sorted(fields) != list(range(len(fields))):
        raise ParseError(f"line {number}: stages are numbered from 0, without a gap; found {', '.join(map(str, sorted(fields)))}")
    stages: tuple[How, ...] = tuple(fields[n] for n in range(len(fields)))
    return Schedule(units, chunk, stages, split, prefetch, during)


def _numbers(text: Any) -> tuple[int, ...]:
    """The numbers in a list such as "16, 48" or "p0, p3"."""
    return tuple(int(n) for n in re.findall(r"\d+", str(text))) if text is not None else ()
