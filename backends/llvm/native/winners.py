"""Winners: schedules that a tuner found better than the strategy's, each by the text of its kernel; kept on disk, if there is a cache."""

from __future__ import annotations

from nagraph import choices, sanitizing
from nagraph.backends import cache
from nagraph.backends.llvm.native import files
from nagraph.thresholds import changed

#: What is known of the files looked at, since the process began.
_KNOWN: dict[str, str] = {}


def file_of(kernel: str) -> str:
    """The name of the file for a kernel's text; "" where nothing but the strategy is asked: by unusual choices, and in guarded memory."""
    usual = not changed() and choices.current() == choices.PROFIT and not sanitizing.is_on()
    return files.digest("winner", kernel) if usual else ""


def winner(file: str) -> str:
    """The text of the schedule in a file; "" if there is none."""
    if not file:
        return ""
    if file not in _KNOWN:
        found = cache.load("winner", file)
        _KNOWN[file] = found[0] if found is not None else ""
    return _KNOWN[file]


def keep(file: str, schedule: str) -> None:
    """Let a kernel have this schedule from now on."""
    _KNOWN[file] = schedule
    cache.store("winner", file, schedule, [])


def forget() -> None:
    """Look at the files again."""
    _KNOWN.clear()
