"""Where in the user's code a node came from, and tracebacks that show that code alone."""

from __future__ import annotations

import bisect
import functools
import os
import sys
from types import CodeType, FrameType, TracebackType
from typing import Any

import numpy as np

from nagraph.errors import NagraphError

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_ROOT = os.path.dirname(_PACKAGE)
_HIDDEN = tuple(
    os.path.join(folder, "")
    for folder in (_PACKAGE, os.path.join(_ROOT, "passes"), os.path.join(_ROOT, "backends"),
                   os.path.dirname(os.path.abspath(np.__file__)))
)
#: Models are written with the public API alone, so their lines are the ones that a reader wants to see.
_SHOWN = tuple(os.path.join(folder, "models", "") for folder in (_PACKAGE, _ROOT))


class Location:
    """A line of source; printed as `file.py:12`. A place in code, whose line is looked up when it is asked for, or a file and a line."""

    __slots__ = ("_code", "_at")

    def __init__(self, code: CodeType | str, at: int):
        """A place in code and the offset of an instruction, or a file and a line of it."""
        self._code, self._at = code, at

    @property
    def file(self) -> str:
        return self._code if isinstance(self._code, str) else self._code.co_filename

    @property
    def line(self) -> int:
        if isinstance(self._code, str):
            return self._at
        firsts, lines = _lines(self._code)
        return lines[bisect.bisect_right(firsts, self._at) - 1] or self._code.co_firstlineno

    @property
    def function(self) -> str:
        return "" if isinstance(self._code, str) else self._code.co_name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Location) and (self.file, self.line, self.function) == (other.file, other.line, other.function)

    def __hash__(self) -> int:
        return hash((self.file, self.line, self.function))

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"

    def __repr__(self) -> str:
        return f"Location({self.file!r}, {self.line})"


@functools.lru_cache(1024)
def _lines(code: CodeType) -> tuple[list[int], list[int | None]]:
    """The offsets from which on the instructions of a code belong to a line, in order, and these lines."""
    spans = list(code.co_lines())
    return [first for first, _, _ in spans], [line for _, _, line in spans]


@functools.cache
def is_internal(filename: str) -> bool:
    """Whether a file belongs to nagraph or NumPy rather than to the user."""
    if filename.startswith(_SHOWN):
        return False
    return filename.startswith(_HIDDEN) or filename.startswith("<frozen") or filename == functools.__file__


def caller_location() -> Location | None:
    """The innermost line on the stack that is the user's own."""
    frame: FrameType | None = sys._getframe(2)  # whoever asks is nagraph's own
    while frame is not None:
        code = frame.f_code
        if not is_internal(code.co_filename):
            return Location(code, frame.f_lasti)
        frame = frame.f_back
    return None


class user_frames_only:
    """Errors raised on purpose name the user's line, and leave with a traceback of the user's own frames."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, NagraphError):
            shown = user_frames(tb)
            last = shown
            while last is not None and last.tb_next is not None:
                last = last.tb_next
            where = caller_location() if last is None else Location(last.tb_frame.f_code.co_filename, last.tb_lineno)
            located(error, where)
            if error.__cause__ is None:
                error.__suppress_context__ = True
            error.__traceback__ = shown


def user_frames(tb: TracebackType | None) -> TracebackType | None:
    """A traceback without nagraph's and NumPy's frames."""
    frames = []
    while tb is not None:
        if not is_internal(tb.tb_frame.f_code.co_filename):
            frames.append(tb)
        tb = tb.tb_next
    made: TracebackType | None = None
    for t in reversed(frames):
        made = TracebackType(made, t.tb_frame, t.tb_lasti, t.tb_lineno)
    return made


def located(error: NagraphError, location: Location | None) -> NagraphError:
    """The same error with the user's line at the end of its message, once."""
    if location is None or getattr(error, "located", False):
        return error
    error.args = (f"{error} ({location})",)
    error.located = True  # type: ignore[attr-defined]
    return error


def show_user_frames_only() -> None:
    """Have Python print errors raised on purpose with the user's frames alone; all others as before."""
    before = sys.excepthook

    def hook(kind: Any, error: BaseException, tb: TracebackType | None) -> Any:
        if isinstance(error, NagraphError):
            tb = user_frames(tb)
            error.__traceback__ = tb
        return before(kind, error, tb)

    sys.excepthook = hook
