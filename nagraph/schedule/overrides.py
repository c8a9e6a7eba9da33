"""Overrides: schedules that somebody gave, by the names of kernels, in place of those that the strategy chooses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from nagraph.errors import ScheduleError, SignatureError
from nagraph.files import open_regular
from nagraph.kernel.form import Kernel
from nagraph.schedule.fields import wrong_field
from nagraph.schedule.form import Schedule
from nagraph.schedule.names import name_of
from nagraph.schedule.target import Target
from nagraph.schedule.text import format_all, parse, parse_all
from nagraph.schedule.verify import check
from nagraph.suggestions import suggestion


class Overrides:
    """The schedules that were given for what is compiled, by the names of kernels; `key` is their text, a part of the keys of programs."""

    def __init__(self, schedules: Mapping[str, Schedule]):
        self.schedules = dict(schedules)
        self.key = format_all(dict(sorted(self.schedules.items())))
        self._seen: dict[str, None] = {}

    def of(self, kernel: Kernel, target: Target) -> Schedule | None:
        """The schedule that was given for a kernel; None if there is none. ScheduleError if it is not legal."""
        if not self.schedules:
            return None
        name = name_of(kernel)
        self._seen[name] = None
        found = self.schedules.get(name)
        if found is not None:
            check(kernel, found, target, name)
        return found

    def finish(self) -> None:
        """ScheduleError if a name is that of no kernel that was asked for."""
        for name in self.schedules.keys() - self._seen.keys():
            raise ScheduleError(f"no kernel of this program is called {name!r}{suggestion(name, self._seen)}; "
                                f"it has {', '.join(self._seen) or 'none'}")


NONE = Overrides({})
_CURRENT: ContextVar[Overrides] = ContextVar("schedules", default=NONE)


def current() -> Overrides:
    """The overrides in force here."""
    return _CURRENT.get()


@contextlib.contextmanager
def using(given: Overrides) -> Iterator[Overrides]:
    """What is compiled inside gets these schedules."""
    token = _CURRENT.set(given)
    try:
        yield given
    finally:
        _CURRENT.reset(token)


def read(given: Any) -> Overrides:
    """Overrides of schedules, or their texts, by the names of kernels; or of a file that holds such a text.

    Raises ParseError; ScheduleError for a schedule whose fields have other types than the form states; SignatureError for what is neither.
    """
    if given is None:
        return NONE
    if isinstance(given, Overrides):
        return given
    if isinstance(given, (str, os.PathLike)):
        try:
            with open_regular(given) as file:
                return Overrides(parse_all(file.read().decode()))
        except (OSError, UnicodeDecodeError) as error:
            raise SignatureError(f"schedules: can't read the file {os.fspath(given)!r}: {error}") from error
    if isinstance(given, Mapping) and all(isinstance(n, str) and isinstance(s, (str, Schedule)) for n, s in given.items()):
        found = {n: parse(s) if isinstance(s, str) else s for n, s in given.items()}
        for name, schedule in found.items():  # before anything prints it
            if wrong := wrong_field(schedule):
                raise ScheduleError(f"this schedule is not legal for {name}: rule 'fields': {wrong}")
        return Overrides(found)
    raise SignatureError(f"schedules are given by the names of kernels, {{name: schedule}}, or as a file of them; got {given!r:.200}")
