"""The models, each the paper's equations in one file; names load when they are first used."""

from __future__ import annotations

import importlib
from typing import Any

from nagraph.suggestions import suggestion

#: The models by name, each with its class: the name is that of its module, of its task on the command line, and of its type in
#: Hugging Face's config.json.
CLASSES = {"gpt2": "GPT2", "llama": "Llama", "vit": "ViT", "resnet": "ResNet", "bert": "BERT", "clip": "CLIP"}

_MODULES = {kind: name for name, kind in CLASSES.items()}

__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'nagraph.models' has no attribute {name!r}{suggestion(name, _MODULES)}; it has {', '.join(_MODULES)}")
    found = getattr(importlib.import_module(f"nagraph.models.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
