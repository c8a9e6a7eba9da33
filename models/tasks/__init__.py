"""Tasks: each model with the data on which it is trained, one file each."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nagraph.errors import DataError
from nagraph.models import CLASSES
from nagraph.suggestions import suggestion

if TYPE_CHECKING:
    from nagraph.models.training.task import Task


def task_class(name: str) -> type[Task]:
    """The task of a model: its class's name and "Task", in the module of the model's name. DataError naming the models there are."""
    if name not in CLASSES:
        raise DataError(f"unknown model {name!r}{suggestion(name, CLASSES)}; there is {', '.join(CLASSES)}")
    found: type[Task] = getattr(importlib.import_module(f"nagraph.models.tasks.{name}"), f"{CLASSES[name]}Task")
    return found
