"""Overrides: schedules that somebody gave, by the names of kernels, in place of those that the strategy chooses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, get_args

from nagraph.errors import ScheduleError, SignatureError
from nagraph.files import open_regular
from nagraph.kernel.form import Kernel
from nagraph.schedule.fields import wrong_field
from nagraph.schedule.form import Schedule
from nagraph.schedule.names import name_of
from nagraph.schedule.text import format_all, parse, parse_all
from nagraph.schedule.verify import check
from nagraph.suggestions import suggestion


class ScheduleForm(NamedTuple):
    """The form of a backend's schedules: their class, or a union of some; what reads the text of one, and of several under the names of
    kernels; and what raises ScheduleError for one that is not legal for a kernel on a target.
    """

    stated: Any
    parse: Callable[[str], Any]
    parse_all: Callable[[str], dict[str, Any]]
    check: Callable[[Kernel, Any, Any, str], None]


#: The form of the schedules of this package, for CPUs.
OWN = ScheduleForm(Schedule, parse, parse_all, check)


class Overrides:
    """The schedules that were given for what is compiled, by the names of kernels; `key` is their text, a part of the keys of programs."""

    def __init__(self, schedules: Mapping[str, Any], form: ScheduleForm = OWN):
        self.schedules, self.form = dict(schedules), form
        self.key = format_all(dict(sorted(self.schedules.items())))
        self._seen: dict[str, None] = {}

    def of(self, kernel: Kernel, target: Any) -> Any:
        """The schedule that was given for a kernel; None if there is none. ScheduleError if it is not legal on a target."""
        if not self.schedules:
            return None
        name = name_of(kernel)
        self._seen[name] = None
        found = self.schedules.get(name)
        if found is not None:
            self.form.check(kernel, found, target, name)
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


def read(given: Any, form: ScheduleForm = OWN) -> Overrides:
    """Overrides of schedules of a form, or their texts, by the names of kernels; or of a file that holds such a text.

    Raises ParseError; ScheduleError for a schedule whose fields have other types than the form states; SignatureError for what is neither.
    """
    if given is None:
        return NONE
    if isinstance(given, Overrides):
        return given
    if isinstance(given, (str, os.PathLike)):
        try:
            with open_regular(given) as file:
                return Overrides(form.parse_all(file.read().decode()), form)
        except (OSError, UnicodeDecodeError) as error:
            raise SignatureError(f"schedules: can't read the file {os.fspath(given)!r}: {error}") from error
    kinds = (str, *(get_args(form.stated) or (form.stated,)))
    if isinstance(given, Mapping) and all(isinstance(n, str) and isinstance(s, kinds) for n, s in given.items()):
        found = {n: form.parse(s) if isinstance(s, str) else s for n, s in given.items()}
        for name, schedule in found.items():  # before anything prints it
            if wrong := wrong_field(schedule, form.stated):
                raise ScheduleError(f"this schedule is not legal for {name}: rule 'fields': {wrong}")
        return Overrides(found, form)
    raise SignatureError(f"schedules are given by the names of kernels, {{name: schedule}}, or as a file of them; got {given!r:.200}")
