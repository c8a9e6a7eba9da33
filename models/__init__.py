"""The models, each the paper's equations in one file; names load when they are first used."""

from __future__ import annotations

import importlib
from typing import Any

#: Each public name and the module that defines it.
_NAMES = {"BERT": "bert", "CLIP": "clip", "GPT2": "gpt2", "ResNet": "resnet", "Transformer": "modern", "ViT": "vit"}

__all__ = [*_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'nagraph.models' has no attribute {name!r}; it has {', '.join(_NAMES)}")
    found = getattr(importlib.import_module(f"nagraph.models.{_NAMES[name]}"), name)
    globals()[name] = found
    return found
