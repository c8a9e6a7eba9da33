"""The text of GPU schedules, of points and of blocks of rows, read back: `parse(str(schedule)) == schedule`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from nagraph.backends.gpu.products.form import BlockLoops, BlockSchedule, ProductTile
from nagraph.backends.gpu.schedule import REGISTERS, SCRATCH, SHARED, GpuSchedule, InOrder, Owned, Spread
from nagraph.backends.gpu.verify import check
from nagraph.errors import ParseError
from nagraph.schedule.overrides import ScheduleForm

_BLOCK = {
    r"(\d+) points, (\d+) threads each(, apart)?": lambda points, threads, apart: (threads, points, 1, bool(apart), None),
    r"(\d+) points, a thread for (\d+)(?:, transposed along a(\d+))?":
        lambda points, width, axis: (1, points // max(width, 1), width, False, axis),
    r"(\d+) points, a thread each": lambda points: (1, points, 1, False, None),
    r"(\d+) rows(?: and (\d+) columns)?, (\d+) threads": lambda rows, columns, threads: _Rows(rows, columns or 0, threads),
}
_HOW = {
    r"spread(?:, (\d+) threads a fold)?(?:, (\d+) points at a time)?": lambda lanes, width: Spread(lanes or 1, width or 1),
    r"owned": lambda: Owned(),
    r"in order": lambda: InOrder(),
    r"loops": lambda: BlockLoops(),
    r"product, tiles of (\d+) rows by (\d+) columns, (\d+) terms at a time, (\d+) by (\d+) a (?:thread|warp), (\w+)": ProductTile,
}
_TILE = {rf"({REGISTERS}|{SHARED}|{SCRATCH})": lambda where: where}
_OTHER = {
    "block": _BLOCK,
    "step": {r"(\d+) at a time": lambda step: step},
    "kept": {r"((?:t\d+(?:, )?)+)": lambda said: tuple(int(t.strip()[1:]) for t in said.split(","))},
}
_LINE = re.compile(r"(block|step|kept|t\d+|stage \d+)\s*:\s*(.*)")
_EXAMPLE = "schedule {\n  block: 8 points, 32 threads each\n  t0: registers\n  stage 0: spread, 32 threads a fold\n}"


class _Rows(NamedTuple):
    """The block of a schedule of rows."""

    rows: int
    columns: int
    threads: int


def parse(text: str) -> GpuSchedule | BlockSchedule:
    """The schedule of a text; ParseError if it is none."""
    lines = [line for raw in text.splitlines() if (line := raw.partition("//")[0].strip())]
    if len(lines) < 3 or not re.fullmatch(r"schedule\s*\{", lines[0]) or lines[-1] != "}":
        raise ParseError(f"a GPU schedule is wanted, with a line for each of its fields, as in:\n{_EXAMPLE}")
    fields: dict[str, Any] = {}
    for line in lines[1:-1]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ParseError(f"expected block, a tile or a stage, found {line!r}")
        key, said = match.groups()
        if key in fields:
            raise ParseError(f"{key} is said twice")
        fields[key] = _read(key, said, _OTHER.get(key, _TILE if key[0] == "t" else _HOW))
    if "block" not in fields:
        raise ParseError("a GPU schedule says its block")
    block = fields.pop("block")
    if isinstance(block, _Rows):
        step, kept = fields.pop("step", 0), fields.pop("kept", ())
        return BlockSchedule(block.rows, block.columns, step, block.threads, kept, _numbered("stage ", fields))
    threads, points, width, apart, transposed = block
    return GpuSchedule(threads, points, width, _numbered("t", fields), _numbered("stage ", fields), apart, transposed)


def parse_all(text: str) -> dict[str, GpuSchedule | BlockSchedule]:
    """The schedules of a text by the names of kernels, each of which stands before its schedule; ParseError if that is not what it says."""
    found: dict[str, GpuSchedule | BlockSchedule] = {}
    bare = "\n".join(line.partition("//")[0] for line in text.splitlines())
    for block in re.split(r"(?<=\})", bare):
        said = re.fullmatch(r"\s*(\S+)\s+(schedule\s*\{[^{}]*\})", block)
        if said is not None and said[1] not in found:
            found[said[1]] = parse(said[2])
        elif block.strip():
            raise ParseError(f"the kernel {said[1]} has two schedules" if said else
                             f"the name of a kernel stands before its schedule, found {block.strip()!r:.200}")
    return found


#: How schedules of GPUs are read and checked where somebody gives them.
FORM = ScheduleForm(GpuSchedule | BlockSchedule, parse, parse_all, check)


def _read(key: str, said: str, forms: dict[str, Callable[..., Any]]) -> Any:
    for pattern, make in forms.items():
        if match := re.fullmatch(pattern, said):
            return make(*(int(g) if g and g.isdigit() else g for g in match.groups()))
    shown = ", or ".join(repr(p.replace(r"(\d+)", "8")) for p in forms)
    raise ParseError(f"{key} reads like {shown}; found {said!r}")


def _numbered(prefix: str, fields: dict[str, Any]) -> tuple[Any, ...]:
    """What is said of tiles or stages, which are numbered from 0 without a gap."""
    said = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    found = {int(number): value for number, value in said.items() if number.isdigit()}
    if sorted(found) != list(range(len(found))):
        raise ParseError(f"tiles and stages are numbered from 0, without a gap; found {prefix}{', '.join(map(str, sorted(found)))}")
    return tuple(found[n] for n in sorted(found))
