"""Text: lines of C with their indentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

#: A line that makes one constant; a name in C.
_CONSTANT = re.compile(r"\s*const \w+ (\w+) = ((?:(?! = ).)*);")
_NAME = re.compile(r"[A-Za-z_]\w*")


class Text:
    """A text grows line by line. What one writes inside of `block` is indented and stands in braces."""

    def __init__(self, indent: int = 0, letter: str = "x") -> None:
        """letter: that with which the names begin that it gives."""
        self.lines: list[str] = []
        self._letter = letter
        self._indent = indent
        self._count = 0

    def line(self, line: str) -> None:
        self.lines.append("  " * self._indent + line)

    def fresh(self) -> str:
        """A name that the text does not have yet."""
        self._count += 1
        return f"{self._letter}{self._count}"

    @contextmanager
    def block(self, head: str = "", after: str = "") -> Iterator[None]:
        """What is written inside stands in braces behind `head`."""
        self.line(f"{head} {{" if head else "{")
        self._indent += 1
        yield
        self._indent -= 1
        self.line(f"}}{after}")

    def __str__(self) -> str:
        return "\n".join(self.lines)


def tidy(text: str) -> str:
    """The text without constants that no later line names."""
    kept, named = list[str](), set[str]()
    for line in reversed(text.split("\n")):
        constant = _CONSTANT.fullmatch(line)
        if constant is None:
            named.update(_NAME.findall(line))
        elif constant[1] in named:
            named.remove(constant[1])
            named.update(_NAME.findall(constant[2]))
        else:
            continue
        kept.append(line)
    return "\n".join(reversed(kept))
