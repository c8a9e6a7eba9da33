"""Exports: a graph, a function or what was compiled of it, in a form that other software reads.

    ng.export.NAME(what, path, args_or_specs)

writes it; `forms` lists the names. In the order in which the files build on one another: `forms`, `subject` (what is exported, made the
same for all forms), `refusals` (what a form has no translation for), then a file or package for each form.
"""

from __future__ import annotations

import importlib
from typing import Any

from nagraph.export.forms import FORMS


def __getattr__(name: str) -> Any:
    if name not in FORMS:
        raise AttributeError(f"nagraph.export has no form {name!r}; there is {', '.join(FORMS) or 'none'}")
    found = globals()[name] = getattr(importlib.import_module(f"nagraph.export.{FORMS[name].module}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *FORMS})
