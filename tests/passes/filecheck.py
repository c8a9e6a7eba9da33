"""The FileCheck language, as far as the tests need it.

    // RUN: nagraph opt %s -p cse      the passes to run on this file
    // CHECK: text                     a line, after the last one found, holds the text; {{...}} is a regular expression
    // CHECK-NEXT: text                the very next line holds it
    // CHECK-NOT: text                 no line up to the next CHECK holds it
    // CHECK-COUNT-2: text             as many lines hold it, one after another
"""

import pathlib
import re


class Mismatch(AssertionError):
    """A CHECK line that the output does not satisfy."""


def directives(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The passes to run, and the checks in order."""
    run = re.search(r"// RUN: nagraph opt %s -p (\S+)", text)
    if run is None:
        raise Mismatch("the file has no line // RUN: nagraph opt %s -p PASSES")
    checks = re.findall(r"// (CHECK(?:-NOT|-NEXT|-COUNT-\d+)?): ?(.*)", text)
    if not checks:
        raise Mismatch("the file checks nothing")
    return run[1], checks


def pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"\{\{(.*?)\}\}", text.strip())
    return re.compile("".join(p if i % 2 else re.escape(p) for i, p in enumerate(parts)))


def check(output: str, checks: list[tuple[str, str]], name: str) -> None:
    """Raises Mismatch naming the first CHECK line that `output` does not satisfy."""
    lines = output.splitlines()
    at = 0
    forbidden: list[str] = []

    def refuse(stop: int) -> None:
        for text in forbidden:
            for line in lines[at:stop]:
                if pattern(text).search(line):
                    raise Mismatch(f"{name}: CHECK-NOT: {text} is there: {line.strip()}\n{output}")
        forbidden.clear()

    for kind, text in checks:
        if kind == "CHECK-NOT":
            forbidden.append(text)
            continue
        times = int(kind.rsplit("-", 1)[1]) if kind.startswith("CHECK-COUNT") else 1
        for _ in range(times):
            found = next((i for i in range(at, len(lines)) if pattern(text).search(lines[i])), None)
            if found is None or kind == "CHECK-NEXT" and found != at:
                raise Mismatch(f"{name}: {kind}: {text} is not found after line {at}\n{output}")
            refuse(found)
            at = found + 1
    refuse(len(lines))


def files() -> list[pathlib.Path]:
    return sorted((pathlib.Path(__file__).parents[1] / "filecheck").glob("*.ng"))
