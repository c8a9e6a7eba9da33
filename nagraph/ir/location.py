"""Where in the user's code a node came from."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache
from types import FrameType

import numpy as np

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_ROOT = os.path.dirname(_PACKAGE)
_HIDDEN = tuple(
    os.path.join(folder, "")
    for folder in (_PACKAGE, os.path.join(_ROOT, "passes"), os.path.join(_ROOT, "backends"),
                   os.path.dirname(os.path.abspath(np.__file__)))
)
#: Models are written with the public API alone, so their lines are the ones that a reader wants to see.
_SHOWN = tuple(os.path.join(folder, "models", "") for folder in (_PACKAGE, _ROOT))


@dataclass(frozen=True, slots=True)
class Location:
    """A line of source; printed as `file.py:12`."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


@cache
def is_internal(filename: str) -> bool:
    """Whether a file belongs to nagraph or NumPy rather than to the user."""
    if filename.startswith(_SHOWN):
        return False
    return filename.startswith(_HIDDEN) or filename.startswith("<frozen") or filename.endswith("functools.py")


def caller_location() -> Location | None:
    """The innermost line on the stack that is the user's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not is_internal(code.co_filename):
            return Location(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back
    return None
