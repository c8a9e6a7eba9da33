"""Tasks: each model with the data on which it is trained, one file each."""

from __future__ import annotations

import importlib

from nagraph.errors import DataError
from nagraph.models.training.task import Task

#: Each model on the command line, and the class of its task in the module of the same name.
TASKS = {"gpt2": "GPT2Task", "vit": "ViTTask", "resnet": "ResNetTask", "modern": "ModernTask", "clip": "CLIPTask", "bert": "BERTTask"}


def task_class(name: str) -> type[Task]:
    """The task of a model. DataError naming those there are."""
    if name not in TASKS:
        raise DataError(f"unknown model {name!r}; there is {', '.join(TASKS)}")
    found: type[Task] = getattr(importlib.import_module(f"nagraph.models.tasks.{name}"), TASKS[name])
    return found
