"""Comments of exported files: the user's lines behind a function, and what lives where in the arena."""

from __future__ import annotations

import linecache
from collections.abc import Iterable

from nagraph.analysis.origin import places_of
from nagraph.ir.graph import Node
from nagraph.plan.arena_report import ArenaReport
from nagraph.plan.plan import Plan

#: Lines of code that a comment has; characters of one.
MOST, WIDEST = 8, 110


def safe(text: str) -> str:
    """A text that is no end and no beginning of a comment, no trigraph, and no continuation of its line."""
    plain = "".join(ch if ch.isprintable() else " " for ch in text)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").replace("\\", "|" if plain.endswith("\\") else "\\")


def comment(lines: Iterable[str]) -> str:
    """A comment of several lines."""
    return "/* " + "\n   ".join(map(safe, lines)) + " */"


def user_lines(nodes: Iterable[Node | None]) -> list[str]:
    """The lines of code that nodes came from, with what they say where their file is at hand."""
    places = list(dict.fromkeys(place for node in nodes if node is not None for place in places_of(node)))
    found = []
    for place in places[:MOST]:
        code = linecache.getline(place.file, place.line).strip()
        shown = code if len(code) <= WIDEST else f"{code[:WIDEST - 4]} ..."
        found.append(f"{place}  {shown}".rstrip())
    return [*found, *([f"and {len(places) - MOST} more lines"] if len(places) > MOST else [])]


def arena_map(plan: Plan) -> list[str]:
    """What lives where in the arena, in the order of its bytes, and when."""
    report = ArenaReport.of(plan)
    rows = [f"Arena of {report.arena_bytes:,} bytes; no less than {report.lower_bound:,} will do, which live at one time. Steps are "
            "numbered as they come.", f"{'bytes':>24}  {'steps':>9}  value"]
    for b in sorted(report.buffers, key=lambda b: (b.offset, b.first)):
        then = f", and {b.reused} more in its place" if b.reused else ""
        place, steps = f"{b.offset:,} to {max(b.offset, b.end - 1):,}", f"{b.first}-{b.last}"
        rows.append(f"{place:>24}  {steps:>9}  {b.value}: {b.type} of {b.op}{then}")
    return rows
